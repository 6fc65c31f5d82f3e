"""The encoder of Whisper (Radford et al. 2022, arXiv 2212.04356): speech, and events beside it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import WhisperModel

from crema_audio.encoders.pretrained import PretrainedEncoder

TOKEN_S = 0.02
"""Two frames of 10 ms: the second convolution has stride 2."""


class WhisperEncoder(PretrainedEncoder):
    """One token every 20 ms. Windows are padded to 30 s, as it was trained; tokens behind the window are dropped."""

    name, model_class = "whisper", WhisperModel
    default_weights = "openai/whisper-base"

    @property
    def feature_dim(self) -> int:
        """Width of its tokens."""
        return int(self.config.d_model)

    @property
    def longest_s(self) -> float:
        """Length of its position table."""
        return float(self.config.max_source_positions * TOKEN_S)

    def part(self, model: Any) -> nn.Module:
        """The decoder is let go."""
        encoder: nn.Module = model.encoder
        return encoder

    def tokens(self, inputs_K: Tensor) -> Tensor:
        """Encode `(K, mels, 3000)`."""
        assert self.model is not None, "load_assets loads it"
        hidden_KND: Tensor = self.model(inputs_K).last_hidden_state
        return hidden_KND[:, : math.ceil(self.options.window_s / TOKEN_S - 1e-6)]

    def token_starts(self, num_tokens: int) -> Tensor:
        """Every 20 ms."""
        return torch.arange(num_tokens) * TOKEN_S
