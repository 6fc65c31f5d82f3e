"""AST, the audio spectrogram transformer (Gong et al. 2021, arXiv 2104.01778)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import ASTModel

from crema_audio.encoders.pretrained import PretrainedEncoder
from crema_audio.fbank import FRAME_LENGTH

HOP_S = 0.01


class AstEncoder(PretrainedEncoder):
    """Overlapping 16 x 16 patches; its class and distillation tokens first, then instants, bands of one together.

    Windows are padded to the length of the checkpoint's positions (10.24 s); tokens behind the window are dropped.
    """

    name, model_class = "ast", ASTModel
    default_weights = "MIT/ast-finetuned-audioset-10-10-0.4593"

    @property
    def feature_dim(self) -> int:
        """Width of its tokens."""
        return int(self.config.hidden_size)

    @property
    def longest_s(self) -> float:
        """Length of its position table."""
        return float(self.config.max_length * HOP_S)

    def part(self, model: Any) -> nn.Module:
        """All of it."""
        whole: nn.Module = model
        return whole

    def front(self, window_S: np.ndarray) -> Tensor:
        """Return `(max_length, mels)`; a blink of sound is padded to one frame of its filter bank."""
        return super().front(np.pad(window_S, (0, max(FRAME_LENGTH - len(window_S), 0))))

    def tokens(self, inputs_K: Tensor) -> Tensor:
        """Encode `(K, max_length, mels)`."""
        assert self.model is not None, "load_assets loads it"
        hidden_KND = self.model(inputs_K).last_hidden_state
        bands, instants = self._grid()
        first, patches = hidden_KND[:, :2], hidden_KND[:, 2:]
        ordered = patches.unflatten(1, (bands, instants)).transpose(1, 2)[:, : self._kept()]  # (K, instants, bands, D)
        return torch.cat([first, ordered.flatten(1, 2)], dim=1)

    def token_starts(self, num_tokens: int) -> Tensor:
        """The two leading tokens cover the whole window."""
        bands, _ = self._grid()
        starts = torch.arange(self._kept()) * self.config.time_stride * HOP_S
        return torch.cat([torch.full((2,), -1.0), starts.repeat_interleave(bands)])

    def _grid(self) -> tuple[int, int]:
        config = self.config
        bands = (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1
        return bands, (config.max_length - config.patch_size) // config.time_stride + 1

    def _kept(self) -> int:
        steps = round(self.options.window_s / HOP_S)
        return int(min(-(-steps // self.config.time_stride), self._grid()[1]))
