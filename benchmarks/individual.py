"""The paper's baseline: a Q-Former of its own for every modality, fully trained (CREMA section 4, "individual
Q-Formers").

Every modality gets a copy of the frozen backbone's Q-Former and trains all of it, with the same projection, LayerNorm,
queries and output projection as an MMQA and without LoRA. Nothing is fused: the language model reads every modality's
own tokens. What MMQA shares between modalities, this has once per modality.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import nn

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.fusion.connector import Connector
from crema_core.model.backbone import Backbone
from crema_core.model.load_backbone import load_backbone
from crema_core.model.mmqa import MMQA
from crema_core.model.qformer import QFormer


class IndividualQFormer(MMQA):
    """A modality's way through a Q-Former of its own; trained by the same trainer.

    Args:
        adapter: the MMQA whose projection, norm, queries and output projection it takes over.
        plain: the backbone's Q-Former before any LoRA was added; copied.
    """

    kind = "individual"

    def __init__(self, adapter: MMQA, plain: QFormer) -> None:
        Connector.__init__(self)  # an MMQA's own would add a LoRA to the shared Q-Former
        self.name, self.width, self.num_tokens = adapter.name, adapter.width, adapter.num_tokens
        self.projection, self.norm, self.output = adapter.projection, adapter.norm, adapter.output
        self.queries = adapter.queries
        self.own = copy.deepcopy(plain)

    @property
    def qformer(self) -> QFormer:
        """The modality's own Q-Former."""
        return self.own

    def lora(self) -> dict[str, nn.Parameter]:
        """Return nothing: there is no LoRA."""
        return {}


def build_individual(modalities: Sequence[Any], *, backbone: str | Backbone, **options: Any) -> CremaModel:
    """Build the baseline.

    Args:
        modalities, options: as for `crema_core.build`; the fusion is "concat".
        backbone: of a kind whose Q-Former reads no text.
    """
    loaded = backbone if isinstance(backbone, Backbone) else load_backbone(backbone)
    assert loaded.qformer is not None, "a backbone in BLIP-2 format"
    assert loaded.qformer.tokenizer is None, "InstructBLIP's Q-Former reads the question; this baseline does not"
    plain = copy.deepcopy(loaded.qformer)
    model = build(modalities, backbone=loaded, **{**options, "fusion": "concat"})
    for name in model.names:
        adapter = model.branch(name).adapter
        assert isinstance(adapter, MMQA), "concatenated modalities pass the Q-Former"
        model.branch(name).adapter = IndividualQFormer(adapter, plain)
    model.train(False)
    return model
