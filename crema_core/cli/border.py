"""The last place of every verb: what is raised past it becomes a message and an exit code.

What the system refuses, and what a machine has too little of, is told in three parts. Anything else that is no error of
ours is a bug: its traceback stays, and the last line says so.
"""

from __future__ import annotations

import errno
import sys

import crema_core
from crema_core.common.reading import shown, why
from crema_core.common.writing import is_about_room, write_error
from crema_core.errors import first_line

WHERE = "Add --traceback to see where."


def system_message(error: BaseException) -> str | None:
    """Return what is said of an error of the system or of too little memory, None for any other error."""
    if isinstance(error, MemoryError) or _is_device_memory(error):
        return (
            f"The memory is used up ({first_line(error)}). Needed is more than is free. Close other programs, or use "
            f"smaller batches, fewer workers or a smaller model. {WHERE}"
        )
    if isinstance(error, RecursionError):
        return (
            "Something is nested deeper than can be followed. Accepted are settings and data as people write them. "
            f"Look for brackets inside brackets in the files that were named. {WHERE}"
        )
    if isinstance(error, UnicodeError):
        return (
            f"A text cannot be spelled here ({first_line(error)}). Needed are an encoding and names that fit each "
            f"other. Set PYTHONUTF8=1, or rename the file. {WHERE}"
        )
    if isinstance(error, OSError):
        if error.errno in (errno.EMFILE, errno.ENFILE):
            return (
                "Too many files are open at once. Needed is a higher limit, which ulimit -n prints. Raise it, for "
                f"example with ulimit -n 1024, or use fewer workers. {WHERE}"
            )
        if is_about_room(error):
            return f"{write_error(str(error.filename or 'a file'), error)} {WHERE}"
        what = f"{shown(str(error.filename))} {why(error)}" if error.filename is not None else first_line(error)
        return (
            f"The system refused something: {what}. Needed are files and folders that this user may use. Check the "
            f"paths that were named, and their permissions. {WHERE}"
        )
    return None


def bug_message(error: BaseException, *, provider: str | None = None) -> str:
    """Return the line that ends the traceback of a bug.

    Args:
        error: that nobody raised on purpose.
        provider: `distribution version` of the package whose verb it was; None: core.
    """
    owner = provider or f"crema-core {crema_core.__version__}"
    said = f"{type(error).__name__}: {first_line(error)}" if str(error).strip() else type(error).__name__
    return (
        f"this is a bug of {owner}, not of what was typed ({said}). What was saved before is whole. Report it to its "
        "authors with the lines above and the output of: crema plugins doctor"
    )


def _is_device_memory(error: BaseException) -> bool:
    if "torch" not in sys.modules:  # which it comes from
        return False
    from crema_core.common.tensors import is_out_of_memory

    return is_out_of_memory(error)
