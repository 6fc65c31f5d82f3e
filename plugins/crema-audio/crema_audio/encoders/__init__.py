"""Encoders of windows of sound, by the name the option `encoder` takes. A new one is a class and a line here."""

from __future__ import annotations

import importlib

from crema_audio.encoders.backbone import BackboneEncoder
from crema_audio.encoders.base import AudioEncoder
from crema_audio.plugin import AudioOptions
from crema_core.modality import BuildContext

# Imported only when chosen: each brings its own model of transformers.
ENCODERS: dict[str, str] = {
    "patches": "crema_audio.encoders.patches:PatchEncoder",
    "beats": "crema_audio.encoders.beats:BeatsEncoder",
    "ast": "crema_audio.encoders.ast:AstEncoder",
    "clap": "crema_audio.encoders.clap:ClapEncoder",
    "whisper": "crema_audio.encoders.whisper:WhisperEncoder",
    "pe": "crema_audio.encoders.pe:PeEncoder",
}
BACKBONE = "backbone"
"""The backbone's own hearing, see `crema_audio.encoders.backbone`."""

__all__ = ["ENCODERS", "AudioEncoder", "make_encoder"]


def make_encoder(options: AudioOptions, context: BuildContext) -> AudioEncoder:
    """Return the encoder the options choose, without weights; the encoder is not left open any more.

    Raises:
        OptionsError: for the backbone's own hearing where it has none.
    """
    assert options.encoder is not None, "chosen_options fills it in"
    if options.encoder == BACKBONE:
        return BackboneEncoder(options, context)
    module, _, name = ENCODERS[options.encoder].partition(":")
    encoder: AudioEncoder = getattr(importlib.import_module(module), name)(options)
    return encoder
