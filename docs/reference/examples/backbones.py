import json
import shutil
from pathlib import Path
from typing import Any

from transformers import AutoConfig, Blip2Config, Blip2ForConditionalGeneration, PreTrainedConfig

import crema_core
from crema_core.contract import (
    Backbone,
    BackboneFamily,
    BackboneRequest,
    QFormer,
    read_model,
    read_tokenizer,
    tiny_backbone_path,
)


class EchoConfig(Blip2Config):
    model_type = "echo_blip"


AutoConfig.register("echo_blip", EchoConfig, exist_ok=True)


class EchoFamily(BackboneFamily):
    """Loads checkpoints of the model type "echo_blip", laid out as BLIP-2's."""

    def load(self, config: PreTrainedConfig, request: BackboneRequest) -> Backbone:
        request.refuse_image_size(config.vision_config.image_size)
        dtype = request.dtype(config)
        place, revision = request.place, request.settings.revision
        model: Any = read_model(
            Blip2ForConditionalGeneration, place, revision, dtype=dtype, config=config, quantized=None
        )
        return Backbone(
            model.language_model,
            read_tokenizer(place, revision),
            settings=request.settings,
            vision_model=model.vision_model,
            qformer=QFormer(model.qformer, None),
            query_tokens=model.query_tokens,
            language_projection=model.language_projection,
        )


crema_core.registry.register(EchoFamily(), kind="backbone", name="echo_blip")

# A checkpoint of the type: core's tiny one under the other name.
folder = Path(shutil.copytree(tiny_backbone_path(), "checkpoint"))
config = json.loads((folder / "config.json").read_text())
(folder / "config.json").write_text(json.dumps({**config, "model_type": "echo_blip"}))
model = crema_core.build(modalities=["video"], backbone=folder)
print(model.config["parts"]["backbone"]["name"])
