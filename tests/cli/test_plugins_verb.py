"""`crema plugins list` and `crema plugins show`."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from crema_core.cli.main import main
from crema_core.plugins.groups import KINDS
from tests.support.dummies import Installer

HEAVY = ("torch", "transformers", "peft", "numpy", "av")


def lines_with(name: str, text: str) -> list[str]:
    return [line for line in text.splitlines() if line.split()[:1] == [name] or line.startswith(f"{name}:")]


def test_list_shows_package_version_status_and_summary(install: Installer, capsys: pytest.CaptureFixture[str]) -> None:
    install("good")
    assert main(["plugins", "list", "--kind", "modality"]) == 0
    (line,) = lines_with("good", capsys.readouterr().out)
    assert line.split(maxsplit=4) == ["good", "crema-dummy-good", "0.1.0", "ok", "A modality that keeps every rule."]


def test_list_says_what_is_wrong_with_a_broken_package_and_ends_well(
    install: Installer, capsys: pytest.CaptureFixture[str]
) -> None:
    install("broken_import", "good")
    assert main(["plugins", "list"]) == 0
    row, reason = lines_with("broken", capsys.readouterr().out)
    assert row.split() == ["broken", "crema-dummy-broken-import", "0.1.0", "broken"]
    assert reason.startswith("broken: 'broken' (crema-dummy-broken-import 0.1.0) could not be imported from ")


def test_disabled_ones_are_listed_only_with_all(
    install: Installer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    install("good")
    monkeypatch.setenv("CREMA_PLUGINS_DISABLE", "good")
    assert main(["plugins", "list", "--kind", "modality"]) == 0
    assert lines_with("good", capsys.readouterr().out) == []
    assert main(["plugins", "list", "--kind", "modality", "--all"]) == 0
    row, reason, reference = lines_with("good", capsys.readouterr().out)
    assert row.split() == ["good", "crema-dummy-good", "0.1.0", "disabled"]
    assert reason.endswith("Take it out of CREMA_PLUGINS_DISABLE to use it.")
    assert reference == "good: crema_dummy_good.plugin:SPEC"


def test_every_kind_is_listed_under_its_group(install: Installer, capsys: pytest.CaptureFixture[str]) -> None:
    install("parts", "dataset", "good")
    assert main(["plugins", "list"]) == 0
    sections = capsys.readouterr().out.split("\n\n")
    heads = [section.splitlines()[0] for section in sections]
    assert heads == [f"{kind.name} ({kind.group})" for kind in KINDS.values()]
    rows = dict(zip(KINDS, sections, strict=True))
    for kind, name in {
        "fusion": "stacked",
        "backbone": "dummy_blip",
        "encoder": "mean_color",
        "metric": "first_word",
        "preset": "glance",
    }.items():
        (row,) = lines_with(name, rows[kind])
        assert row.split() == [name, "crema-dummy-parts", "0.4.0", "ok"]
    assert "crema_dummy_parts" not in sys.modules
    assert main(["plugins", "list", "--kind", "fusion"]) == 0
    assert capsys.readouterr().out == rows["fusion"] + "\n"


def test_list_as_json(install: Installer, capsys: pytest.CaptureFixture[str]) -> None:
    install("good")
    assert main(["plugins", "list", "--json"]) == 0
    good, hooks = [record for record in json.loads(capsys.readouterr().out) if record["name"] == "good"]
    assert (hooks["kind"], hooks["reference"]) == ("hook", "crema_dummy_good.hooks")
    assert good == {
        "name": "good",
        "distribution": "crema-dummy-good",
        "version": "0.1.0",
        "reference": "crema_dummy_good.plugin:SPEC",
        "status": "ok",
        "error": "",
        "summary": "A modality that keeps every rule.",
        "editable": False,
        "notes": [],
        "kind": "modality",
    }


def test_show_prints_the_whole_page(install: Installer, capsys: pytest.CaptureFixture[str]) -> None:
    install("good")
    assert main(["plugins", "show", "good"]) == 0
    assert capsys.readouterr().out == GOOD_PAGE


GOOD_PAGE = """\
good: A modality that keeps every rule.

package        crema-dummy-good 0.1.0
entry point    crema_dummy_good.plugin:SPEC
class          crema_dummy_good.modality:GoodModality
plugin API     1.0
encoder        own
feature width  8
steps          its own
requires       nothing more
status         ok

inputs:
kind   files  content
array         (T, 3) float

options:
name    default  type          meaning
frames  2        integer >= 1  rows taken from a recording

weights:
none
"""


def test_show_as_json(install: Installer, capsys: pytest.CaptureFixture[str]) -> None:
    install("good")
    assert main(["plugins", "show", "good", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["distribution"] == "crema-dummy-good"


@pytest.mark.parametrize("name", ["broken", "twin", "future"])
@pytest.mark.filterwarnings("ignore::crema_core.errors.PluginVersionWarning")
def test_show_of_an_unusable_one_explains_and_returns_findings(
    install: Installer, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    install("broken_import", "duplicate_a", "duplicate_b", "wrong_api")
    assert main(["plugins", "show", name]) == 3
    assert f"'{name}'" in capsys.readouterr().out
    assert main(["plugins", "show", name, "--json"]) == 3
    assert all(record["error"] for record in json.loads(capsys.readouterr().out))


def test_show_of_an_unknown_name_is_our_error(install: Installer, capsys: pytest.CaptureFixture[str]) -> None:
    install("good")
    assert main(["plugins", "show", "goood"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("crema: 'goood' is not an installed modality. Installed: ")
    assert captured.err.endswith("Did you mean 'good'?\n")


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["plugins", "list"], ["plugins", "show", "good"], ["plugins", "--help"]]
)
def test_no_heavy_module_is_imported(install: Installer, words: list[str]) -> None:
    code = (
        "import sys; from crema_core.cli.main import main; code = main(sys.argv[1:]);"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, *words]
    done = subprocess.run(command, env=install.environment("good"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "[]\n"


def test_strict_turns_a_broken_package_into_an_error(
    install: Installer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    install("broken_import")
    monkeypatch.setenv("CREMA_PLUGINS_STRICT", "1")
    assert main(["plugins", "list"]) == 1
    assert "CREMA_PLUGINS_STRICT=1" in capsys.readouterr().err
