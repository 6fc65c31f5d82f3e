"""The paper's baseline: a Q-Former of its own for every sense, fully trained (CREMA section 4, "individual Q-Formers").

Every sense gets a copy of the frozen backbone's Q-Former and trains all of it, with the same projection, LayerNorm,
queries and output projection as an MMQA and without LoRA. Nothing is fused: the language model reads every sense's own
tokens. What MMQA shares between senses, this has once per sense.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import nn

from crema_core.model.backbone import Backbone, load_backbone
from crema_core.model.build import build
from crema_core.model.crema import CremaModel
from crema_core.model.qformer import QFormer
from crema_core.model.tokens import SenseFeatures, SenseTokens


class IndividualModel(CremaModel):
    """A model whose senses share no Q-Former; trained by the same trainer, in joint mode as an ordinary network.

    Args:
        model: built with fusion "concat".
        plain: the backbone's Q-Former before any LoRA was added.
    """

    def __init__(self, model: CremaModel, plain: QFormer) -> None:
        senses = {name: model.sense(name) for name in model.names}
        super().__init__(
            model.backbone, senses, model.fusion, major=model.major, template=model.template, config=model.config
        )
        self.own_qformers = nn.ModuleDict({name: copy.deepcopy(plain) for name in self.names})
        self.train(False)

    def sense_tokens(self, name: str, features: SenseFeatures, questions: Sequence[str] | None = None) -> SenseTokens:
        """Return one sense's tokens `(R, T, Q, L)`, read by its own Q-Former."""
        qformer = self.own_qformers[name]
        assert isinstance(qformer, QFormer)
        return self.sense(name).tokens(features, qformer)

    def lora_parameters(self, name: str) -> dict[str, nn.Parameter]:
        """Return nothing: no sense has a LoRA."""
        self.sense(name)
        return {}

    def adapter_parameters(self, name: str) -> dict[str, nn.Parameter]:
        """Return everything trainable of one sense: what surrounds the Q-Former, and all of its own Q-Former."""
        own = super().adapter_parameters(name)
        return own | {f"qformer.{key}": parameter for key, parameter in self.own_qformers[name].named_parameters()}


def build_individual(modalities: Sequence[Any], *, backbone: str | Backbone, **options: Any) -> IndividualModel:
    """Build the baseline.

    Args:
        modalities, options: as for `crema_core.build`; the fusion is "concat".
        backbone: of a kind whose Q-Former reads no text.
    """
    loaded = backbone if isinstance(backbone, Backbone) else load_backbone(backbone)
    assert loaded.qformer.tokenizer is None, "InstructBLIP's Q-Former reads the question; this baseline does not"
    plain = copy.deepcopy(loaded.qformer)
    return IndividualModel(build(modalities, backbone=loaded, **{**options, "fusion": "concat"}), plain)
