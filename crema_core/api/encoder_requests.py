"""Several encoders of one sense, as `build` is asked for them; what cannot be mixed is refused before it is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from crema_core.api.requests import Request
from crema_core.errors import BuildError


def with_encoders(request: Request, encoders: Sequence[str | Mapping[str, Any]]) -> None:
    """Set the option `encoders` of the major sense.

    Raises:
        BuildError: when it has no such option, or it is set already.
        OptionsError: for encoders it does not take.
    """
    spec, given = request.spec, request.options.model_dump(exclude_unset=True)
    if "encoders" not in spec.options.model_fields:
        raise BuildError(
            [
                f"encoders came, and the major sense '{spec.name}' has no such option. Accepted: a major sense that "
                "sees through encoders of its choice. Make one major, or leave encoders out."
            ]
        )
    if given.get("encoders") is not None:
        raise BuildError(
            [
                f"encoders came twice, as an argument of build and as an option of '{spec.name}'. Accepted: one of "
                "both. Leave the option out."
            ]
        )
    request.options = spec.parse_options({**given, "encoders": encoders})


def check_encoders(request: Request, *, mixed: bool) -> None:
    """Refuse encoders nobody mixes, and a mixer without any.

    Args:
        request: a sense; one without the option `encoders` passes, it may have several all the same.
        mixed: whether the strategy mixes the encoders of this sense.

    Raises:
        BuildError: naming what to change.
    """
    given = getattr(request.options, "encoders", ())
    if given and not mixed:
        raise BuildError([not_mixed(request.spec.name, (one.name for one in given))])
    if given is None and mixed:
        raise BuildError([nothing_to_mix(request.spec.name)])


def not_mixed(sense: str, encoders: Iterable[str]) -> str:
    """Return what is said of encoders nobody mixes."""
    return (
        f"'{sense}' has several encoders ({', '.join(encoders)}), and nothing here mixes them. Accepted: fusion='merv' "
        "with this sense as the major one, or one encoder. Use fusion='merv', or leave its option encoders out."
    )


def nothing_to_mix(sense: str) -> str:
    """Return what is said where encoders are to be mixed and there are none."""
    return (
        f"fusion='merv' mixes several encoders of the major sense, and '{sense}' has none to mix. Accepted: a sense "
        "with the option encoders. Write build(..., encoders=['dinov2', 'siglip'])."
    )
