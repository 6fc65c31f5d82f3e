"""Several encoders of one sense, as `build` is asked for them; what cannot be mixed is refused before it is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from crema_core.api.requests import Request
from crema_core.errors import BuildError


def with_encoders(request: Request, encoders: Sequence[str | Mapping[str, Any]], *, fusion: str) -> None:
    """Set the option of the major sense that names several encoders.

    Args:
        request: the major sense; its declaration says which option it is.
        encoders: as given to `build`.
        fusion: name of the strategy, for messages.

    Raises:
        BuildError: when it has no such option, or it is set already.
        OptionsError: for encoders it does not take.
    """
    spec, given = request.spec, request.options.model_dump(exclude_unset=True)
    option = spec.capabilities.several_encoders
    if option is None:
        raise BuildError(
            [
                f"encoders came, and the major sense '{spec.name}' takes one alone with fusion '{fusion}'. Accepted: a "
                "fusion that mixes several encoders, and a major sense that sees through encoders of its choice. "
                "Choose both, or leave encoders out."
            ]
        )
    if given.get(option) is not None:
        raise BuildError(
            [
                f"encoders came twice, as an argument of build and as the option '{option}' of '{spec.name}'. "
                "Accepted: one of both. Leave the option out."
            ]
        )
    request.options = spec.parse_options({**given, option: encoders})


def check_encoders(request: Request, *, fusion: str, mixed: bool) -> None:
    """Refuse encoders nobody mixes, and a fusion that mixes where there are none.

    Args:
        request: a sense; one that declares no option for several encoders passes, its features may have parts all the
            same.
        fusion: name of the strategy, for messages.
        mixed: whether the strategy mixes the encoders of this sense.

    Raises:
        BuildError: naming what to change.
    """
    option = request.spec.capabilities.several_encoders
    if option is None:
        return
    given = request.options.model_dump()[option]
    if given and not mixed:
        names = [one["name"] if isinstance(one, Mapping) and "name" in one else str(one) for one in given]
        raise BuildError([not_mixed(request.spec.name, names, fusion=fusion)])
    if not given and mixed:
        raise BuildError([nothing_to_mix(request.spec.name, fusion=fusion)])


def not_mixed(sense: str, encoders: Iterable[str], *, fusion: str) -> str:
    """Return what is said of encoders nobody mixes."""
    return (
        f"'{sense}' has several encoders ({', '.join(encoders)}), and fusion '{fusion}' does not mix them. Accepted: a "
        "fusion that mixes several encoders, with this sense as the major one, or one encoder. Choose such a fusion, "
        "or leave the encoders out."
    )


def nothing_to_mix(sense: str, *, fusion: str) -> str:
    """Return what is said where encoders are to be mixed and there are none."""
    return (
        f"fusion '{fusion}' mixes several encoders of the major sense, and '{sense}' has none to mix. Accepted: a "
        "major sense that sees through several. Write build(..., encoders=['dinov2', 'siglip'])."
    )
