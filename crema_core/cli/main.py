"""Entry of the `crema` command: finds the verb, imports only its module, turns errors into exit codes.

Exit codes: 0 done, 1 an error (message on stderr; no traceback but of a bug), 2 wrong usage, 3 findings, 130
interrupted by Ctrl-C, 143 terminated by SIGTERM. A verb that knows how to go on adds a note to the `KeyboardInterrupt`.

A verb's module has three names:

- `HELP`: the first paragraph states what the verb does; what follows the first empty line is shown after the options
  and ends with a real example.
- `add_arguments(parser)`: adds the verb's arguments.
- `run(arguments)`: does the work and returns the exit code.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, TextIO, cast

import crema_core
from crema_core.cli.border import bug_message, system_message  # when files are short it is too late
from crema_core.cli.inputs import Parser
from crema_core.cli.launch import enrol, fail, rank
from crema_core.common.stopping import INTERRUPTED, TERMINATED, cause, exit_code, ignore_signals, stoppable
from crema_core.errors import CremaError, LostProcessError, PluginError, PluginExitError, did_you_mean
from crema_core.plugins.fence import fault_text, fenced, switch_off
from crema_core.plugins.groups import directory
from crema_core.plugins.hookspecs import Command

DONE, FAILED, USAGE, FINDINGS = 0, 1, 2, 3

VERBS = (
    Command("fit", "train the adapters of a model on a data file", "crema_core.cli.fit"),
    Command("pretrain", "train a new sensor's encoder on unlabelled pairs", "crema_core.cli.pretrain"),
    Command("resume", "continue with an interrupted run", "crema_core.cli.resume"),
    Command("encode", "run frozen encoders once and keep their features in a folder", "crema_core.cli.encode"),
    Command("cache", "show, check or make smaller a folder of kept features", "crema_core.cli.cache"),
    Command("eval", "score a saved model on a data file", "crema_core.cli.eval"),
    Command("answer", "ask a saved model a question about media files", "crema_core.cli.answer"),
    Command("data", "list named data sets, write their data files, check data files", "crema_core.cli.data"),
    Command("describe", "show the parts, sizes and costs of a model", "crema_core.cli.describe"),
    Command("plan", "estimate the memory of a training step", "crema_core.cli.plan"),
    Command("show", "draw what a modality makes of a file", "crema_core.cli.show"),
    Command("plugins", "list, show, check and begin modalities", "crema_core.cli.plugins"),
)

DESCRIPTION = "Add modalities to a frozen vision-language model: train, evaluate and ask, on your own media."
EPILOG = """\
Example:
  crema plugins list
  crema VERB --help"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: words after `crema`; None reads them from the process.

    Returns:
        the exit code.
    """
    code: int | None = None
    try:
        with stoppable():
            try:
                code = _main(list(sys.argv[1:] if argv is None else argv))
            except KeyboardInterrupt as stop:
                code = _stopped(stop)
    except KeyboardInterrupt as stop:  # it came when all was done and said: that stays as it was
        code = _stopped(stop) if code is None else code
    if argv is None and code in (INTERRUPTED, TERMINATED):
        ignore_signals()  # while Python shuts down: what is to stop has stopped
    return code


def _stopped(stop: KeyboardInterrupt) -> int:
    return fail("; ".join([cause(stop), *getattr(stop, "__notes__", ())[-1:]]), exit_code(stop))


def _main(words: list[str]) -> int:
    """Run the command line; what `main` does besides is to stop when it is told to."""
    # Decided before parsing, so that it works even when the parsing itself fails.
    show_traceback = "--traceback" in words
    parsers: list[argparse.ArgumentParser] = []
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files may hold bytes that are no character
            stream.reconfigure(errors="backslashreplace")
    enrol()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            return _run([word for word in words if word != "--traceback"], parsers)
    except CremaError as error:
        from crema_core.cli.advice import for_command_line

        text = for_command_line(str(error), parsers[0]) if parsers else str(error)
        code = fail(text, FAILED, is_consequence=isinstance(error, LostProcessError))
        if show_traceback:
            traceback.print_exc()
        return code
    except BrokenPipeError:
        # The reader of our output went away (`crema ... | head`): nothing is wrong, and nothing more can be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:  # noqa: BLE001 - the border: behind it there is nobody to catch it
        message = system_message(error)
        if message is None or show_traceback:
            traceback.print_exc()
        return fail(message or bug_message(error, provider=_provider(words)), FAILED)


def _provider(words: list[str]) -> str | None:
    """Return the package whose verb was typed, None for one of core or none at all."""
    name = next((word for word in words if not word.startswith("-")), None)
    if name is None or name in own_commands():
        return None
    try:
        return plugin_commands()[name].provider
    except Exception:  # noqa: BLE001 - the listing itself may be what failed
        return None


def _run(words: list[str], parsers: list[argparse.ArgumentParser]) -> int:
    """Run the verb that `words` name, whose parser is added to `parsers` for whoever words its errors."""
    name = next((word for word in words if not word.startswith("-")), None)
    commands: dict[str, Command | AddedCommand] = dict(own_commands())
    if name not in commands:
        commands |= plugin_commands()
    if name is not None and name not in commands:
        known = ", ".join(commands)
        package = directory()["verb"].get(name)
        hint = f" It is provided by {package}. Run: pip install {package}" if package else did_you_mean(name, commands)
        print(f"crema: '{name}' is not a verb. Verbs: {known}.{hint}", file=sys.stderr)
        return USAGE
    parser = _parser(commands)
    if name is None:
        code = _parse(parser, words)
        if isinstance(code, int):
            return code
        parser.print_help(sys.stderr)
        return USAGE
    command = commands[name]
    verb, own_parser = _load(command) if isinstance(command, Command) else _load_of_package(command)
    parsers.append(own_parser)
    position = words.index(name)
    arguments = _parse(own_parser, words[:position] + words[position + 1 :])
    if isinstance(arguments, int):
        return arguments
    arguments.words = words  # for verbs that start themselves in several processes
    if isinstance(command, Command):
        return verb.run(arguments)
    try:
        return verb.run(arguments)
    except SystemExit as stop:
        raise PluginError(
            f"The verb '{name}' of {command.provider} ended with sys.exit({stop.code!r}). A verb returns its exit code "
            f"or raises an error. Tell its authors, or switch it off: {switch_off(command.distribution)}"
        ) from stop


def _load(command: Command) -> tuple[Verb, argparse.ArgumentParser]:
    """Import a verb and return it with the parser of its arguments."""
    verb = cast(Verb, importlib.import_module(command.module))
    summary, _, rest = verb.HELP.strip().partition("\n\n")
    parser = Parser(
        prog=f"crema {command.name}",
        description=summary,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_traceback(parser)
    verb.add_arguments(parser)
    return verb, parser


def _load_of_package(added: AddedCommand) -> tuple[Verb, argparse.ArgumentParser]:
    """Do the same with a package's verb: whatever goes wrong becomes one error that names the package."""
    command = added.command
    try:
        with fenced(f"importing {command.module}", provider=added.provider):
            return _load(command)
    except CremaError as error:
        if not isinstance(error, PluginExitError):
            raise
        reason, cause = fault_text(error), error.__cause__
    except Exception as error:  # noqa: BLE001 - whatever foreign code raises, its package is named
        reason, cause = fault_text(error), error
    raise PluginError(
        f"The verb '{command.name}' of {added.provider} could not be loaded from {command.module}: {reason}. Repair "
        f"it: pip install --force-reinstall {added.distribution}, or switch it off: {switch_off(added.distribution)}"
    ) from cause


def _parser(commands: Mapping[str, Command | AddedCommand]) -> argparse.ArgumentParser:
    width = max(len(name) for name in commands) + 2
    verbs = "\n".join(f"  {name:<{width}}{command.summary}" for name, command in commands.items())
    parser = argparse.ArgumentParser(
        prog="crema",
        usage="crema VERB ... [--traceback]",
        description=f"{DESCRIPTION}\n\nverbs:\n{verbs}",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"crema-core {crema_core.__version__}")
    _add_traceback(parser)
    return parser


def _add_traceback(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--traceback", action="store_true", help="show where an error was raised")


def _parse(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace | int:
    """Parse, returning argparse's exit code (0 for --help, 2 for wrong usage) instead of exiting."""
    try:
        return parser.parse_args(words)
    except SystemExit as stop:
        return int(stop.code or 0)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning as one line people can read, without the source line that raised it."""
    if rank() == 0:
        print(f"crema: warning: {message}", file=file or sys.stderr)


class Verb(Protocol):
    """What a verb's module offers."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, arguments: argparse.Namespace) -> int: ...


def own_commands() -> dict[str, Command]:
    """Return the verbs of core by name."""
    return {command.name: command for command in VERBS}


class AddedCommand(NamedTuple):
    """A verb that a package adds, and which package it is."""

    command: Command
    provider: str  # `distribution version`

    @property
    def distribution(self) -> str:
        """The package without its version."""
        return self.provider.partition(" ")[0]

    @property
    def summary(self) -> str:
        """One line for `crema --help`."""
        return self.command.summary


def plugin_commands() -> dict[str, AddedCommand]:
    """Return the verbs that installed packages add; a verb of core cannot be replaced."""
    from crema_core.plugins.hooks import load_hooks

    offered = load_hooks().collect("crema_register_commands", Command)
    added = [AddedCommand(own.item, own.provider) for own in offered]
    return {own.command.name: own for own in added if own.command.name not in own_commands()}


if __name__ == "__main__":
    sys.exit(main())
