"""Packages that end the program, print, hang or crash: each is named, and nothing else is harmed."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import Blip2QFormerConfig

import crema_core
from crema_core.cli.main import main
from crema_core.errors import CheckpointError, ContractError, HookError, OptionsError, PluginExitError, PluginLoadError
from crema_core.model.load_backbone import find_family
from crema_core.plugins import registry
from crema_core.plugins.fence import fenced
from crema_core.plugins.hooks import hookimpl, load_hooks
from crema_core.plugins.trial import try_imports
from tests.support.dummies import Installer

REPAIR = (
    "Repair it: pip install --force-reinstall crema-dummy-{name}, remove it: pip uninstall crema-dummy-{name}, or "
    "switch it off: CREMA_PLUGINS_DISABLE=crema-dummy-{name}"
)
BUILDS = "__init__ builds the modality from every set of options that its declaration accepts."
ENDS = "which would have ended the program"
EXITS = {
    "quits": f"SystemExit: 0, {ENDS}",
    "quits_loudly": f"SystemExit: no licence found, {ENDS}",
    "stops": f"Stop: not on this machine, {ENDS}",
}


def of_exits(name: str) -> str:
    return (
        f"'{name}' (crema-dummy-exits 0.1.0) could not be imported from crema_dummy_exits.{name}:SPEC: {EXITS[name]}. "
        + REPAIR.format(name="exits")
    )


def crema(
    install: Installer, packages: Sequence[str], *words: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the command as people do, in a process of its own."""
    command = [sys.executable, "-m", "crema_core.cli.main", *words]
    environment = install.environment(*packages, **variables)
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("name", EXITS)
def test_a_package_that_ends_the_program_at_import_is_named(install: Installer, name: str) -> None:
    install("exits")
    for _ in range(2):  # the outcome is kept
        with pytest.raises(PluginLoadError) as caught:
            registry.resolve(name)
        assert str(caught.value) == of_exits(name)
        assert type(caught.value.__cause__).__name__ == EXITS[name].partition(":")[0]


def test_the_list_goes_on_behind_packages_that_end_the_program(
    install: Installer, capsys: pytest.CaptureFixture[str]
) -> None:
    install("exits", "good")
    assert main(["plugins", "list", "--kind", "modality", "--json"]) == 0
    found = {record["name"]: record for record in json.loads(capsys.readouterr().out)}
    assert {name: found[name]["error"] for name in EXITS} == {name: of_exits(name) for name in EXITS}
    assert {name: found[name]["status"] for name in (*EXITS, "good")} == dict.fromkeys(EXITS, "broken") | {"good": "ok"}


def test_ctrl_c_keeps_its_meaning() -> None:
    with pytest.raises(KeyboardInterrupt), fenced("importing x", provider="crema-x 1.0"):
        raise KeyboardInterrupt


def test_a_plain_exit_has_no_code_to_show() -> None:
    with pytest.raises(PluginExitError) as caught, fenced("importing x", provider="crema-x 1.0"):
        sys.exit()
    assert str(caught.value) == f"SystemExit, {ENDS}"


def test_what_is_written_inside_a_fence_goes_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout
    print("a result")
    with fenced("importing x", provider="crema-x 1.0"):
        print("from Python")
        with fenced("importing y", provider="crema-y 1.0"):
            os.write(1, b"from native code\n")
        subprocess.run([sys.executable, "-c", "print('from a process')"], check=True)
    print("another result")
    captured = capfd.readouterr()
    assert captured.out == "a result\nanother result\n"
    assert sorted(captured.err.splitlines()) == ["from Python", "from a process", "from native code"]
    assert sys.stdout is before


def test_what_was_printed_before_stays_on_standard_output() -> None:
    code = (
        "from crema_core.plugins.fence import fenced\n"
        "print('a result')\n"
        "with fenced('importing x', provider='crema-x 1.0'):\n"
        "    print('aside')\n"
    )
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}  # a buffer is what this is about
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("a result\n", "aside\n")


def test_a_package_cannot_keep_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    with fenced("importing x", provider="crema-x 1.0"):
        sys.stdout = io.StringIO()
    print("a result")
    assert capfd.readouterr().out == "a result\n"


def test_json_stays_whole_when_packages_print(install: Installer) -> None:
    done = crema(install, ["prints", "good"], "plugins", "list", "--json")
    assert done.returncode == 0
    assert {"chatty", "good"} <= {record["name"] for record in json.loads(done.stdout)}
    assert "hello from the declaration" in done.stderr
    assert "hello from native code" in done.stderr


@pytest.mark.slow
def test_the_doctor_names_the_package_that_prints(install: Installer) -> None:
    done = crema(install, ["prints", "good"], "plugins", "doctor", "--json")
    assert done.returncode == 3
    found = [own["text"] for own in json.loads(done.stdout)["findings"] if own["kind"] == "prints"]
    assert [text for text in found if "plugin of" in text] == [
        "crema_dummy_prints.plugin of crema-dummy-prints 0.1.0 prints when it is imported: 'hello from the "
        "declaration'. Every command shows that on standard error. Tell its authors, or switch it off: "
        "CREMA_PLUGINS_DISABLE=crema-dummy-prints"
    ]


def test_code_that_does_not_return_is_named_with_the_way_to_switch_it_off(capsys: pytest.CaptureFixture[str]) -> None:
    with fenced("importing crema_x.plugin", provider="crema-x 1.0", patience_s=0.05):
        time.sleep(0.5)
    assert capsys.readouterr().err == (
        "crema: crema-x 1.0 has been importing crema_x.plugin for 0 s. If it never ends, press Ctrl+C and switch the "
        "package off: CREMA_PLUGINS_DISABLE=crema-x\n"
    )


@pytest.mark.parametrize("patience_s", [0.5, None])
def test_code_that_returns_in_time_is_not_named(capsys: pytest.CaptureFixture[str], patience_s: float | None) -> None:
    with fenced("importing crema_x.plugin", provider="crema-x 1.0", patience_s=patience_s):
        pass
    time.sleep(0.6)
    assert capsys.readouterr().err == ""


@pytest.mark.slow  # it waits for more than five seconds
def test_the_list_names_an_import_that_takes_long(install: Installer) -> None:
    done = crema(install, ["hangs", "good"], "plugins", "list", CREMA_DUMMY_HANGS_S="6.5")
    assert done.returncode == 0
    assert "good" in done.stdout
    assert (
        "crema: crema-dummy-hangs 0.1.0 has been importing crema_dummy_hangs.plugin for 5 s. If it never ends, press "
        "Ctrl+C and switch the package off: CREMA_PLUGINS_DISABLE=crema-dummy-hangs\n"
    ) in done.stderr
    off = crema(install, ["hangs", "good"], "plugins", "list", CREMA_PLUGINS_DISABLE="crema-dummy-hangs")
    assert off.returncode == 0
    assert "sleeper" not in off.stdout


def test_a_class_that_ends_the_program_while_it_is_imported_is_named(install: Installer) -> None:
    install("factory_exits")
    with pytest.raises(PluginLoadError) as caught:
        crema_core.build(modalities=["leaves"])
    assert str(caught.value) == (
        "'leaves' (crema-dummy-factory-exits 0.1.0): crema_dummy_factory_exits.leaves:LeavesModality could not be "
        f'imported: SystemExit: 0, {ENDS}. See the whole traceback: python -c "import '
        'crema_dummy_factory_exits.leaves", or switch the package off: '
        "CREMA_PLUGINS_DISABLE=crema-dummy-factory-exits"
    )
    assert isinstance(caught.value.__cause__, SystemExit)


def test_a_class_that_ends_the_program_while_it_is_made_is_named(install: Installer) -> None:
    install("factory_exits")
    with pytest.raises(ContractError) as caught:
        crema_core.build(modalities=["refuses"])
    assert str(caught.value) == (
        "'refuses' (crema-dummy-factory-exits 0.1.0): __init__() raised SystemExit: no dongle found, "
        f"{ENDS}, with ModalityOptions(). {BUILDS} This is a fault of crema-dummy-factory-exits: report it to its "
        "authors with the traceback. See what else is wrong with it: crema plugins check refuses. Work without it: "
        "CREMA_PLUGINS_DISABLE=refuses"
    )
    assert isinstance(caught.value.__cause__, SystemExit)


def test_a_class_that_raises_is_named(install: Installer, monkeypatch: pytest.MonkeyPatch) -> None:
    install("good")
    from crema_dummy_good.modality import GoodModality

    def fail(self: object, options: object, context: object) -> None:
        raise ValueError("boom")

    monkeypatch.setattr(GoodModality, "__init__", fail)
    with pytest.raises(ContractError) as caught:
        crema_core.build(modalities=["good"])
    line = fail.__code__.co_firstlineno + 1
    assert str(caught.value) == (
        f"'good' (crema-dummy-good 0.1.0): __init__() raised ValueError: boom (test_fence.py, line {line}), with "
        f"GoodOptions(frames=2). {BUILDS} This is a fault of crema-dummy-good: report it to its authors with the "
        "traceback. See what else is wrong with it: crema plugins check good. Work without it: "
        "CREMA_PLUGINS_DISABLE=good"
    )
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            {"modalities": ["video"], "fusion": "departing"},
            "The fusion 'departing' (crema-dummy-factory-exits 0.1.0) failed while building the fusion: ",
        ),
        (
            {"modalities": [{"name": "video", "encoder": "departing_eye"}]},
            "The encoder 'departing_eye' (crema-dummy-factory-exits 0.1.0) failed while making DepartingEncoder: ",
        ),
    ],
)
def test_a_fusion_and_an_encoder_that_end_the_program_are_named(
    install: Installer, request_: dict[str, Any], message: str
) -> None:
    install("factory_exits")
    with pytest.raises(PluginLoadError) as caught:
        crema_core.build(**request_)
    assert str(caught.value) == f"{message}SystemExit: 0, {ENDS}. {REPAIR.format(name='factory-exits')}"


def test_a_broken_family_for_any_model_stops_no_other_one(install: Installer) -> None:
    config = Blip2QFormerConfig()  # no family loads a Q-Former alone, so all that may know it are asked
    with pytest.raises(CheckpointError, match="no installed backbone family loads it"):
        find_family(config, "somewhere")
    install("factory_exits")
    with (
        pytest.warns(UserWarning) as caught,
        pytest.raises(CheckpointError, match="no installed backbone family loads it"),
    ):
        find_family(config, "somewhere")
    assert [str(warning.message) for warning in caught] == [
        "'any-departing' (crema-dummy-factory-exits 0.1.0) could not be imported from "
        f"crema_dummy_factory_exits.leaves:FAMILY: SystemExit: 0, {ENDS}. {REPAIR.format(name='factory-exits')} "
        "Without it, 'somewhere' is loaded by another family."
    ]


HOOKS = "crema-dummy-hook-exits"
SWITCH = f"Switch the plugin off: CREMA_PLUGINS_DISABLE={HOOKS}"
UNLOADABLE = (
    f"'unloadable' ({HOOKS} 0.1.0) could not be imported from crema_dummy_hook_exits.unloadable: SystemExit: 0, "
    f"{ENDS}. " + REPAIR.format(name="hook-exits")
)
BAD = ("exits", "prints", "hangs", "crashes", "factory_exits", "hook_exits")


def test_unrelated_models_answer_beside_every_bad_package(
    install: Installer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CREMA_PLUGINS", "")  # our own packages have hooks too
    clip = [[[[255, 0, 0]] * 16] * 16] * 2
    clean = answer_of(clip)
    monkeypatch.setenv("CREMA_PLUGINS", ",".join(f"crema-dummy-{name.replace('_', '-')}" for name in (*BAD, "good")))
    install(*BAD, "good")
    capfd.readouterr()
    with pytest.warns(UserWarning) as caught:
        assert answer_of(clip) == clean
    assert [str(warning.message) for warning in caught] == [
        UNLOADABLE,
        f"The hook crema_model_built of {HOOKS} 0.1.0 (leaves) failed: SystemExit: 0, {ENDS}. The run continues "
        f"without its result. {SWITCH}",
    ]
    assert capfd.readouterr().out == ""


def answer_of(clip: object) -> tuple[str, dict[str, float]]:
    import numpy as np

    model = crema_core.build(modalities=["video"], seed=3)
    answer = model.answer("what is it ?", ["red", "blue"], video=np.array(clip, dtype=np.uint8))
    return answer.text, answer.scores


@pytest.mark.slow
def test_a_model_of_a_package_that_prints_is_built_without_a_word_on_standard_output(
    install: Installer, capfd: pytest.CaptureFixture[str]
) -> None:
    install("prints")
    crema_core.build(modalities=["chatty"])
    captured = capfd.readouterr()
    assert captured.out == ""
    for place in ("the declaration", "native code", "the class's module", "__init__", "the module of hooks", "a hook"):
        assert f"hello from {place}\n" in captured.err


def test_a_hook_that_exits_stops_the_run_only_when_strict(install: Installer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREMA_PLUGINS_DISABLE", "unloadable")
    install("hook_exits")
    monkeypatch.setenv("CREMA_PLUGINS_STRICT", "1")
    hooks = load_hooks()
    with pytest.raises(HookError) as caught:
        hooks.call("crema_model_built", model=None)
    assert isinstance(caught.value.__cause__, SystemExit)


def test_a_hook_given_by_hand_prints_where_its_caller_does(capsys: pytest.CaptureFixture[str]) -> None:
    class Logger:
        @hookimpl
        def crema_step_finished(self, step: int) -> None:
            print(f"step {step}")

    load_hooks([Logger()]).call("crema_step_finished", trainer=None, step=1, losses={})
    assert capsys.readouterr().out == "step 1\n"


def test_nonsense_from_a_hook_is_reported_and_the_verbs_of_others_stay(
    install: Installer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREMA_PLUGINS_DISABLE", "unloadable")
    install("hook_exits", "good")
    assert main(["greet", "world"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "hello world\n"
    assert captured.err == (
        f"crema: warning: The hook crema_register_commands of {HOOKS} 0.1.0 (nonsense) returned 'greet'. Accepted is a "
        f"list of Command(name, summary, module), all texts. The run continues without its result. {SWITCH}\n"
    )


def test_sections_that_are_none_are_reported(install: Installer, monkeypatch: pytest.MonkeyPatch) -> None:
    from crema_core.plugins.hooks import ReportSection

    monkeypatch.setenv("CREMA_PLUGINS_DISABLE", "unloadable")
    install("hook_exits", "good")
    with pytest.warns(UserWarning) as caught:
        offered = load_hooks().collect("crema_report_sections", ReportSection, run=Path("runs/one"))
    assert ReportSection("Good", "<p>one</p>") in [own.item for own in offered]
    assert [str(warning.message) for warning in caught] == [
        f"The hook crema_report_sections of {HOOKS} 0.1.0 (nonsense) returned ('title', 'html'). Accepted is a list of "
        f"ReportSection(title, html), all texts. The run continues without its result. {SWITCH}"
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["vanish"],
            f"The verb 'vanish' of {HOOKS} 0.1.0 could not be loaded from crema_dummy_hook_exits.unloadable: "
            f"SystemExit: 0, {ENDS}. Repair it: pip install --force-reinstall {HOOKS}, or switch it off: "
            f"CREMA_PLUGINS_DISABLE={HOOKS}",
        ),
        (
            ["depart", "--code", "2"],
            f"The verb 'depart' of {HOOKS} 0.1.0 ended with sys.exit(2). A verb returns its exit code or raises an "
            f"error. Tell its authors, or switch it off: CREMA_PLUGINS_DISABLE={HOOKS}",
        ),
    ],
)
def test_a_verb_that_ends_the_program_is_named(
    install: Installer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    message: str,
) -> None:
    monkeypatch.setenv("CREMA_PLUGINS_DISABLE", "unloadable,nonsense")
    install("hook_exits")
    assert main(words) == 1
    assert capsys.readouterr().err == f"crema: {message}\n"


def test_metadata_that_cannot_be_read_hide_no_other_package(
    install: Installer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "crema_torn-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: crema-torn\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[crema.modalities]\ntorn\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.warns(UserWarning, match="cannot be read") as caught:
        install("good")
        names = registry.installed_names()
    assert {"good", "video"} <= set(names)
    assert f"The metadata in {folder} cannot be read (TypeError: " in str(caught[0].message)
    assert str(caught[0].message).endswith("The package is ignored. Install it again, or remove the folder.")


@pytest.mark.slow  # a process for every import that ends it
def test_imports_are_tried_in_another_process_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = {
        "fine": "",
        "leaves": "import os; print('last words', flush=True); os._exit(7)",
        "exits": "import sys; sys.exit(0)",
        "sleeps": "import time; time.sleep(60)",
        "prints": "print('hello')",
    }
    for name, body in bodies.items():
        (tmp_path / f"tried_{name}.py").write_text(body)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = try_imports([f"tried_{name}" for name in bodies], limit_s=5.0)
    assert {trial.module: (trial.outcome, trial.fault, trial.printed) for trial in found.values()} == {
        "tried_fine": ("imported", "", ""),
        "tried_leaves": ("ended", "the import ended the process with exit code 7", "last words\n"),
        "tried_exits": ("raised", "SystemExit: 0", ""),
        "tried_sleeps": ("hangs", "the import was not done after 5 s", ""),
        "tried_prints": ("imported", "", "hello\n"),
    }
    assert found["tried_fine"].modules == ("tried_fine",)
    assert not any(name in sys.modules for name in found)


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan"])
def test_a_limit_that_is_no_time_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("CREMA_PLUGINS_IMPORT_LIMIT", text)
    with pytest.raises(OptionsError) as caught:
        try_imports(["json"])
    assert str(caught.value) == (
        f"CREMA_PLUGINS_IMPORT_LIMIT is '{text}'. Accepted is a number of seconds above 0. Write "
        "CREMA_PLUGINS_IMPORT_LIMIT=30"
    )


def see(module: str) -> str:
    return f"See it yourself: python -c 'import {module}'."


CRASHES = {
    name: f"'{name}' (crema-dummy-crashes 0.1.0) cannot be imported from crema_dummy_crashes.{name}:SPEC: the import "
    f"ended the process {how}. {see(f'crema_dummy_crashes.{name}')} " + REPAIR.format(name="crashes")
    for name, how in {"vanishes": "with exit code 0", "aborts": "with signal SIGABRT"}.items()
}
SLEEPER = (
    "'sleeper' (crema-dummy-hangs 0.1.0) cannot be imported from crema_dummy_hangs.plugin:SPEC: the import was not "
    f"done after 6 s. {see('crema_dummy_hangs.plugin')} If it only needs longer, set CREMA_PLUGINS_IMPORT_LIMIT=120. "
    + REPAIR.format(name="hangs")
)


@pytest.mark.slow  # a process for every import that ends it
def test_the_doctor_survives_every_bad_package_and_names_it(
    install: Installer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREMA_PLUGINS_IMPORT_LIMIT", "6")
    install(*BAD, "broken_import", "good")
    assert main(["plugins", "doctor", "--json"]) == 3
    findings = [found["text"] for found in json.loads(capsys.readouterr().out)["findings"]]
    for expected in (*map(of_exits, EXITS), *CRASHES.values(), SLEEPER, UNLOADABLE):
        assert expected in findings
    assert any(text.startswith("'broken' (crema-dummy-broken-import 0.1.0) could not be imported") for text in findings)
    assert sum(" prints when it is imported: 'hello from " in text for text in findings) == 2
    assert len(findings) == 8 + 2


@pytest.mark.slow  # several processes
@pytest.mark.parametrize(
    ("name", "check", "message"),
    [
        *((name, "entry_point_names_a_spec", of_exits(name)) for name in EXITS),
        *((name, "entry_point_names_a_spec", text) for name, text in CRASHES.items()),
        ("sleeper", "entry_point_names_a_spec", SLEEPER),
        (
            "late",
            "class_keeps_the_contract",
            "Importing crema_dummy_crashes.vanishes was tried in a process of its own: it ended with exit code 0.",
        ),
        (
            "leaves",
            "class_keeps_the_contract",
            "'leaves' (crema-dummy-factory-exits 0.1.0): crema_dummy_factory_exits.leaves:LeavesModality could not be "
            f"imported: SystemExit: 0, {ENDS}.",
        ),
        ("refuses", "building_is_offline", f"SystemExit: no dongle found, {ENDS} (modality.py, line "),
        ("chatty", "import_prints_nothing", "Importing crema_dummy_prints.plugin prints 'hello from the declaration'."),
        (
            "chatty",
            "class_import_changes_nothing",
            'Importing crema_dummy_prints.modality changes standard output, to which it prints "hello from the '
            "class's module\\n\".",
        ),
    ],
)
def test_the_check_of_a_bad_package_fails_and_says_why(
    install: Installer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    check: str,
    message: str,
) -> None:
    monkeypatch.setenv("CREMA_PLUGINS_IMPORT_LIMIT", "6")
    install(*BAD, "good")
    assert main(["plugins", "check", name, "--tier", "silver", "--json"]) == 3
    (report,) = json.loads(capsys.readouterr().out)
    found = {result["check"]: result for result in report["results"]}
    assert found[check]["status"] == "failed"
    assert message in found[check]["message"]
    assert report["tier"] is None


@pytest.mark.slow  # a process that imports torch
def test_the_check_of_a_package_that_exits_returns_findings_to_the_shell(install: Installer) -> None:
    done = crema(install, ["exits"], "plugins", "check", "quits", "--tier", "bronze")
    assert done.returncode == 3
    assert of_exits("quits") in done.stdout


def test_scripts_survive_a_package_that_exits(install: Installer) -> None:
    code = "import crema_core; print(len(crema_core.registry.list_modalities()), 'listed')"
    environment = install.environment("exits")
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.endswith(" listed\n")


@pytest.mark.slow  # a process that imports torch
def test_a_heavy_import_that_hangs_or_crashes_ends_in_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crema_core.testing.probing import heavy_import

    monkeypatch.setenv("CREMA_PLUGINS_IMPORT_LIMIT", "5")
    (tmp_path / "tried_heavy_sleeps.py").write_text("import time; time.sleep(60)")
    (tmp_path / "tried_heavy_leaves.py").write_text("import os; os._exit(4)")
    monkeypatch.syspath_prepend(str(tmp_path))
    gone = {"changes": [], "is_gone": True, "sample": None, "readings": []}
    assert heavy_import("tried_heavy_sleeps") == {**gone, "fault": "it was not done after 20 s"}
    assert heavy_import("tried_heavy_leaves") == {**gone, "fault": "it ended with exit code 4"}
    assert heavy_import("json")["fault"] is None
