"""Entry of the `crema` command: finds the verb, imports only its module, turns errors into exit codes.

Exit codes: 0 done, 1 an error of ours (message on stderr, no traceback), 2 wrong usage, 3 findings, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from typing import TextIO

import crema_core
from crema_core.cli.outcome import enrol, fail, rank
from crema_core.cli.verbs import load_verb, own_commands, plugin_commands
from crema_core.errors import CremaError, LostProcessError, did_you_mean
from crema_core.plugins.groups import directory
from crema_core.plugins.hookspecs import Command

DONE, FAILED, USAGE, FINDINGS, INTERRUPTED = 0, 1, 2, 3, 130

DESCRIPTION = "Add senses to a frozen vision-language model: train, evaluate and ask, on your own media."
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
    words = list(sys.argv[1:] if argv is None else argv)
    # Decided before parsing, so that it works even when the parsing itself fails.
    show_traceback = "--traceback" in words
    enrol()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            return _run([word for word in words if word != "--traceback"])
    except CremaError as error:
        code = fail(str(error), FAILED, is_consequence=isinstance(error, LostProcessError))
        if show_traceback:
            traceback.print_exc()
        return code
    except KeyboardInterrupt:
        return fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output went away (`crema ... | head`): nothing is wrong, and nothing more can be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE


def _run(words: list[str]) -> int:
    name = next((word for word in words if not word.startswith("-")), None)
    commands = own_commands()
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
    verb = load_verb(commands[name])
    summary, _, rest = verb.HELP.strip().partition("\n\n")
    own_parser = argparse.ArgumentParser(
        prog=f"crema {name}",
        description=summary,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_traceback(own_parser)
    verb.add_arguments(own_parser)
    position = words.index(name)
    arguments = _parse(own_parser, words[:position] + words[position + 1 :])
    if isinstance(arguments, int):
        return arguments
    arguments.words = words  # for verbs that start themselves in several processes
    return verb.run(arguments)


def _parser(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
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


if __name__ == "__main__":
    sys.exit(main())
