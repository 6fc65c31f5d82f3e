"""The language model inside a video language model, as one that can be asked by itself."""

from __future__ import annotations

from typing import Any, cast

from accelerate import init_empty_weights
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForCausalLM, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING


class TextDecoder(PreTrainedModel, GenerationMixin):
    """A decoder with its output layer, for language models transformers knows only inside a larger one (Qwen-VL).

    Args:
        config: of the decoder.
    """

    base_model_prefix = "model"
    _supports_sdpa = True
    _supports_flash_attn = True
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012 (as transformers declares it)

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        sizes = cast(Any, config)
        self.model = AutoModel.from_config(config)
        self.lm_head = nn.Linear(sizes.hidden_size, sizes.vocab_size, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **settings: Any,
    ) -> CausalLMOutputWithPast:
        """Return the logits, as transformers' decoders do.

        Args:
            input_ids: `(B, S)`, or
            inputs_embeds: `(B, S, L)`.
            attention_mask: `(B, S)`, longer by what is in the cache.
            position_ids: `(B, S)`, or `(3, B, S)` where the decoder turns by time, row and column.
            past_key_values: transformers' cache.
            use_cache: whether to return one.
            logits_to_keep: how many of the last positions, 0 for all, or which.
            **settings: of the decoder.
        """
        output = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **settings,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) and logits_to_keep else slice(None)
        hidden = output.last_hidden_state[:, kept if isinstance(logits_to_keep, int) else logits_to_keep]
        return CausalLMOutputWithPast(logits=self.lm_head(hidden), past_key_values=output.past_key_values)


def causal_model(whole: Any) -> PreTrainedModel:
    """Return the language model inside a video language model as one that can be asked by itself; nothing is copied."""
    config = whole.config.text_config
    with init_empty_weights():
        known = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
        model: Any = AutoModelForCausalLM.from_config(config) if known else TextDecoder(config)
    model.model, model.lm_head = whole.model.language_model, whole.lm_head
    model.generation_config = whole.generation_config
    return cast(PreTrainedModel, model.eval())
