"""What `fusion={"name": "merv", ...}` takes: how encoders are projected and mixed, and what fuses other modalities."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from crema_merv.alignment import Rule
from crema_merv.maps import MapKind
from crema_merv.merv import MixerKind
from crema_merv.projectors import ProjectorKind

DEFAULT = "self_gated"
Count = Annotated[int, Field(ge=1)]


class MervOptions(BaseModel):
    """Options of the strategy; the defaults are the paper's."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    projector: ProjectorKind = Field(default="average", description="how every encoder's patches become tokens")
    map_kind: MapKind = Field(default="linear", description="map of a token into the language model")
    mixer: MixerKind = Field(default="cross_attention", description="how the tokens of all encoders become one")
    num_steps: Count | None = Field(
        default=None, description="common steps of all encoders; None: as many as the one with most has"
    )
    rule: Rule = Field(default="average", description="how encoders with other numbers of steps are aligned")
    token_grid: tuple[Count, Count] = Field(default=(8, 8), description="rows and columns of the tokens of a step")
    num_blocks: Count = Field(default=3, description="blocks of the projector conv, before and after its averaging")
    num_heads: Count = Field(default=8, description="attention heads of the projector attentive")
    supporting: str | dict[str, Any] = Field(
        default=DEFAULT, description="fusion of the other modalities, a name or {name: ..., option: value}"
    )

    def of_encoders(self) -> dict[str, Any]:
        """Return the options of `crema_merv.merv.Merv`."""
        return self.model_dump(exclude={"supporting"})
