"""Checkpoints of a model type that transformers does not have, in BLIP-2's format."""

from __future__ import annotations

from transformers import AutoConfig, Blip2Config, PreTrainedConfig

from crema_core.model.backbone import Backbone
from crema_core.model.backbone_family import BackboneFamily, BackboneRequest
from crema_core.model.families import BLIP2


class DummyBlipConfig(Blip2Config):
    """BLIP-2's configuration under another name."""

    model_type = "dummy_blip"


AutoConfig.register("dummy_blip", DummyBlipConfig, exist_ok=True)


class DummyFamily(BackboneFamily):
    """Loads what BLIP-2's family loads."""

    def recognises(self, config: PreTrainedConfig) -> bool:
        """It also loads a type without an entry of its own."""
        return config.model_type == "blip_2_qformer"

    def load(self, config: PreTrainedConfig, request: BackboneRequest) -> Backbone:
        """Load a checkpoint."""
        return BLIP2.load(config, request)


FAMILY = DummyFamily()
