"""Every check of fusions accepts a good one, and finds its own fault and no other."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from crema_core.cli.main import main
from crema_core.testing import check_fusion
from crema_core.testing.check import Check, checks_up_to
from tests.support.dummies import Installer
from tests.testing.bad_fusions import BAD, GoodFusion, OwnSizes

CHECKS = checks_up_to("gold", kind="fusion")
OF_PACKAGES = [found.name for found in CHECKS if found.package]


@pytest.mark.slow
@pytest.mark.parametrize("fusion", [GoodFusion, pytest.param(OwnSizes, marks=pytest.mark.slow)])
def test_a_good_fusion_given_as_a_class_passes_all_but_what_is_about_packages(fusion: type[GoodFusion]) -> None:
    report = check_fusion(fusion)
    assert [(own.check, own.message) for own in report.results if own.status not in ("passed", "skipped")] == []
    assert [own.check for own in report.results if own.status == "skipped"] == OF_PACKAGES
    assert report.of("core_is_bounded").message == (
        "the class was given in this process; install its package to check this"
    )


@pytest.mark.slow  # the whole kit runs for every fault
@pytest.mark.parametrize("name", BAD)
def test_a_fault_is_found_by_its_check_and_by_no_other(name: str) -> None:
    (tier,) = [found.tier for found in CHECKS if found.name == name]
    report = check_fusion(BAD[name], tier=tier)
    assert [(own.check, own.message) for own in report.findings if own.check != name] == []
    assert report.of(name).status == "failed", str(report)


def test_every_check_has_a_bad_fusion_and_the_number_of_checks_is_pinned() -> None:
    assert [found.name for found in CHECKS if not found.package] == list(BAD)
    counts = {tier: sum(found.tier == tier for found in CHECKS) for tier in ("bronze", "silver", "gold")}
    assert counts == {"bronze": 7, "silver": 6, "gold": 5}


@pytest.mark.parametrize("found", CHECKS, ids=lambda found: found.name)
def test_a_check_documents_what_it_looks_at_why_and_how_to_repair(found: Check) -> None:
    first, rest = found.documentation.split("\n\n", maxsplit=1)
    assert first.endswith(".")
    lines = [line for line in rest.splitlines() if line.startswith(("Why:", "Fix:"))]
    assert [line.partition(":")[0] for line in lines] == ["Why", "Fix"]


@pytest.mark.slow
def test_an_installed_fusion_is_checked_with_its_package(
    install: Installer, capsys: pytest.CaptureFixture[str]
) -> None:
    install("parts")
    assert main(["plugins", "check", "stacked", "--json"]) == 3
    (report,) = json.loads(capsys.readouterr().out)
    found = {own["check"] for own in report["results"] if own["status"] == "failed"}
    assert (report["provider"], found) == (
        "crema-dummy-parts 0.4.0",
        {"readme_and_licence_are_there", "types_are_shipped"},
    )
    assert sum(own["status"] == "passed" for own in report["results"]) == len(CHECKS) - 2


def test_the_command_lists_the_checks_of_fusions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "check", "--list", "--kind", "fusion"]) == 0
    assert [line.split()[1].rstrip(":") for line in capsys.readouterr().out.splitlines()] == [
        own.name for own in CHECKS
    ]


class DrawsWithOptions(BAD["layout_is_deterministic"]):  # type: ignore[misc]
    """It adds noise whatever its option says."""

    test_options = ({"loud": True},)

    def __init__(self, supporting: Sequence[str], *, width: int, num_queries: int, loud: bool = False) -> None:
        super().__init__(supporting, width=width, num_queries=num_queries)
        self.loud = loud


@pytest.mark.slow
def test_a_finding_names_the_options_and_what_is_expected() -> None:
    message = check_fusion(DrawsWithOptions, tier="silver").of("layout_is_deterministic").message
    found, *rest = message.splitlines()
    assert found.startswith("The same tokens are laid out otherwise a second time: tokens by ")
    assert rest == [
        "Options: test_options[0] = {'loud': True}",
        "Batch: 1 sample: video (1, 3, 40, 48); kit_second (2, 8); kit_clocked (3, 8)",
        "Expected: In eval mode the same tokens give the same segments, bit for bit.",
        "Fix: draw nothing at random outside of training (`self.training`), where torch's generator is drawn from.",
    ]
