"""BEATs, the paper's encoder, from its released checkpoint."""

from __future__ import annotations

from torch import Tensor, nn

from crema_audio.beats import Beats, BeatsConfig, load_beats
from crema_audio.encoders.base import AudioEncoder, Windows, cut_fbank, window_frames
from crema_audio.encoders.real import encode_real
from crema_audio.plugin import AudioOptions
from crema_audio.sound import Waveform
from crema_core.errors import AssetError
from crema_core.model.pretrained import require_digest


class BeatsEncoder(AudioEncoder):
    """Every window is padded with zeros to its full length, as BEATs was trained.

    Args:
        options: of the modality; `weights` names the released checkpoint.
    """

    def __init__(self, options: AudioOptions) -> None:
        super().__init__(options)
        self.model: Beats | None = None

    @property
    def feature_dim(self) -> int:
        """Width of the checkpoint's tokens; 768, the released one's, before it is loaded."""
        config = self.model.config if self.model is not None else BeatsConfig()
        return config.encoder_embed_dim

    def load(self) -> None:
        """Load the weights.

        Raises:
            AssetError: when no file is named, it cannot be used, or it has another digest than `sha256`.
        """
        if self.options.weights is None:
            raise AssetError(
                "encoder='beats', the default of 'audio' on a pretrained backbone, has no weights. It needs the "
                "released checkpoint, for example BEATs_iter3_plus_AS2M.pt. Download it and pass {'name': 'audio', "
                "'encoder': 'beats', 'weights': 'path/to/BEATs_iter3_plus_AS2M.pt'}, or choose another: "
                "{'name': 'audio', 'encoder': 'patches'} needs no weights, and has learned nothing about sound."
            )
        require_digest(self.options.weights, self.options.sha256)
        self.model = load_beats(self.options.weights)

    def load_shapes(self) -> None:
        """Build the released sizes."""
        self.model = Beats(BeatsConfig()).eval()

    def cut(self, sound: Waveform) -> Windows:
        """See `cut_fbank`."""
        return cut_fbank(sound, self.options)

    def forward(self, inputs_BT: Tensor, lengths_BT: Tensor, starts_BT: Tensor) -> tuple[Tensor, Tensor]:
        """See `AudioEncoder`; inputs are `(B, T, F, M)`; all tokens of a real window count."""
        assert self.model is not None, "load_assets loads it"
        missing = window_frames(self.options.window_s) - inputs_BT.shape[2]
        windows_BTFM = nn.functional.pad(inputs_BT, (0, 0, 0, max(missing, 0)))
        values_BTND = encode_real(self.model, windows_BTFM, lengths_BT)
        return values_BTND, (lengths_BT > 0)[..., None].expand(values_BTND.shape[:3])
