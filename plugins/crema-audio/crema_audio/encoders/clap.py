"""The sound encoder of CLAP (Wu et al. 2022, arXiv 2211.06687), a hierarchical transformer at 48 kHz."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import ClapModel

from crema_audio.encoders.pretrained import PretrainedEncoder


class ClapEncoder(PretrainedEncoder):
    """64 tokens a window (32 instants, 2 bands). A shorter sound is repeated to 10 s, as it was trained.

    Because of the repetition every token of a real window is about real sound, and none has a place in time of its
    own; the window's span is what is known.
    """

    name, model_class = "clap", ClapModel
    default_weights = "laion/clap-htsat-unfused"

    @property
    def feature_dim(self) -> int:
        """Width of its tokens."""
        return int(self.config.audio_config.hidden_size)

    @property
    def longest_s(self) -> float:
        """What its front end takes; longer sounds would be cut at random."""
        return float(self.extractor.max_length_s)

    def part(self, model: Any) -> nn.Module:
        """The text encoder is let go."""
        vision_encoder: nn.Module = model.audio_model
        return vision_encoder

    def front(self, window_S: np.ndarray) -> Tensor:
        """Return `(1, frames, mels)`, or 4 equal ones for a checkpoint that fuses long sounds."""
        longest = self.extractor.nb_max_samples
        return super().front(window_S[:longest])

    def tokens(self, inputs_K: Tensor) -> Tensor:
        """Encode `(K, 1 or 4, frames, mels)`; no window is longer than the checkpoint takes."""
        assert self.model is not None, "load_assets loads it"
        longer = torch.zeros(len(inputs_K), 1, dtype=torch.bool, device=inputs_K.device)
        hidden_KDFT = self.model(input_features=inputs_K, is_longer=longer).last_hidden_state
        tokens_KND: Tensor = hidden_KDFT.permute(0, 3, 2, 1).flatten(1, 2)
        return tokens_KND

    def token_starts(self, num_tokens: int) -> Tensor:
        """All cover the whole window."""
        return torch.full((num_tokens,), -1.0)
