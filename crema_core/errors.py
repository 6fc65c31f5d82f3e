"""Every error a user can cause.

One tree, so that `except CremaError` catches what this package refuses and nothing else. Each message has three parts:
what came, what is accepted, what to type next. None derives from `KeyError`, whose `str()` is a `repr`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class CremaError(Exception):
    """Base of all errors raised on purpose by this package."""


class PluginError(CremaError):
    """Something about an installed package."""


class UnknownModalityError(PluginError, LookupError):
    """No installed modality has this name."""


class DuplicatePluginError(PluginError):
    """Several installed packages provide one name and the bare name was used."""


class DuplicateModalityError(DuplicatePluginError):
    """Several installed packages provide one modality and its bare name was used."""


class PluginLoadError(PluginError, ImportError):
    """A package's entry point or factory could not be imported; the cause is chained."""


class PluginExitError(PluginError):
    """A package's code tried to end the program with `sys.exit` or the like; the cause is chained."""


class PluginDisabledError(PluginError):
    """The modality is installed but switched off by an environment variable or argument."""


class IncompatiblePluginError(PluginError):
    """The plugin was written for another major version of the contract."""


class MissingRequirementError(PluginError, ImportError):
    """A requirement the plugin declares is not installed or too old."""


class ContractError(PluginError, TypeError):
    """A modality returned or raised something the contract does not allow."""


class ConformanceError(PluginError, AssertionError):
    """A check of the conformance kit does not hold for a modality."""


class HookError(PluginError):
    """A hook implementation is misspelt, uses defaults, or raised in strict mode."""


class OptionsError(CremaError, ValueError):
    """A setting has a wrong name or value."""


class AssetError(CremaError):
    """Weights or another asset are missing or have another checksum."""


class BuildError(CremaError):
    """A model could not be built. `problems` holds every reason found, not only the first."""

    def __init__(self, problems: Iterable[Exception | str]) -> None:
        self.problems = tuple(problems)
        lines = [str(problem) for problem in self.problems]
        super().__init__(
            lines[0] if len(lines) == 1 else "\n".join([f"{len(lines)} problems:", *(f"- {line}" for line in lines)])
        )


class MediaError(CremaError):
    """A media file is absent, empty, damaged or of the wrong type."""


class DataFileError(CremaError, ValueError):
    """A data file has lines that cannot be used."""


class DatasetError(CremaError, ValueError):
    """A named data set is unknown, incomplete or not in its official layout; nothing was written."""


class CheckpointError(CremaError):
    """A saved model, adapter or run directory cannot be used; nothing was changed."""


class ReadError(CremaError, ValueError):
    """A file cannot be read, or its text is not what it should be; `reason` is the middle of the sentence alone."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class WriteError(CremaError, OSError):
    """A file or folder cannot be written: full disk, no permission, a name that is taken; the cause is chained.

    Attributes:
        errno: the system's number.
        strerror: the reason in words, a part of the message.
    """

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class CacheError(CremaError):
    """A folder of kept features cannot be used, or has no room left."""


class TrainingError(CremaError):
    """Training cannot start or cannot continue."""


class OutOfMemoryError(CremaError, RuntimeError):
    """What was asked does not fit into the memory of the device; the message states what needs less."""


class WorkerError(CremaError):
    """A worker process that reads sources ended; or, chained as a cause, the traceback of what was raised there."""


class LostProcessError(TrainingError):
    """Another process of the launch ended; its own message states why."""


class PrecisionError(CremaError, ValueError):
    """The number format cannot hold this model's activations."""


class CacheWarning(UserWarning):
    """Kept features are damaged, or no more can be kept; work continues."""


class ProcessingWarning(UserWarning):
    """A saved model or adapter was trained with another processor, other settings of it, or another transformers."""


class RevisionWarning(UserWarning):
    """What a saved model was built from is no longer the newest on the hub; the recorded revision is used."""


class PluginVersionWarning(UserWarning):
    """A plugin was written for a newer minor version of the contract."""


class ModalityWarning(UserWarning):
    """A modality of a saved model, adapter or run makes other features here than there, or is left out of it."""


class Problems:
    """Collects what is refused, so that everything that is wrong comes in one `BuildError`.

    Example:
        >>> problems = Problems()
        >>> with problems.collecting():
        ...     raise OptionsError("rank is 0.")
        >>> [str(problem) for problem in problems.found]
        ['rank is 0.']
    """

    def __init__(self) -> None:
        self.found: list[Exception | str] = []

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Keep what the block refuses; the program continues after the block."""
        try:
            yield
        except BuildError as error:
            self.found.extend(error.problems)
        except CremaError as error:
            self.found.append(error)

    def raise_found(self) -> None:
        """Raise what was found, in that order, if anything was.

        Raises:
            BuildError: holding every problem.
        """
        if self.found:
            raise BuildError(self.found) from next((one for one in self.found if isinstance(one, Exception)), None)


def first_line(error: BaseException) -> str:
    """Return what a library said, for the middle of a sentence: the first line without its full stop, else the class.

    >>> first_line(OSError("No such file.\\nTry again."))
    'No such file'
    """
    said = f"it {error.reason}" if isinstance(error, ReadError) else str(error)
    return (said.strip() or type(error).__name__).splitlines()[0].rstrip(".")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the nearest known name, or an empty string when none is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""
