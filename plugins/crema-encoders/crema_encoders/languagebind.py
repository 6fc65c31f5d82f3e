"""LanguageBind's encoder of clips (Zhu et al. 2024): a CLIP vision transformer whose layers also attend over time.

transformers has no class for it. Before a layer's own attention, every patch attends to itself at the other frames of
its clip, with a learned vector per frame; clips are as long as the checkpoint was trained with (8 frames), and more
frames are so many clips side by side. The released preprocessing mirrors pictures at random and cuts a random square
out of them while training; here nothing is random.

Shape letters: B samples, T frames, F frames of a clip, M clips, N patches and class token, D width.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPVisionConfig
from transformers.models.clip.modeling_clip import CLIPAttention, CLIPEncoderLayer, CLIPVisionEmbeddings

from crema_core.common.tensors import no_room
from crema_core.errors import AssetError, OptionsError, first_line
from crema_core.model.checkpoint import find_file
from crema_core.model.trainable import freeze
from crema_core.video.vision_encoder import Preprocessing, VisionEncoder
from crema_encoders.base import UNFIT, read_settings, side_of, whole

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_SPACE = re.compile(r"^encoder\.layers\.(\d+)\.(?=self_attn\.|layer_norm[12]\.|mlp\.)")
_TIME = re.compile(r"^encoder\.layers\.(\d+)\.temporal_(attn|layer_norm1|embedding)")
_TIME_NAMES = {"attn": "attention", "layer_norm1": "norm", "embedding": "frames"}
_SIZES = (
    "hidden_size intermediate_size num_hidden_layers num_attention_heads num_channels patch_size hidden_act "
    "layer_norm_eps attention_dropout"
).split()
_UNUSED = re.compile(r"^(post_layernorm\.|embeddings\.position_ids$)")


class VisionSizes(NamedTuple):
    """What the vision part of `config.json` says.

    Attributes:
        clip: of CLIP's vision transformer.
        image_size, patch_size: sides in pixels.
        num_frames: F.
    """

    clip: CLIPVisionConfig
    image_size: int
    patch_size: int
    num_frames: int


class LanguageBindEncoder(VisionEncoder):
    """A checkpoint in LanguageBind's own layout with merged weights, from the hub or a folder."""

    name = "languagebind"
    default_weights = "LanguageBind/LanguageBind_Video_merge"
    sees_clips = True

    @functools.cached_property
    def sizes(self) -> VisionSizes:
        """The vision part of the checkpoint's `config.json`.

        Raises:
            AssetError: when it is absent or of another model.
        """
        try:
            vision = read_settings(self.source, revision=self.revision)["vision_config"]
            if not vision["add_time_attn"]:
                raise ValueError("its layers do not attend over time")
            side = side_of(vision["image_size"])
            clip = CLIPVisionConfig(image_size=side, **{key: vision[key] for key in _SIZES if key in vision})
            patch, frames = (whole(vision[key], what=key) for key in ("patch_size", "num_frames"))
            for key in ("hidden_size", "num_hidden_layers", "num_attention_heads"):
                whole(getattr(clip, key), what=key)
            return VisionSizes(clip, side, patch, frames)
        except UNFIT as error:
            raise AssetError(
                f"'{self.source}' holds no encoder of clips of LanguageBind: {first_line(error)}. Accepted: a hub id "
                f"such as {self.default_weights}, or a folder with its config.json and weights. Check the name, or "
                "download it and name its folder."
            ) from error

    @property
    def preprocessing(self) -> Preprocessing:
        """The shorter side scaled, the middle square cut out; mean and spread are CLIP's."""
        size = self.sizes.image_size
        return Preprocessing(size, MEAN, STD, shorter=size, interpolation="bilinear")

    @property
    def feature_dim(self) -> int:
        """Width D."""
        return int(self.sizes.clip.hidden_size)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns."""
        side = self.sizes.image_size // self.sizes.patch_size
        return side, side

    def frames_wanted(self, num_frames: int) -> int:
        """The next whole number of clips."""
        frames = self.sizes.num_frames
        return -(-num_frames // frames) * frames

    def load(self) -> None:
        """See `VisionEncoder.load`."""
        layers = int(self.sizes.clip.num_hidden_layers)
        if not -layers <= self.layer <= -1:
            raise OptionsError(
                f"layer={self.layer} is none of '{self.source}'. Accepted: -1 (the last) to -{layers}. Leave "
                "layer out for the last."
            )
        with torch.device("meta"):
            model = TimeAwareVision(self.sizes.clip, num_frames=self.sizes.num_frames)
        state = vision_state(self._read())
        missing = sorted(set(model.state_dict()) - set(state))
        if missing or len(state) > len(model.state_dict()):
            first = missing[0] if missing else sorted(set(state) - set(model.state_dict()))[0]
            raise AssetError(
                f"The weights of '{self.source}' are not those of its config.json: {first} is "
                f"{'absent' if missing else 'unknown'}. Accepted: a checkpoint with merged weights (its name ends in "
                "merge). Name that one."
            )
        model.load_state_dict(state, assign=True)
        positions = model.embeddings.position_embedding.num_embeddings
        # In no checkpoint, so still without numbers.
        model.embeddings.register_buffer("position_ids", torch.arange(positions)[None], persistent=False)
        freeze(model)
        self.model = model.eval().to(self.dtype)

    def _read(self) -> dict[str, Tensor]:
        found = {
            name: find_file(self.source, name, revision=self.revision)
            for name in ("model.safetensors", "pytorch_model.bin")
        }
        try:
            if found["model.safetensors"] is not None:
                return load_file(found["model.safetensors"])
            state: dict[str, Tensor] = torch.load(
                str(found["pytorch_model.bin"]), map_location="cpu", weights_only=True
            )
            return state
        except Exception as error:
            raise no_room(self.source, error) or AssetError(
                f"The weights of '{self.source}' cannot be read: {first_line(error)}. Accepted: model.safetensors, or "
                "a pytorch_model.bin of tensors alone. Download or copy it again."
            ) from error

    def forward(self, frames_BTCHW: Tensor) -> Tensor:
        """See `VisionEncoder.forward`; a layer before the last ends the work there."""
        assert self.model is not None, "load() reads the weights"
        patches = self.model(frames_BTCHW.flatten(0, 1).to(self.dtype), self.layer)[:, 1:]
        patches_BTND: Tensor = patches.unflatten(0, tuple(frames_BTCHW.shape[:2]))
        return patches_BTND


class TimeAwareVision(nn.Module):
    """CLIP's vision transformer without its pooled output, its layers with attention over time."""

    def __init__(self, config: CLIPVisionConfig, *, num_frames: int) -> None:
        super().__init__()
        config._attn_implementation = "sdpa"
        self.embeddings = CLIPVisionEmbeddings(config)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.layers = nn.ModuleList(
            TimeAwareLayer(config, num_frames=num_frames) for _ in range(config.num_hidden_layers)
        )

    def forward(self, pixels: Tensor, layer: int) -> Tensor:
        """Return one layer's tokens: `(M * F, 3, S, S)` -> `(M * F, N, D)`."""
        hidden: Tensor = self.norm(self.embeddings(pixels))
        for block in self.layers[: len(self.layers) + layer + 1]:
            hidden = block(hidden)
        return hidden


class TimeAwareLayer(nn.Module):
    """Attention over the frames of a clip, patch by patch, then CLIP's own layer."""

    def __init__(self, config: CLIPVisionConfig, *, num_frames: int) -> None:
        super().__init__()
        self.frames = nn.Parameter(torch.zeros(1, num_frames, config.hidden_size))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = CLIPAttention(config)
        self.space = CLIPEncoderLayer(config)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return tokens of the same shape `(M * F, N, D)`."""
        num_frames = self.frames.shape[1]
        clips_MNFD = hidden.unflatten(0, (-1, num_frames)).transpose(1, 2)
        lines = clips_MNFD.flatten(0, 1) + (self.frames if num_frames > 1 else 0)
        lines = lines + self.attention(self.norm(lines))[0]
        frames = lines.unflatten(0, clips_MNFD.shape[:2]).transpose(1, 2).flatten(0, 1)
        seen: Tensor = self.space(frames, None)
        return seen


def vision_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the vision part of a released checkpoint; the text part and what is never run are left aside."""
    renamed = {}
    for key, value in state.items():
        own = key.removeprefix("vision_model.")
        if own == key or _UNUSED.match(own):
            continue
        own = _SPACE.sub(r"layers.\1.space.", own)
        own = _TIME.sub(lambda found: f"layers.{found[1]}.{_TIME_NAMES[found[2]]}", own)
        renamed[own.replace("pre_layrnorm.", "norm.")] = value
    return renamed
