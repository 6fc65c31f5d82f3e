"""What the encoders of transformers share: weights by hub id or folder, the checkpoint's own front end, windows.

Shape letters as in `base`; K windows of all sounds.
"""

from __future__ import annotations

import abc
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoFeatureExtractor

from crema_audio.encoders.base import AudioEncoder, Windows, cut_samples
from crema_audio.encoders.real import encode_real
from crema_audio.plugin import AudioOptions
from crema_audio.sound import Waveform
from crema_core.errors import AssetError
from crema_core.model.pretrained import load_frozen, read_config, read_processor

ROUNDING_S = 0.001


class PretrainedEncoder(AudioEncoder):
    """An encoder of transformers; a subclass names its classes and turns output into tokens.

    Args:
        options: of the modality; `weights` is a hub id or folder, `revision` a commit of the hub.
    """

    name: ClassVar[str]
    model_class: ClassVar[Any]

    def __init__(self, options: AudioOptions) -> None:
        super().__init__(options)
        self.weights = options.weights or self.default_weights
        self.model: nn.Module | None = None
        self.extractor: Any = None
        self._config: Any = None

    @property
    def config(self) -> Any:
        """The checkpoint's configuration; read from its place before the weights are loaded."""
        if self._config is None:
            self._config = read_config(self._place(), revision=self.options.revision)
        return self._config

    @property
    @abc.abstractmethod
    def longest_s(self) -> float:
        """Seconds of the longest window the checkpoint takes."""

    @abc.abstractmethod
    def part(self, model: Any) -> nn.Module:
        """Return the part of the loaded model that encodes sound."""

    def load(self) -> None:
        """Load weights and front end.

        Raises:
            AssetError: when they cannot be read, or windows are longer than the checkpoint takes.
        """
        model = load_frozen(self.model_class, self._place(), revision=self.options.revision)
        self._config = model.config
        self._read_front_end()
        self.model = self.part(model)

    def load_shapes(self) -> None:
        """Build the model of the configuration; front end and configuration are read from the checkpoint's place.

        Raises:
            AssetError: as `load`.
        """
        self._read_front_end()
        self.model = self.part(self.model_class(self.config)).eval()

    def _read_front_end(self) -> None:
        place, revision = self._place(), self.options.revision
        needed = "The encoder needs the front end it was trained with."
        self.extractor = read_processor(AutoFeatureExtractor, place, revision=revision, needed=needed)
        self.sample_rate_hz = int(self.extractor.sampling_rate)
        if self.options.window_s > self.longest_s + 1e-6:
            raise AssetError(
                f"window_s={self.options.window_s:g} is longer than '{place}' takes. Windows of encoder='{self.name}' "
                f"have at most {self.longest_s:g} s. Set window_s={self.longest_s:g} or less, and num_windows to cover "
                "the sound."
            )

    def cut(self, sound: Waveform) -> Windows:
        """Cut the waveform and run the checkpoint's front end on every window; lengths in samples."""
        if self.extractor is None:
            raise AssetError(
                f"encoder='{self.name}' has no front end yet. It comes with the weights. Call load_assets(None) before "
                "prepare, or build the model with crema_core.build."
            )
        windows, lengths, spans = cut_samples(sound, self.options, rate_hz=self.sample_rate_hz)
        return Windows(torch.stack([self.front(window.numpy()) for window in windows]), lengths, spans)

    def spans(self, sound: Waveform) -> list[tuple[float, float]]:
        """See `AudioEncoder.spans`."""
        return cut_samples(sound, self.options, rate_hz=self.sample_rate_hz)[2]

    def front(self, window_S: np.ndarray) -> Tensor:
        """Return the encoder's input for one window, the same shape for all."""
        found = self.extractor(window_S, sampling_rate=self.sample_rate_hz, return_tensors="pt")
        inputs: Tensor = found[self.extractor.model_input_names[0]][0]
        return inputs.float()

    def forward(self, inputs_BT: Tensor, lengths_BT: Tensor, starts_BT: Tensor) -> tuple[Tensor, Tensor]:
        """See `AudioEncoder`."""
        values_BTND = encode_real(self.tokens, inputs_BT, lengths_BT)
        seconds_BT1 = lengths_BT[..., None] / self.sample_rate_hz
        starts_N = self.token_starts(values_BTND.shape[2]).to(seconds_BT1.device)
        # Resampling may add a sample or two; a token that begins in them covers nothing.
        mask = ((starts_N <= 0) & (seconds_BT1 > 0)) | (starts_N + ROUNDING_S < seconds_BT1)
        return values_BTND * mask[..., None], mask

    @abc.abstractmethod
    def tokens(self, inputs_K: Tensor) -> Tensor:
        """Encode windows `(K, ...)` -> `(K, N, D)`, tokens in order of time, none behind a full window's end."""

    @abc.abstractmethod
    def token_starts(self, num_tokens: int) -> Tensor:
        """Return when each token begins, `(N,)` seconds of its window; below 0 for tokens that cover all of it."""

    def _place(self) -> str:
        if self.weights is None:
            raise AssetError(
                f"encoder='{self.name}' was chosen without weights. It needs a checkpoint in the format of "
                "transformers. Pass {'name': 'audio', 'encoder': '" + self.name + "', 'weights': 'hub id or folder'}."
            )
        return self.weights
