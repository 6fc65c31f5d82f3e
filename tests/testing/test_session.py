"""How outcomes are judged: tiers are computed, expected failures are strict, skips have reasons."""

from __future__ import annotations

import io
import json
import socket
from pathlib import Path

import pytest
from pydantic import Field

from crema_core.cli.main import main
from crema_core.errors import OptionsError, PluginError
from crema_core.modality import Batch, Features, Sample
from crema_core.plugins.spec import ModalityOptions
from crema_core.testing import Report, Result, check_modality, conformance
from crema_core.testing.debugger import open_debugger
from crema_core.testing.fixtures import COMPANION, SecondModality, offline
from crema_core.testing.session import Fault
from crema_core.testing.under_test import is_path, unpacked
from tests.support.dummies import Installer
from tests.testing.faults import SPECIMEN


class FaultyOptions(ModalityOptions):
    """One of its two sets fails."""

    divisor: int = Field(default=1, description="of the features")


class FaultyModality(SecondModality):
    """Divides by what it is told."""

    options: FaultyOptions

    def prepare(self, source: object) -> Sample:
        if isinstance(source, str):
            raise OSError(source)
        return super().prepare(source)

    def encode(self, batch: Batch) -> Features:
        return Features(batch["rows"][:, :, None] * (1 // self.options.divisor), batch.mask)


FAULTY = COMPANION.model_copy(
    update={
        "name": "faulty",
        "factory": f"{__name__}:FaultyModality",
        "options": FaultyOptions,
        "test_options": (FaultyOptions(divisor=1), FaultyOptions(divisor=0)),
    }
)
PACKAGE_FAULTS = {"readme_and_licence_are_there": "private", "types_are_shipped": "untyped"}


def test_findings_are_what_failed(install: Installer) -> None:
    install("good")
    report = check_modality("good", tier="bronze")
    assert {result.check for result in report.findings} == set(PACKAGE_FAULTS)
    assert report.tier is None
    assert str(report).splitlines()[-1] == "17 checks: 15 passed, 2 failed – tier none"


def test_an_announced_failure_is_no_finding_and_reaches_no_tier(install: Installer) -> None:
    install("good")
    report = check_modality("good", tier="bronze", expected_failures=PACKAGE_FAULTS)
    assert report.findings == ()
    assert report.of("types_are_shipped").status == "expected failure"
    assert report.of("types_are_shipped").message == (
        "untyped\nThere is no py.typed in crema_dummy_good.\nExpected: The package has a `py.typed` file where it is "
        "installed.\nFix: an empty `py.typed` beside the package's modules, and `[tool.setuptools.package-data]` or "
        "your build tool's equivalent."
    )
    assert report.tier is None


def test_an_announced_failure_that_passes_is_a_finding(install: Installer) -> None:
    install("good")
    report = check_modality("good", tier="bronze", expected_failures={**PACKAGE_FAULTS, "core_is_bounded": "later"})
    (found,) = report.findings
    assert (found.check, found.status, found.message) == (
        "core_is_bounded",
        "unexpected pass",
        "It passes, although it was expected to fail (later). Take it out of expected_failures.",
    )


def test_a_check_that_does_not_exist_cannot_be_expected_to_fail() -> None:
    with pytest.raises(OptionsError) as caught:
        check_modality("video", tier="bronze", expected_failures={"loss_fall": "x"})
    assert str(caught.value) == (
        "expected_failures names 'loss_fall', which is not a check. Did you mean 'loss_falls'? List the checks: crema "
        "plugins check --list"
    )


def test_an_expected_failure_needs_a_reason() -> None:
    with pytest.raises(OptionsError) as caught:
        check_modality("video", tier="bronze", expected_failures={"core_is_bounded": " "})
    assert str(caught.value) == (
        "expected_failures gives no reason for 'core_is_bounded'. An announced failure states why it is known. Write: "
        'expected_failures={"core_is_bounded": "why"}'
    )


def test_an_unknown_tier_is_refused() -> None:
    with pytest.raises(OptionsError) as caught:
        check_modality("video", tier="golden")  # type: ignore[arg-type]
    assert str(caught.value) == "'golden' is not a tier. Tiers: bronze, silver, gold. Did you mean 'gold'?"


@pytest.mark.slow
def test_a_spec_without_package_is_checked_as_far_as_it_goes() -> None:
    report = check_modality(COMPANION, tier="silver")
    assert report.findings == ()
    skipped = {result.check: result.message for result in report.results if result.status == "skipped"}
    assert skipped.keys() == {
        "declaration_is_light",
        "declaration_is_quick",
        "import_prints_nothing",
        "package_init_imports_nothing",
        "core_is_bounded",
        "torch_stack_is_not_pinned",
        "readme_and_licence_are_there",
        "types_are_shipped",
    }
    assert set(skipped.values()) == {"the spec was given in this process; install its package to check this"}
    assert report.tier is None


def test_the_tier_needs_every_check_of_the_tiers_below() -> None:
    gold = Result("loss_falls", "gold", "passed")
    bronze, silver = Result("a", "bronze", "passed"), Result("b", "silver", "failed")
    counts = {"bronze": 1, "silver": 1, "gold": 1}
    assert Report("x", "y", (bronze, silver, gold), counts).tier == "bronze"  # type: ignore[arg-type]
    assert Report("x", "y", (bronze, gold), counts).tier == "bronze"  # type: ignore[arg-type]


def test_a_broken_package_has_one_finding_and_nothing_else_runs(install: Installer) -> None:
    install("broken_import")
    report = check_modality("broken")
    assert [(found.check, found.status) for found in report.findings] == [("entry_point_names_a_spec", "failed")]
    assert {result.status for result in report.results[1:]} == {"skipped"}


def test_pytest_cases_are_the_checks(install: Installer) -> None:
    install("good")
    test = conformance("good", tier="bronze", expected_failures={"types_are_shipped": "untyped"})
    test("core_is_bounded")
    with pytest.raises(pytest.xfail.Exception, match="untyped"):
        test("types_are_shipped")
    with pytest.raises(pytest.fail.Exception, match="lack readme and license"):
        test("readme_and_licence_are_there")


@pytest.mark.slow
def test_the_command_prints_the_report_and_returns_findings(
    install: Installer, capsys: pytest.CaptureFixture[str]
) -> None:
    install("good")
    assert main(["plugins", "check", "good", "--tier", "bronze"]) == 3
    assert capsys.readouterr().out.splitlines()[0] == "good (crema-dummy-good 0.1.0)"
    assert main(["plugins", "check", "good", "--tier", "bronze", "--json"]) == 3
    (report,) = json.loads(capsys.readouterr().out)
    assert report["tier"] is None
    assert report["counts"] == {"passed": 15, "failed": 2}
    assert report["results"][0].keys() == {"check", "tier", "status", "message", "seconds"}


def test_the_command_lists_the_checks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "check", "--list", "--tier", "bronze"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 17
    assert lines[1] == "bronze  name_is_no_placeholder: The modality's name is not one that examples use."
    assert main(["plugins", "check"]) == 2


@pytest.mark.slow
def test_a_folder_is_built_and_checked_without_being_touched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plugins", "new", "lidar", "--encoder", "features", "--output", str(tmp_path)]) == 0
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    assert main(["plugins", "check", str(tmp_path / "crema-lidar"), "--tier", "bronze"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "17 checks: 17 passed – tier bronze"
    assert sorted(tmp_path.rglob("*")) == before


def test_words_are_names_or_places() -> None:
    assert [is_path(word) for word in ("radar", "crema-radar:radar")] == [False, False]
    assert [is_path(word) for word in ("crema-radar", "./radar", "dist/x.whl", "x.whl", ".")] == [True] * 5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda place: place / "nothing",
            "'{place}' has no pyproject.toml. Accepted is a package's folder, or a .whl file. Check the path, or name "
            "an installed modality.",
        ),
        (
            lambda place: place / "absent.whl",
            "'{place}' cannot be read as a wheel: [Errno 2] No such file or directory: '{place}'. Accepted is a folder "
            "with a pyproject.toml, or a .whl file. Check the path.",
        ),
    ],
)
def test_places_without_a_package_are_refused(tmp_path: Path, make: object, message: str) -> None:
    place = make(tmp_path)  # type: ignore[operator]
    with pytest.raises(PluginError) as caught, unpacked(place):
        pass
    assert str(caught.value) == message.format(place=place)


def test_blocked_connections_are_remembered() -> None:
    with offline() as tried, pytest.raises(OSError, match="the network is blocked while a modality is checked"):
        socket.create_connection(("127.0.0.1", 9))
    assert tried == ["127.0.0.1"]


def test_the_specimen_is_a_distribution() -> None:
    assert (SPECIMEN / "crema_specimen-0.1.0.dist-info" / "entry_points.txt").is_file()


@pytest.mark.slow
def test_a_failure_says_which_options_and_which_batch() -> None:
    report = check_modality(FAULTY, tier="silver")
    first, *lines = report.of("encode_keeps_the_contract").message.splitlines()
    assert first.startswith("'faulty' (given in this process): encode() raised ZeroDivisionError: ")
    assert "(test_session.py, line " in first
    assert lines[:2] == [
        "Options: test_options[1] = FaultyOptions(divisor=0)",
        "Batch: 2 samples: rows (3, 8), rows (3, 8)",
    ]
    assert report.of("missing_files_are_named").message.splitlines()[1:3] == [
        "Options: test_options[0] = FaultyOptions(divisor=1)",
        "Batch: the source 'no/such/place/recording.0917'",
    ]


def test_the_debugger_opens_in_the_package_and_the_report_follows(
    install: Installer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    install("factory_exits")
    monkeypatch.setattr("sys.stdin", io.StringIO("p f'options are {options!r}'\n"))
    assert main(["plugins", "check", "refuses", "--pdb", "--tier", "silver"]) == 3
    printed = capsys.readouterr().out
    at = printed.index("building_is_offline failed:\nSystemExit: no dongle found")
    assert "modality.py(" in printed[at:]
    assert "options are ModalityOptions()" in printed[at:]
    assert printed.splitlines()[-1].endswith("– tier none")


def test_the_debugger_opens_in_the_check_where_nothing_of_the_package_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Fault] = {}
    check_modality(FAULTY, tier="silver", on_fault=lambda fault: seen.setdefault(fault.check.name, fault))
    commands = {"encode_keeps_the_contract": "self.options.divisor", "missing_files_are_named": "modality.options"}
    for name, command in commands.items():
        monkeypatch.setattr("sys.stdin", io.StringIO(f"p {command}\n"))
        open_debugger(seen[name])
        printed = capsys.readouterr().out
        assert printed.startswith(f"{name} failed:\n")
        assert ("(Pdb) 0\n" if "divisor" in command else "(Pdb) FaultyOptions(divisor=1)\n") in printed


def test_the_debugger_and_json_do_not_mix(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "check", "video", "--pdb", "--json"]) == 2
    assert capsys.readouterr().err == (
        "crema plugins check: the debugger and the data of --json would mix: pass one of them\n"
    )
