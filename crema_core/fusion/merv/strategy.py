"""MERV as a strategy: the major sense's encoders are mixed in its connector, another strategy fuses the other senses.

MERV itself has one sense only, and ends where the language model begins. So it composes with every strategy that takes
the language model's tokens: what it gives of a clip is the major sense, one step per common step of the encoders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from crema_core.errors import OptionsError, did_you_mean
from crema_core.fusion.base import Fusion, FusionSizes
from crema_core.fusion.merv.options import MervOptions
from crema_core.plugins.spec import parse_settings

DEFAULT = "self_gated"


class MervFusion(Fusion):
    """Stands for the strategy; building it gives the fusion of the supporting senses."""

    major_connector: ClassVar[str] = "encoders"
    support_connector: ClassVar[str] = "qformer"
    major_prefix: ClassVar[str | None] = ""

    @classmethod
    def for_sizes(cls, supports: Sequence[str], sizes: FusionSizes, **options: Any) -> Fusion:
        """Build the fusion of the supporting senses.

        Raises:
            OptionsError: for a bad option of that fusion.
        """
        from crema_core.fusion import make_fusion

        name, own = _name_and_options(options.get("supporting", DEFAULT))
        return make_fusion(name, supports, sizes, options=own)

    @classmethod
    def split_options(cls, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Split options in `supporting`, which is the fusion's, and those of projectors and mixer.

        Raises:
            OptionsError: for an unknown or bad option.
        """
        parsed = parse_settings(MervOptions, dict(options), title="fusion 'merv'")
        cls.inner(options)
        return {"supporting": parsed.supporting}, parsed.of_encoders()

    @classmethod
    def inner(cls, options: Mapping[str, Any]) -> type[Fusion]:
        """Return the strategy of the supporting senses.

        Raises:
            OptionsError: when it is none, or one that needs other tokens than the language model's.
        """
        from crema_core.fusion import fusion_classes

        name, _ = _name_and_options(options.get("supporting", DEFAULT))
        accepted = {key: one for key, one in fusion_classes().items() if one.major_connector == "qformer"}
        if name not in accepted:
            raise OptionsError(
                f"supporting={name!r} cannot fuse what stands beside the encoders of 'merv'. Accepted: "
                f"{', '.join(accepted)}.{did_you_mean(str(name), accepted)} Leave supporting out for '{DEFAULT}'."
            )
        return accepted[name]


def _name_and_options(supporting: str | Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    if isinstance(supporting, str):
        return supporting, {}
    return supporting.get("name"), {key: value for key, value in supporting.items() if key != "name"}
