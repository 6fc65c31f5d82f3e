"""The hearing of a vision-language model that has one: its own feature extractor, audio encoder and projector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crema_audio.encoders.base import AudioEncoder, Windows, cut_samples
from crema_audio.plugin import AudioOptions
from crema_audio.sound import Waveform
from crema_core.errors import OptionsError
from crema_core.modality import BuildContext


class BackboneEncoder(AudioEncoder):
    """Tokens as the model's language model would be given them, window by window.

    Args:
        options: of the modality.
        context: the backbone's side.

    Raises:
        OptionsError: when the backbone hears nothing.
    """

    def __init__(self, options: AudioOptions, context: BuildContext) -> None:
        super().__init__(options)
        if not context.hear_dim:
            raise OptionsError(
                "audio.encoder='backbone' came, and this backbone hears nothing. Accepted: a backbone with an audio "
                "encoder of its own, such as Qwen2.5-Omni, Gemma 3n, Gemma 4 or Phi-4. Use such a backbone, or "
                "another encoder: patches, beats, ast, clap, whisper or pe."
            )
        self._context = (context,)  # in a tuple: it is asked, not owned

    @property
    def feature_dim(self) -> int:
        """Width of the language model."""
        return self._context[0].hear_dim

    def cut(self, sound: Waveform) -> Windows:
        """Cut the waveform; inputs `(T, S)`, zero behind the end of a shorter window, lengths in samples."""
        windows, lengths, spans = cut_samples(sound, self.options, rate_hz=self.sample_rate_hz)
        longest = max(map(len, windows))
        padded = [nn.functional.pad(window, (0, longest - len(window))) for window in windows]
        return Windows(torch.stack(padded), lengths, spans)

    def forward(self, inputs_BT: Tensor, lengths_BT: Tensor, starts_BT: Tensor) -> tuple[Tensor, Tensor]:
        """See `AudioEncoder`; inputs are `(B, T, S)`."""
        hear = self._context[0].hear
        assert hear is not None, "the main process encodes"
        heard = {
            (row, step): hear(inputs_BT[row, step, : int(lengths_BT[row, step])])
            for row, step in lengths_BT.nonzero().tolist()
        }
        longest = max(len(tokens) for tokens in heard.values())
        some = next(iter(heard.values()))
        values = some.new_zeros(*lengths_BT.shape, longest, self.feature_dim)
        mask = torch.zeros(values.shape[:3], dtype=torch.bool, device=values.device)
        for (row, step), tokens in heard.items():
            values[row, step, : len(tokens)] = tokens
            mask[row, step, : len(tokens)] = True
        return values, mask
