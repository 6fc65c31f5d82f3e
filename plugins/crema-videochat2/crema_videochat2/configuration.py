"""Sizes of VideoChat2 as transformers reads them from `config.json`; the module registers the model type.

The defaults are those of the released model, so `VideoChat2Config()` without a language model is the published shape.
"""

from __future__ import annotations

from typing import Any, Literal

from transformers import AutoConfig, InstructBlipQFormerConfig, PreTrainedConfig

MODEL_TYPE = "videochat2"


class UmtVisionConfig(PreTrainedConfig):
    """The vision encoder UMT-L/16; 23 of its 24 layers exist, because the output of the last but one is taken."""

    model_type = "umt_vision_model"
    base_config_key = "vision_config"

    hidden_size: int = 1024
    intermediate_size: int = 4096
    num_hidden_layers: int = 23
    num_attention_heads: int = 16
    image_size: int = 224
    patch_size: int = 16
    layer_norm_eps: float = 1e-6
    final_norm_eps: float = 1e-12
    trained_frames: int = 4
    trained_side: int = 14


class VideoChat2Config(PreTrainedConfig):
    """The whole model.

    Attributes:
        num_query_tokens, num_extra_query_tokens: queries of the first stage, and those added in the second.
        num_frames: frames of a clip where nothing else is said.
        language_model: hub id or folder of the frozen language model; a name without a separator that exists inside
            this checkpoint's own folder is that folder.
        language_revision: hub revision of it.
        has_lora: whether the checkpoint has a LoRA on the language model (folder `language_lora`).
        training_begin: what stands at position 0 in training, "constant" as released or "embedding" of the begin token,
            see `crema_videochat2.model`.
        image_statistics: "clip" as the released tests normalise pictures, or "imagenet" as the released training does.
    """

    model_type = MODEL_TYPE
    sub_configs = {  # noqa: RUF012 (as transformers declares it)
        "text_config": AutoConfig,
        "vision_config": UmtVisionConfig,
        "qformer_config": InstructBlipQFormerConfig,
    }

    vision_config: dict[str, Any] | PreTrainedConfig | None = None
    qformer_config: dict[str, Any] | PreTrainedConfig | None = None
    text_config: dict[str, Any] | PreTrainedConfig | None = None
    num_query_tokens: int = 32
    num_extra_query_tokens: int = 64
    num_frames: int = 16
    max_instruction_tokens: int = 512
    language_model: str = "mistralai/Mistral-7B-Instruct-v0.2"
    language_revision: str | None = None
    has_lora: bool = True
    training_begin: Literal["constant", "embedding"] = "constant"
    image_statistics: Literal["clip", "imagenet"] = "clip"

    def __post_init__(self, **kwargs: Any) -> None:
        """Turn plain mappings into configurations and fill in the published sizes."""
        vision = _as(UmtVisionConfig, self.vision_config)
        qformer = _as(InstructBlipQFormerConfig, self.qformer_config, vocab_size=30523)
        qformer.encoder_hidden_size = vision.hidden_size
        self.vision_config, self.qformer_config = vision, qformer
        if self.text_config is None or isinstance(self.text_config, dict):
            given = dict(self.text_config or {})
            self.text_config = AutoConfig.for_model(given.pop("model_type", "mistral"), **given)
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]


def _as(kind: type[PreTrainedConfig], given: Any, **defaults: Any) -> Any:
    if isinstance(given, PreTrainedConfig):
        return given
    return kind(**{**defaults, **{key: value for key, value in (given or {}).items() if key != "model_type"}})


AutoConfig.register(MODEL_TYPE, VideoChat2Config, exist_ok=True)
