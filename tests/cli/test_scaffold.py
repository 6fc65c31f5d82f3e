"""`crema plugins new`: names, folders, and packages of every kind that work as they were written."""

from __future__ import annotations

import ast
import errno
import importlib
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

import crema_core
from crema_core.cli.main import main
from crema_core.cli.scaffold import ENCODERS, SCAFFOLDS, ScaffoldKind, new_package
from crema_core.common import atomic
from crema_core.contract import EXTENSIONS, TOOLS
from crema_core.datasets.prepare import prepare
from crema_core.errors import OptionsError, WriteError
from crema_core.model.shipped import tiny_backbone_path
from crema_core.plugins import registry
from crema_core.testing import check_modality
from crema_core.testing.check import checks_up_to
from tests.support.environment import ROOT, User, new_user
from tests.support.modalities import wave_spec

NAMES = {encoder: f"sonar_{encoder}" for encoder in ENCODERS}
KINDS: dict[ScaffoldKind, str] = {kind: f"echo_{kind}" for kind in SCAFFOLDS if kind != "modality"}
"""Name of a package of every other kind."""
NUM_OWN_TESTS = {"backbone": 2, "encoder": 3, "dataset": 2, "metric": 2, "verb": 3}

TRAIN = """\
import sys
import torch, crema_core
from crema_core.features.feature_cache import prepare_batch
from crema_core.model.trainable import names_of, set_trainable

for name in sys.argv[1:]:
    model = crema_core.build(modalities=[name], backbone="crema-tiny")
    own = list(model.adapter_parameters(name).values())
    before = [value.detach().clone() for value in own]
    set_trainable(model, names_of(model, own))
    source = model.branch(name).modality.example(torch.Generator().manual_seed(0))
    features = model.encode(prepare_batch(model, [{name: source}]))
    model.loss({name: model.modality_tokens(name, features[name])}, ["what is it ?"], ["red"]).backward()
    torch.optim.AdamW(own, lr=0.01).step()
    moved = sum(not torch.equal(old, new) for old, new in zip(before, own))
    print(crema_core.describe(name)["distribution"], moved > len(own) / 2)
"""


def test_the_command_writes_a_package_and_says_what_to_type(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "new", "radar", "--output", str(tmp_path / "packages")]) == 0
    place = tmp_path / "packages" / "crema-radar"
    assert capsys.readouterr().out == (
        f"{place}: a package that works as it is. Next:\n"
        f"  pip install -e '{place}[test]'\n  pytest {place}\n  crema plugins check radar\n"
    )
    files = sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())
    assert files == [
        ".github/workflows/test.yml",
        "CHANGELOG.md",
        "LICENSE",
        "README.md",
        "pyproject.toml",
        "src/crema_radar/__init__.py",
        "src/crema_radar/modality.py",
        "src/crema_radar/plugin.py",
        "src/crema_radar/py.typed",
        "tests/test_conformance.py",
    ]
    assert [path.name for path in (tmp_path / "packages").iterdir()] == ["crema-radar"]


@pytest.mark.parametrize(
    ("kind", "files"),
    [
        ("fusion", ["fusion.py", "test_conformance.py"]),
        ("backbone", ["backbone.py", "test_backbone.py"]),
        ("encoder", ["encoder.py", "test_encoder.py"]),
        ("dataset", ["dataset.py", "test_dataset.py"]),
        ("metric", ["metric.py", "test_metric.py"]),
        ("verb", ["hooks.py", "test_verb.py", "verb.py"]),
    ],
)
def test_every_kind_has_its_own_files_beside_the_shared_ones(
    tmp_path: Path, kind: ScaffoldKind, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plugins", "new", "echo", "--kind", kind, "--output", str(tmp_path)]) == 0
    shared = "CHANGELOG.md LICENSE README.md __init__.py py.typed pyproject.toml test.yml".split()
    written = sorted(path.name for path in (tmp_path / "crema-echo").rglob("*") if path.is_file())
    assert written == sorted([*shared, *files])
    look = {"fusion": "check echo", "verb": "list --kind hook"}.get(kind, f"list --kind {kind}")
    assert capsys.readouterr().out.splitlines()[-1] == f"  crema plugins {look}"


def test_data_sets_and_verbs_have_dashes_where_packages_have_underscores(tmp_path: Path) -> None:
    place = new_package("bird-song", kind="dataset", output=tmp_path)
    project = tomllib.loads((place / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"] == {"crema.datasets": {"bird-song": "crema_bird_song.dataset:SPEC"}}


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        (
            "fusion",
            "concat",
            "'concat' is a fusion of crema-core. A name has one provider. Choose another name.",
        ),
        ("modality", "audio", "'audio' is a modality of crema-audio. A name has one provider. Choose another name."),
        ("verb", "fit", "'fit' is a verb of crema-core. A name has one provider. Choose another name."),
        ("verb", "ablate", "'ablate' is a verb of crema-analysis. A name has one provider. Choose another name."),
        (
            "backbone",
            "llava_next",
            "'llava_next' is a backbone family of transformers. A name has one provider. Choose another name.",
        ),
        (
            "metric",
            "word-recall",
            "'word-recall' is not a legal name of a metric. Names match ^[a-z][a-z0-9_]{1,31}$, for example 'radar'.",
        ),
        (
            "fusion",
            "plugin",
            "'plugin' is a placeholder. Two packages with this name could not be told apart. Choose a name for the "
            "fusion.",
        ),
        (
            "fuson",
            "echo",
            "'fuson' is not a kind of package. Kinds: modality, fusion, backbone, encoder, dataset, metric, verb. Did "
            "you mean 'fusion'? Write --kind modality.",
        ),
    ],
)
def test_names_and_kinds_that_would_not_work_are_refused(
    tmp_path: Path, kind: ScaffoldKind, name: str, message: str
) -> None:
    with pytest.raises(OptionsError) as caught:
        new_package(name, kind=kind, output=tmp_path)
    assert str(caught.value) == f"{message} Nothing was written."
    assert list(tmp_path.iterdir()) == []


def test_only_a_modality_takes_an_encoder(tmp_path: Path) -> None:
    with pytest.raises(OptionsError) as caught:
        new_package("echo", kind="fusion", encoder="vision", output=tmp_path)
    assert str(caught.value) == (
        "encoder='vision' was given for a fusion. Only a modality takes one. Leave --encoder out. Nothing was written."
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Radar", r"'Radar' is not a legal modality name. Names match ^[a-z][a-z0-9_]{1,31}$, for example 'radar'."),
        ("type", "'type' is reserved (an attribute of torch modules or a field of the model config). Rename it."),
        (
            "my_modality",
            "'my_modality' is a placeholder. A modality is named after what it measures, for example 'radar'. Choose a "
            "name.",
        ),
    ],
)
def test_names_that_would_not_work_are_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(OptionsError) as caught:
        new_package(name, output=tmp_path)
    assert str(caught.value) == f"{message} Nothing was written."
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "crema-radar").mkdir()
    with pytest.raises(OptionsError) as caught:
        new_package("radar", output=tmp_path)
    assert str(caught.value) == (
        f"'{tmp_path / 'crema-radar'}' exists. A new package needs a new folder. Name another with --output, or remove "
        "it. Nothing was written."
    )


def test_a_file_as_output_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OptionsError) as caught:
        new_package("radar", output=tmp_path / "file")
    assert (
        str(caught.value)
        == f"'{tmp_path / 'file'}' is a file. --output names a folder. Name another. Nothing was written."
    )


def test_an_unknown_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionsError) as caught:
        new_package("radar", encoder="shared", output=tmp_path)  # type: ignore[arg-type]
    assert str(caught.value) == (
        "'shared' is no kind of encoder. Kinds: own, vision, features. Write --encoder own. Nothing was written."
    )


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Path, *, flush: bool) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic, "_finish", fail)
    with pytest.raises(WriteError, match="the disk is full"):
        new_package("radar", output=tmp_path)
    assert list(tmp_path.iterdir()) == []


Install = Callable[[ScaffoldKind], Path]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Writes a package and puts it on the path with the metadata an editable installation would have."""

    def install(kind: ScaffoldKind) -> Path:
        place = new_package(KINDS.get(kind, "echo_modality"), kind=kind, output=tmp_path / "packages")
        project = tomllib.loads((place / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        metadata = place / "src" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        metadata.mkdir()
        facts = f"Metadata-Version: 2.4\nName: {project['name']}\nVersion: {project['version']}\n"
        (metadata / "METADATA").write_text(facts, encoding="utf-8")
        lines = []
        for group, entries in project["entry-points"].items():
            lines += [f"[{group}]", *(f"{name} = {reference}" for name, reference in entries.items())]
        (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        monkeypatch.syspath_prepend(str(place / "src"))
        registry.refresh()
        return place

    yield install
    monkeypatch.undo()
    for name in [name for name in sys.modules if name.startswith("crema_echo_")]:
        del sys.modules[name]
    registry.refresh()


def ask(model: crema_core.CremaModel) -> str:
    frames = torch.randint(0, 256, (3, 3, 40, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return model.answer("what is it ?", ["red", "blue"], video=frames).text


@pytest.mark.parametrize("kind", SCAFFOLDS)
def test_a_package_is_listed_under_its_kind(
    installed: Install, kind: ScaffoldKind, capsys: pytest.CaptureFixture[str]
) -> None:
    installed(kind)
    group = SCAFFOLDS[kind].group
    assert main(["plugins", "list", "--kind", group, "--json"]) == 0
    rows = [row for row in json.loads(capsys.readouterr().out) if row["distribution"] == f"crema-echo-{kind}"]
    assert [(row["kind"], row["status"]) for row in rows] == [(group, "ok")]


@pytest.mark.slow
def test_a_new_modality_conforms(installed: Install) -> None:
    installed("modality")
    assert check_modality("echo_modality", tier="silver").of("features_ignore_the_other_samples").status == "passed"


def test_a_new_fusion_fuses(installed: Install) -> None:
    installed("fusion")
    model = crema_core.build(["video", wave_spec()], fusion="echo_fusion", backbone="crema-tiny")
    assert model.config["parts"]["fusion"]["distribution"] == "crema-echo-fusion"
    assert ask(model) in ("red", "blue")
    assert [name for name, _ in model.fusion.named_parameters()] == ["blocks.wave.weight"]


def test_a_new_backbone_family_loads_its_checkpoints(installed: Install, tmp_path: Path) -> None:
    installed("backbone")
    folder = Path(shutil.copytree(tiny_backbone_path(), tmp_path / "checkpoint"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "echo_backbone"}), encoding="utf-8")
    model = crema_core.build(["video"], backbone=folder)
    assert model.config["parts"]["backbone"]["distribution"] == "crema-echo-backbone"
    assert ask(model) == ask(crema_core.build(["video"], backbone="crema-tiny"))


def test_a_new_encoder_sees(installed: Install, tmp_path: Path) -> None:
    installed("encoder")
    encoder = registry.load("encoder", "echo_encoder")()
    save_file(encoder.model.state_dict(), tmp_path / "model.safetensors")
    model = crema_core.build([{"name": "video", "encoder": "echo_encoder", "weights": str(tmp_path)}])
    assert model.branch("video").modality.feature_dim == 48
    assert ask(model) in ("red", "blue")


def test_a_new_data_set_is_prepared(installed: Install, tmp_path: Path) -> None:
    installed("dataset")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").touch()
    question = {"id": 1, "question": "?", "choices": ["red", "blue"], "correct": 0, "video": "a"}
    (tmp_path / "questions-test.json").write_text(json.dumps([question]), encoding="utf-8")
    done = prepare("echo-dataset", root=tmp_path, split="test", out=tmp_path / "test.jsonl")
    assert (done.num_lines, done.modalities) == (1, ("video",))


def test_a_new_metric_measures(installed: Install) -> None:
    installed("metric")
    found = registry.load("metric", "echo_metric")
    assert found.values([("a red ball", ["red cube"])]) == {"echo_metric": 0.5}


def test_a_new_verb_runs(installed: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    installed("verb")
    (tmp_path / "data.jsonl").write_text('{"question": "?", "answer": "red", "touch": "1.png"}\n', encoding="utf-8")
    assert main(["echo-verb", str(tmp_path / "data.jsonl")]) == 0
    assert capsys.readouterr().out == "touch: 1 of 1\n"
    assert importlib.import_module("crema_echo_verb.verb").HELP.startswith("Count the modalities")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("packages")
    modalities = [new_package(name, encoder=encoder, output=place) for encoder, name in NAMES.items()]
    return modalities + [new_package(name, kind=kind, output=place) for kind, name in KINDS.items()]


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory, packages: list[Path]) -> User:
    return new_user(tmp_path_factory.mktemp("author"), packages)


def test_the_packages_follow_the_style_of_this_repository(packages: list[Path]) -> None:
    for words in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *words, "--quiet", "--config", str(ROOT / "pyproject.toml")]
        done = subprocess.run([*command, *map(str, packages)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_packages_import_the_contract_of_core_alone(packages: list[Path]) -> None:
    allowed = {module: {*EXTENSIONS.get(module, ()), *TOOLS.get(module, ())} for module in {**EXTENSIONS, **TOOLS}}
    found = set()
    for path in [path for place in packages for path in place.rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("crema_core."):
                known = allowed.get(str(node.module), set())
                found |= {f"{node.module}:{own.name}" for own in node.names} - {f"{node.module}:{own}" for own in known}
    assert found == set()


@pytest.mark.slow
def test_every_package_passes_its_own_tests_where_it_is_installed(user: User, packages: list[Path]) -> None:
    tests = [str(place / "tests") for place in packages]
    printed = user.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", *tests)
    conformance = len(NAMES) * len(checks_up_to("gold")) + len(checks_up_to("gold", kind="fusion"))
    expected = conformance + sum(NUM_OWN_TESTS.values())
    assert re.search(rf"^{expected} passed in ", printed, flags=re.MULTILINE), printed


@pytest.mark.slow
def test_the_command_finds_nothing_in_the_installed_package(user: User) -> None:
    printed = user.run(str(user.python.with_name("crema")), "plugins", "check", NAMES["features"], "--tier", "bronze")
    assert printed.splitlines()[-1] == "17 checks: 17 passed – tier bronze"


@pytest.mark.slow
def test_every_installed_package_trains_a_step(user: User) -> None:
    printed = user.run("-c", TRAIN, *NAMES.values())
    assert printed.splitlines() == [f"crema-sonar-{encoder} True" for encoder in ENCODERS]


@pytest.mark.slow
def test_every_installed_package_is_listed_under_its_kind(user: User) -> None:
    crema = str(user.python.with_name("crema"))
    rows = json.loads(user.run(crema, "plugins", "list", "--json"))
    found = {row["distribution"]: (row["kind"], row["status"]) for row in rows}
    wanted = {f"crema-echo-{kind}": (SCAFFOLDS[kind].group, "ok") for kind in KINDS}
    assert {name: found[name] for name in wanted} == wanted


def test_the_workflow_tests_the_lowest_and_the_newest_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = new_package("radar", output=tmp_path)
    job = yaml.safe_load((place / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))["jobs"]["test"]
    assert job["strategy"]["matrix"] == {"python": ["3.11", "3.12"], "core": ["lowest", "newest"]}
    assert [step.get("if") for step in job["steps"] if "run" in step] == [None, "matrix.core == 'lowest'", None]
    (script,) = (step["run"] for step in job["steps"] if "if" in step)
    commands: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: commands.append(command))
    monkeypatch.chdir(place)
    exec(compile(script, "test.yml", "exec"), {})
    project = tomllib.loads((place / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["dependencies"][0] == "crema-core>=0.1,<1"
    assert commands == [[sys.executable, "-m", "pip", "install", "crema-core==0.1"]]
