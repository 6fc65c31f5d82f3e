"""Bronze: the entry point names a fusion whose options are optional."""

from __future__ import annotations

import inspect

from crema_core.errors import PluginError
from crema_core.testing.check import check, require
from crema_core.testing.subject import FusionUnderTest


@check("bronze", kinds=("fusion",))
def entry_point_names_a_fusion(subject: FusionUnderTest) -> None:
    """The entry point can be imported and names a subclass of `Fusion` that defines `forward`.

    Why: `build(fusion="weighted")` makes an instance of it; an abstract class has none.
    Fix: in `pyproject.toml` write `weighted = "crema_weighted.fusion:WeightedFusion"`, and define
    `forward(self, senses)`.
    """
    require(not isinstance(subject.declared, PluginError), str(subject.declared))
    missing = sorted(subject.strategy.__abstractmethods__)
    require(
        not missing,
        f"{subject.strategy.__name__} lacks {', '.join(missing)}. A fusion lays out the modalities. Define: "
        f"{', '.join(missing)}",
    )


@check("bronze", needs=("entry_point_names_a_fusion",), kinds=("fusion",))
def options_have_defaults(subject: FusionUnderTest) -> None:
    """Every argument of `__init__` beside `supports`, `width` and `num_queries` is keyword-only and has a default.

    Why: `build(fusion="weighted")` gives no options; those a user gives come by name.
    Fix: `def __init__(self, supports, *, width, num_queries, heads=8)`; sizes that are not these three are read in
    `for_sizes`.
    """
    parameters = list(inspect.signature(subject.strategy.__init__).parameters.values())[2:]
    wrong = [
        own.name
        for own in parameters
        if own.kind not in (own.KEYWORD_ONLY, own.VAR_KEYWORD)
        or (own.default is own.empty and own.kind is own.KEYWORD_ONLY and own.name not in SIZES)
    ]
    if "for_sizes" in vars(subject.strategy):  # it may fill in sizes of its own
        wrong = [name for name in wrong if any(own.name == name and own.kind != own.KEYWORD_ONLY for own in parameters)]
    require(
        not wrong,
        f"{', '.join(wrong)} of {subject.strategy.__name__}.__init__ cannot be left out or given by name. Options are "
        "keyword-only and have defaults. Give each a default, after *.",
    )


SIZES = ("width", "num_queries")
