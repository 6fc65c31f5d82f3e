"""The base of every sense that sees: a subclass makes RGB frames, the backbone's encoder or a tower encodes them."""

from __future__ import annotations

from pathlib import Path

from crema_core.modality import Batch, BuildContext, Features, Modality
from crema_core.video.towers.options import SeeingOptions
from crema_core.video.towers.seeing import SeeingEncoder


class SeeingModality(Modality):
    """A sense whose tokens are those of a frozen vision encoder; a subclass turns sources into frames.

    Args:
        options: which encoder, and more of the subclass's own.
        context: the backbone's side.

    Example:
        A subclass defines `example` and `prepare`, which ends so::

            return self.encoder.prepare(frames_TCHW, num_frames=self.options.num_frames)
    """

    options: SeeingOptions

    def __init__(self, options: SeeingOptions, context: BuildContext) -> None:
        super().__init__(options, context)
        self.encoder = SeeingEncoder(options, context)

    @property
    def feature_dim(self) -> int:
        """Width of the chosen encoder's features."""
        return self.encoder.feature_dim

    def load_assets(self, folder: Path | None) -> None:
        """Load a tower's weights.

        Raises:
            AssetError: when they cannot be had.
        """
        self.encoder.load()

    def encode(self, batch: Batch) -> Features:
        """Encode every frame: `(B, T, 3, S, S)` -> `(B, T, N, D)`."""
        features: Features = self.encoder(batch)
        return features
