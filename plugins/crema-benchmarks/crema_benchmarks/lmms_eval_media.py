"""What evaluation programs hand over as media, as sources of the modalities that read them.

Programs know pictures, clips and sounds, not modalities. Pictures and clips go to the major modality and sounds to the
first modality that declares it reads waveforms, unless the user names others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from crema_core.api.model import CremaModel
from crema_core.errors import MediaError, OptionsError

SOUND_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".m4a")


@dataclass(frozen=True)
class Routes:
    """Which modality gets which kind of media.

    Attributes:
        picture, clip: names of modalities.
        sound: the modality for sounds; None when the model has none that reads waveforms.
        sound_of_clips: whether it gets the clips too, for their sound track.
    """

    picture: str
    clip: str
    sound: str | None
    sound_of_clips: bool


def routes(
    model: CremaModel, *, picture: str | None = None, clip: str | None = None, sound: str | None = None
) -> Routes:
    """Return which modality gets which kind of media.

    Args:
        model: whose modalities.
        picture, clip: modalities for them; None: the major one.
        sound: the modality for sounds, which then receives the sound track of clips too; None: the first that declares
            waveforms among its inputs, for sounds of their own alone.

    Raises:
        UnknownModalityError: for a modality the model does not have.
    """
    for name in (picture, clip, sound):
        if name is not None:
            model.branch(name)
    hearing = [name for name, spec in model.specs.items() if any(own.kind == "waveform" for own in spec.inputs)]
    return Routes(picture or model.major, clip or model.major, sound or next(iter(hearing), None), sound is not None)


def as_sources(media: Sequence[Any], to: Routes) -> dict[str, Any]:
    """Return the media of one question by modality.

    Args:
        media: PIL images, paths of clips, pictures and sounds, and sounds as mappings with "array" `(S,)` or
            `(channels, S)` and "sampling_rate" in Hz. Several images become the frames of one source.
        to: which modality gets what.

    Raises:
        MediaError: for anything else.
        OptionsError: for a sound when no modality takes sound, or more than one clip or sound.
    """
    found: dict[str, Any] = {}
    pictures: list[Any] = []
    for item in media:
        if isinstance(item, Image.Image):
            pictures.append(item)
        elif isinstance(item, Mapping) and {"array", "sampling_rate"} <= item.keys():
            _give(found, _hearing(to), (np.asarray(item["array"]), float(item["sampling_rate"])))
        elif isinstance(item, str | Path) and Path(item).suffix.lower() in SOUND_SUFFIXES:
            _give(found, _hearing(to), str(item))
        elif isinstance(item, str | Path):
            _give(found, to.clip, str(item))
            if to.sound_of_clips:
                _give(found, _hearing(to), str(item))
        else:
            raise MediaError(
                f"{type(item).__name__} is no kind of media this adapter knows. Accepted: PIL images, paths of files, "
                "and sounds as {'array': ..., 'sampling_rate': ...}. Use a task that gives these."
            )
    if pictures:
        _give(found, to.picture, _frames(pictures))
    return found


def _frames(pictures: Sequence[Image.Image]) -> torch.Tensor:
    """Return `(T, H, W, 3)` uint8; pictures of other sizes are brought to that of the first."""
    pictures = [ImageOps.exif_transpose(own) for own in pictures]
    first = pictures[0].size
    same = [own.convert("RGB") if own.size == first else own.convert("RGB").resize(first) for own in pictures]
    return torch.stack([torch.from_numpy(np.array(own)) for own in same])


def _hearing(to: Routes) -> str:
    if to.sound is None:
        raise OptionsError(
            "The task has a sound, and no modality of this model declares that it reads waveforms. Accepted: models "
            "with a modality for sound. Name one with sound_modality=..., or use another task."
        )
    return to.sound


def _give(found: dict[str, Any], name: str, source: Any) -> None:
    if name in found:
        raise OptionsError(
            f"The task gives one question several sources for '{name}'. Accepted: one clip, one sound, or pictures "
            "that become one clip. Use a task with one, or send kinds of media to different modalities."
        )
    found[name] = source
