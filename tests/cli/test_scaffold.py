"""`crema plugins new`: names, folders, and packages that work as they were written, for every kind of encoder."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from crema_core.cli.main import main
from crema_core.cli.scaffold import ENCODERS, new_package
from crema_core.common import atomic
from crema_core.errors import OptionsError
from crema_core.testing.check import checks_up_to
from tests.support.environment import ROOT, User, new_user

NAMES = {encoder: f"sonar_{encoder}" for encoder in ENCODERS}

TRAIN = """\
import sys
import torch, crema_core
from crema_core.features.prepare import prepare_batch
from crema_core.model.trainable import names_of, set_trainable

for name in sys.argv[1:]:
    model = crema_core.build(modalities=[name], backbone="crema-tiny")
    own = list(model.adapter_parameters(name).values())
    before = [value.detach().clone() for value in own]
    set_trainable(model, names_of(model, own))
    source = model.sense(name).modality.example(torch.Generator().manual_seed(0))
    features = model.encode(prepare_batch(model, [{name: source}]))
    model.loss({name: model.sense_tokens(name, features[name])}, ["what is it ?"], ["red"]).backward()
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
    ("name", "message"),
    [
        ("Radar", r"'Radar' is not a legal modality name. Names match ^[a-z][a-z0-9_]{1,31}$, for example 'radar'."),
        ("type", "'type' is reserved (an attribute of torch modules or a manifest field). Rename it."),
        (
            "my_sense",
            "'my_sense' is a placeholder. A sense is named after what it senses, for example 'radar'. Choose a name.",
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
    def fail(folder: Path) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(atomic, "_flush", fail)
    with pytest.raises(OSError, match="the disk is full"):
        new_package("radar", output=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("packages")
    return [new_package(name, encoder=encoder, output=place) for encoder, name in NAMES.items()]


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory, packages: list[Path]) -> User:
    return new_user(tmp_path_factory.mktemp("author"), packages)


def test_the_packages_follow_the_style_of_this_repository(packages: list[Path]) -> None:
    for words in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *words, "--quiet", "--config", str(ROOT / "pyproject.toml")]
        done = subprocess.run([*command, *map(str, packages)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_every_package_passes_its_own_tests_where_it_is_installed(user: User, packages: list[Path]) -> None:
    tests = [str(place / "tests") for place in packages]
    printed = user.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", *tests)
    assert re.search(rf"^{len(NAMES) * len(checks_up_to('gold'))} passed in ", printed, flags=re.MULTILINE), printed


@pytest.mark.slow
def test_the_command_finds_nothing_in_the_installed_package(user: User) -> None:
    printed = user.run(str(user.python.with_name("crema")), "plugins", "check", NAMES["features"], "--tier", "bronze")
    assert printed.splitlines()[-1] == "16 checks: 16 passed – tier bronze"


@pytest.mark.slow
def test_every_installed_package_trains_a_step(user: User) -> None:
    printed = user.run("-c", TRAIN, *NAMES.values())
    assert printed.splitlines() == [f"crema-sonar-{encoder} True" for encoder in ENCODERS]
