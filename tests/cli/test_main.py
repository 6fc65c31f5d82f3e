"""The frame of the command line: verbs, help, exit codes, errors without tracebacks."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import subprocess
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import crema_core
from crema_core.cli import main as entry
from crema_core.cli.main import main
from crema_core.common.stopping import Terminated
from crema_core.errors import CremaError
from tests.support.dummies import Installer


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A verb `try` whose `run` a test replaces."""
    module = types.ModuleType("crema_test_verb")
    module.HELP = "Try.\n\nExample:\n  crema try --word one"
    module.add_arguments = lambda parser: parser.add_argument("--word", default="none")
    module.run = lambda arguments: 0
    monkeypatch.setitem(sys.modules, "crema_test_verb", module)
    monkeypatch.setattr(entry, "VERBS", (*entry.VERBS, entry.Command("try", "try", "crema_test_verb")))
    return module


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"crema-core {crema_core.__version__}\n"


def test_help_lists_every_verb_with_its_summary(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {command.name} " in text and command.summary in text for command in entry.VERBS)
    assert text.rstrip().endswith("crema VERB --help")


def test_no_verb_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "verbs:" in capsys.readouterr().err


def test_unknown_verb_names_the_nearest(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREMA_PLUGINS", "")
    assert main(["plugin", "list"]) == 2
    assert capsys.readouterr().err == (
        "crema: 'plugin' is not a verb. Verbs: fit, pretrain, resume, encode, cache, eval, answer, data, describe, "
        "plan, show, plugins. Did you mean 'plugins'?\n"
    )


def test_the_verb_of_a_package_that_is_not_installed_names_the_package(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREMA_PLUGINS", "")
    assert main(["demo"]) == 2
    assert capsys.readouterr().err == (
        "crema: 'demo' is not a verb. Verbs: fit, pretrain, resume, encode, cache, eval, answer, data, describe, plan, "
        "show, plugins. It is provided by crema-world. Run: pip install crema-world\n"
    )


def test_unknown_option_is_wrong_usage(verb: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["try", "--wrod", "x"]) == 2
    assert "unrecognized arguments: --wrod x" in capsys.readouterr().err


def test_an_option_before_the_verb_reaches_it(verb: types.ModuleType) -> None:
    got: list[argparse.Namespace] = []
    verb.run = lambda arguments: got.append(arguments) or 0
    assert main(["--traceback", "try", "--word", "one"]) == 0
    assert got[0].word == "one"


def test_help_of_a_verb_ends_with_its_example(verb: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["try", "--help"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("Example:\n  crema try --word one")


def test_our_error_is_one_line_on_stderr(verb: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(arguments: argparse.Namespace) -> int:
        raise CremaError("the disk is full. Free some space.")

    verb.run = fail
    assert main(["try"]) == 1
    assert capsys.readouterr().err == "crema: the disk is full. Free some space.\n"
    assert main(["try", "--traceback"]) == 1
    assert "Traceback (most recent call last):" in capsys.readouterr().err


def test_a_bug_keeps_its_traceback_and_ends_with_a_line_that_says_so(
    verb: types.ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(arguments: argparse.Namespace) -> int:
        raise ZeroDivisionError("by nothing")

    verb.run = fail
    assert main(["try"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1].startswith(f"crema: this is a bug of crema-core {crema_core.__version__}, not of what was typed (")
    assert lines[-1].endswith("with the lines above and the output of: crema plugins doctor")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError(2, "No such file", "a.jsonl"), "The system refused something: 'a.jsonl' does not exist."),
        (PermissionError(13, "Permission denied", "a.jsonl"), "'a.jsonl' may not be read by this user."),
        (OSError(36, "File name too long", "a" * 5000), "has a name that is too long for the file system."),
        (OSError(28, "No space left on device", "out/a"), "'out/a' cannot be written: the disk is full."),
        (OSError("the connection was lost"), "The system refused something: the connection was lost."),
        (MemoryError(), "The memory is used up (MemoryError). Needed is more than is free."),
        (RecursionError("maximum recursion depth"), "Something is nested deeper than can be followed."),
        ("\ud800", "A text cannot be spelled here ('utf-8' codec can't encode character"),
    ],
)
def test_what_the_system_refuses_is_one_message_in_three_parts(
    error: Exception | str, said: str, verb: types.ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(arguments: argparse.Namespace) -> int:
        if isinstance(error, str):
            error.encode("utf-8")
        raise error  # type: ignore[misc]

    verb.run = fail
    assert main(["try"]) == 1
    line = capsys.readouterr().err
    assert said in line
    assert line.endswith(" Add --traceback to see where.\n")
    assert line.count("\n") == 1
    assert len(line) < 600
    assert main(["try", "--traceback"]) == 1
    assert "Traceback (most recent call last):" in capsys.readouterr().err


def test_interrupted(verb: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(arguments: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    verb.run = interrupt
    assert main(["try"]) == 130
    assert capsys.readouterr().err == "crema: interrupted\n"


def test_sigterm_is_told_with_what_to_do_next(verb: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(arguments: argparse.Namespace) -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt as stop:
            stop.add_note("the same command continues.")
            raise
        return 0

    verb.run = stop
    assert main(["try"]) == 143
    assert capsys.readouterr().err == "crema: terminated; the same command continues.\n"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_exit_code_of_a_verb_is_passed_on(verb: types.ModuleType) -> None:
    verb.run = lambda arguments: 3
    assert main(["try"]) == 3


def test_warnings_are_one_line_without_source(verb: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    verb.run = lambda arguments: warnings.warn("mind the step", stacklevel=1) or 0
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["try"]) == 0
    assert capsys.readouterr().err == "crema: warning: mind the step\n"


def test_a_package_adds_a_verb_but_replaces_none_of_core(
    install: Installer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREMA_PLUGINS", "good")
    install("good")
    assert main(["greet", "world"]) == 0
    assert capsys.readouterr().out == "hello world\n"
    assert main(["--help"]) == 0
    assert "say hello" in capsys.readouterr().out
    assert entry.plugin_commands().keys() == {"greet"}


def test_a_closed_reader_is_no_error() -> None:
    command = f"{sys.executable} -W ignore -m crema_core.cli.main plugins list | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", entry.VERBS, ids=lambda command: command.name)
def test_every_verb_has_help_that_ends_with_an_example_and_imports_no_torch_to_show_it(
    command: entry.Command,
) -> None:
    module = importlib.import_module(command.module)
    last = module.HELP.rstrip().splitlines()[-1]
    assert last.startswith(f"  crema {command.name}")
    code = (
        "import sys; from crema_core.cli.main import main;"
        f"code = main(['{command.name}', '--help']); sys.exit(9 if 'torch' in sys.modules else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert last in done.stdout


def test_a_signal_when_all_is_said_and_done_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @contextmanager
    def late() -> Iterator[None]:
        yield
        raise Terminated

    monkeypatch.setattr("crema_core.cli.main.stoppable", late)
    assert main(["nothing"]) == 2
    assert capsys.readouterr().err.startswith("crema: 'nothing' is not a verb.")


def test_a_signal_while_python_shuts_down_after_a_stop_changes_nothing() -> None:
    program = """
import atexit, os, signal, sys
from crema_core.cli import main as border

def stopped(words):
    raise KeyboardInterrupt

border._main = stopped
atexit.register(os.kill, os.getpid(), signal.SIGINT)
atexit.register(os.kill, os.getpid(), signal.SIGTERM)
sys.exit(border.main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "crema: interrupted\n")
