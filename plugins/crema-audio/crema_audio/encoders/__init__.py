"""Encoders of windows of sound, by the name the option `encoder` takes. A new one is a class and a line here."""

from __future__ import annotations

import importlib

from crema_audio.encoders.base import AudioEncoder
from crema_audio.plugin import AudioOptions

# Imported only when chosen: each brings its own model of transformers.
ENCODERS: dict[str, str] = {
    "patches": "crema_audio.encoders.patches:PatchEncoder",
    "beats": "crema_audio.encoders.beats:BeatsEncoder",
    "ast": "crema_audio.encoders.ast:AstEncoder",
    "clap": "crema_audio.encoders.clap:ClapEncoder",
    "whisper": "crema_audio.encoders.whisper:WhisperEncoder",
    "pe": "crema_audio.encoders.pe:PeEncoder",
}

__all__ = ["ENCODERS", "AudioEncoder", "make_encoder"]


def make_encoder(options: AudioOptions) -> AudioEncoder:
    """Return the encoder the options choose, without weights; the encoder is not left open any more."""
    assert options.encoder is not None, "chosen_options fills it in"
    module, _, name = ENCODERS[options.encoder].partition(":")
    encoder: AudioEncoder = getattr(importlib.import_module(module), name)(options)
    return encoder
