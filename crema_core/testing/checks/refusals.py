"""Silver: sources the sense cannot read are refused in words."""

from __future__ import annotations

from crema_core.errors import MediaError
from crema_core.modality import Modality
from crema_core.testing.bench import modalities
from crema_core.testing.check import check, require
from crema_core.testing.subject import Subject

WRONG: tuple[object, ...] = (None, 3, {"x": 1})
ABSENT = "no/such/place/recording.0917"


@check("silver", needs=("building_is_offline",))
def wrong_sources_are_refused(subject: Subject) -> None:
    """None, a number and a dict are refused with `MediaError`.

    Why: such mistakes are made in data files; the user must read what came, not a traceback from a library.
    Fix: look at the type first, and raise `MediaError` with what came, what is accepted and what to do.
    """
    for modality in modalities(subject):
        for given in WRONG:
            error = _refusal(modality, given)
            require(
                isinstance(error, MediaError),
                f"prepare({given!r}) gives {_named(error)}. Sources that cannot be read are refused with MediaError. "
                "Raise it with what came and what is accepted.",
            )


@check("silver", needs=("wrong_sources_are_refused",))
def missing_files_are_named(subject: Subject) -> None:
    """A file that does not exist is refused with a `MediaError` that has its path.

    Why: among thousands of lines of a data file the user must find the one that is wrong.
    Fix: put the path into the message: `raise MediaError(f"{path} does not exist. ...")`.
    """
    for modality in modalities(subject):
        error = _refusal(modality, ABSENT)
        require(
            isinstance(error, MediaError) and ABSENT in str(error),
            f"prepare('{ABSENT}') gives {_named(error)}. An absent file is refused with MediaError and its path. Put "
            "the path into the message.",
        )


def _refusal(modality: Modality, given: object) -> Exception | None:
    try:
        modality.prepare(given)
    except Exception as error:  # noqa: BLE001 - which one it is, is the question
        return error
    return None


def _named(error: Exception | None) -> str:
    return "no error" if error is None else f"{type(error).__name__}: {error}"
