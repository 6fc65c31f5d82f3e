"""What a message advises in Python, as the command line takes it.

Messages are written where the work is done, which does not know who called: `pass on_error="skip"`. On the command line
that is `--on-error skip`. What a verb has no option for stays as it is written.
"""

from __future__ import annotations

import argparse
import re

from crema_core.train.settings import TrainSettings

_SETTING = re.compile(
    r"""(?<![\w\-.('"/])(?<!--set )"""  # neither a part of a word or path, nor inside a call, nor an option already
    r"""(?P<name>[a-z][a-z0-9_]*)="""
    r"""(?P<value>"[^"\s]*"|'[^'\s]*'|-?\w+(?:[./]\w+)*|(?=[\s.,;]|$))"""
)
_CALL = re.compile(r"[\w.]+\([^()]*\)")


def for_command_line(text: str, parser: argparse.ArgumentParser) -> str:
    """Return a message whose settings are written as options of a verb.

    Args:
        text: the message.
        parser: of the verb.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> _ = parser.add_argument("--on-error"), parser.add_argument("--resume", action="store_true")
        >>> for_command_line('Pass on_error="skip", or resume=True. Give another on_error=.', parser)
        'Pass --on-error skip, or --resume. Give another --on-error.'
    """
    options = {action.dest: action for action in parser._actions if action.option_strings}
    flags = {string: action for action in parser._actions for string in action.option_strings}

    calls = [found.span() for found in _CALL.finditer(text)]  # what is Python as a whole stays so

    def written(found: re.Match[str]) -> str:
        if any(start < found.start() < end for start, end in calls):
            return found[0]
        name, value = found["name"], found["value"].strip("\"'")
        flag = f"--{name.replace('_', '-')}"
        if flag in flags:
            if flags[flag].nargs == 0:
                return flag if value == "True" else found[0]
            return f"{flag} {value}" if value else flag
        if "set" in options and value and name in TrainSettings.model_fields and _takes_training(parser):
            return f"--set {name}={value}"
        return found[0]

    return _SETTING.sub(written, text)


def _takes_training(parser: argparse.ArgumentParser) -> bool:
    """Whether `--set` of a verb takes settings of a training, not only options of modalities."""
    return any(action.dest == "set" and action.metavar == "KEY=VALUE" for action in parser._actions)
