"""The audio part of Perception Encoder (PE-AV, Meta 2025): waveform in, 25 tokens a second out, at 48 kHz."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PeAudioModel

from crema_audio.encoders.pretrained import PretrainedEncoder


class PeEncoder(PretrainedEncoder):
    """Reads the waveform itself. Windows are padded to their full length with silence."""

    name, model_class = "pe", PeAudioModel

    @property
    def feature_dim(self) -> int:
        """Width of its tokens."""
        return int(self.config.audio_config.hidden_size)

    @property
    def longest_s(self) -> float:
        """No fixed position table; the length of its rotary positions."""
        return float(self.config.audio_config.max_position_embeddings * self._token_s())

    def part(self, model: Any) -> nn.Module:
        """The text encoder is let go."""
        vision_encoder: nn.Module = model.audio_encoder
        return vision_encoder

    def front(self, window_S: np.ndarray) -> Tensor:
        """Return `(1, S)`, S a full window on the token grid."""
        hop = round(self._token_s() * self.sample_rate_hz)
        full = math.ceil(self.options.window_s * self.sample_rate_hz / hop) * hop
        return torch.from_numpy(np.pad(window_S, (0, full - len(window_S))))[None]

    def tokens(self, inputs_K: Tensor) -> Tensor:
        """Encode `(K, 1, S)`."""
        assert self.model is not None, "load_assets loads it"
        hidden_KND: Tensor = self.model(inputs_K).last_hidden_state
        return hidden_KND

    def token_starts(self, num_tokens: int) -> Tensor:
        """One token for every hop of its codec."""
        return torch.arange(num_tokens) * self._token_s()

    def _token_s(self) -> float:
        hop = math.prod(self.config.audio_config.dac_config.downsampling_ratios)
        return float(hop / self.sample_rate_hz)
