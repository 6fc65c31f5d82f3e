"""What messages advise exists: verbs, options of the command line, settings and arguments.

Messages are read from the source of all packages: every text with a blank in it that is no docstring.
"""

from __future__ import annotations

import argparse
import ast
import functools
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from crema_core.api.build import build
from crema_core.cli.advice import for_command_line
from crema_core.cli.main import _load, main, own_commands, plugin_commands
from tests.support.official_datasets import write_clip

ROOT = Path(__file__).parents[2]
FOREIGN_OPTIONS = {"--force-reinstall", "--no-build-isolation", "--no-deps", "--shm-size"}
"""Of pip, and of docker."""
FOREIGN_VERBS = {"without"}
"""`run crema without the package` is prose."""
FOREIGN_NAMES = {
    "charset", "content", "class", "src", "alt", "lang", "name", "style", "tabindex",  # of HTML
    "t",  # of a part of a clip
    "axis", "compute", "append", "map",  # of numpy, PyTorch and transformers, in sentences about them
    "track_running_stats", "weights_only",
    "wrapper",  # of pluggy
}  # fmt: skip
_SETTING = re.compile(r"(?<![\w\-.\"'/#&?])(?P<name>[a-z][a-z0-9_]*)=(?=[\"'\d\[{(]|True|False|None|[.,;]|$|\w)")


class Message(NamedTuple):
    place: str  # file and line
    package: str
    text: str


def files() -> list[Path]:
    return [*sorted((ROOT / "crema_core").rglob("*.py")), *sorted((ROOT / "plugins").glob("*/crema_*/**/*.py"))]


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def written(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join("{}" if isinstance(part, ast.FormattedValue) else written(part) for part in node.values)
    return ""


@functools.cache
def messages() -> tuple[Message, ...]:
    found = []
    for path in files():
        module = tree(path)
        passed = {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Expr)}
        passed |= {id(part) for node in ast.walk(module) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(module):
            if isinstance(node, ast.Constant | ast.JoinedStr) and id(node) not in passed and " " in written(node):
                place = path.relative_to(ROOT)
                package = place.parts[2] if place.parts[0] == "plugins" else "crema_core"
                found.append(Message(f"{place}:{node.lineno}", package, written(node)))
    return tuple(found)


def parsers_of(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for own in action.choices.values():
                yield from parsers_of(own)


@functools.cache
def options() -> dict[str, frozenset[str]]:
    """Options by verb, of its actions too."""
    commands = {**own_commands(), **{name: added.command for name, added in plugin_commands().items()}}
    return {
        name: frozenset(
            string
            for own in parsers_of(_load(command)[1])
            for action in own._actions
            for string in action.option_strings
        )
        for name, command in commands.items()
    }


@pytest.mark.slow
def test_every_verb_that_a_message_names_exists() -> None:
    known = options().keys() | FOREIGN_VERBS
    named = [(own.place, verb) for own in messages() for verb in re.findall(r"(?<![\w\-/.])crema ([a-z]+)\b", own.text)]
    assert len(named) > 50
    assert [entry for entry in named if entry[1] not in known] == []


def test_every_option_that_a_message_names_exists() -> None:
    known = frozenset().union(*options().values()) | FOREIGN_OPTIONS | {"--traceback"}
    named = [
        (own.place, option)
        for own in messages()
        for option in re.findall(r"(?<![\w\-])--[a-z][a-z-]*[a-z](?![\w{-])", own.text)
    ]
    assert len(named) > 100
    scripts = ("_world/", "_merv/", "_pave/", "_videochat2/", "_benchmarks/")  # whose own parsers are not verbs
    assert [entry for entry in named if entry[1] not in known and not any(own in entry[0] for own in scripts)] == []


@pytest.mark.slow
def test_options_named_beside_a_verb_are_its_own() -> None:
    wrong = []
    for own in messages():
        for verb, rest in re.findall(r"(?<![\w\-/.])crema ([a-z]+)((?: [^\s.,:;]+)*)", own.text):
            for option in re.findall(r"(?<= )--[a-z][a-z-]*[a-z]", rest):
                if verb in options() and option not in options()[verb] | {"--traceback"}:
                    wrong.append((own.place, verb, option))
    assert wrong == []


@functools.cache
def arguments() -> dict[str, frozenset[str]]:
    """Names of arguments of public functions and of fields of classes, by package."""
    found: dict[str, set[str]] = {}
    for path in files():
        place = path.relative_to(ROOT)
        names = found.setdefault(place.parts[2] if place.parts[0] == "plugins" else "crema_core", set())
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef) and (not node.name.startswith("_") or node.name == "__init__"):
                names |= {own.arg for own in (*node.args.args, *node.args.kwonlyargs)}
            if isinstance(node, ast.ClassDef):
                fields = (own.target for own in node.body if isinstance(own, ast.AnnAssign))
                names |= {own.id for own in fields if isinstance(own, ast.Name)}
    return {package: frozenset(names) for package, names in found.items()}


def test_every_setting_that_a_message_names_exists() -> None:
    named = [(own, name) for own in messages() for name in _SETTING.findall(own.text)]
    assert len(named) > 100
    core = arguments()["crema_core"]
    wrong = [(own.place, name) for own, name in named if name not in core | arguments()[own.package] | FOREIGN_NAMES]
    assert wrong == []


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ('pass on_error="skip" to leave', "pass --on-error skip to leave"),
        ("at most max_skipped=0.1 of them; pass max_skipped=0.25.", "at most --max-skipped 0.1 of them; pass "
         "--max-skipped 0.25."),
        ("Give another out=.", "Give another --out."),
        ('pass cache_precision="bf16" for', "pass --set cache_precision=bf16 for"),
        ("Write --set epochs=3, for example.", "Write --set epochs=3, for example."),
        ("'runs/lr=3/a.mp4' does not exist", "'runs/lr=3/a.mp4' does not exist"),
        ("Name them in build(modalities=[...]) to use them.", "Name them in build(modalities=[...]) to use them."),
        ("x=3 and nothing=4", "x=3 and nothing=4"),
        ("Write fit(data, out='runs', seed=3), or out='runs'.", "Write fit(data, out='runs', seed=3), or --out runs."),
    ],
)  # fmt: skip
def test_advice_is_worded_as_the_command_line_takes_it(said: str, shown: str) -> None:
    assert for_command_line(said, _load(own_commands()["fit"])[1]) == shown


def advised(text: str) -> list[str]:
    """Return the options that a message ends with: what comes behind its last "pass"."""
    words = shlex.split(text[text.rindex("pass ") + 5 :])
    return [words[0], words[1]]


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["fit", "encode", "eval", "ablate", "extract"])
def test_the_advice_of_a_verb_about_unusable_files_works(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines: list[dict[str, Any]] = []
    for number in range(3):
        write_clip(tmp_path / f"{number}.mp4", num_frames=2 + number)
        lines.append({"id": number, "question": f"{number} ?", "answer": "red", "video": f"{number}.mp4"})
    (tmp_path / "2.mp4").unlink()
    Path("data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if verb in ("eval", "ablate"):
        build(["video"], backbone="crema-tiny").save_pretrained("model")
    if verb == "extract":
        monkeypatch.setattr("crema_geometry.extract.run._each", lambda jobs, *_: iter((job, None) for job in jobs))
    words = {
        "fit": ["data.jsonl", "--out", "run", "--set", "epochs=1"],
        "encode": ["data.jsonl", "--cache", "features"],
        "eval": ["model", "data.jsonl"],
        "ablate": ["model", "data.jsonl", "--what", "leave-one-out"],
        "extract": ["depth", "--data", "data.jsonl", "--out", "out"],
    }[verb]
    for expected in ("--on-error", "--max-skipped"):
        assert main([verb, *words]) == 1
        found = advised(capsys.readouterr().err)
        assert found[0] == expected
        words += found
    assert main([verb, *words]) == 0
