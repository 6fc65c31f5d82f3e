"""Fixtures of this room."""

from tests.support.fixtures import encoders, languages, model, opt_folder, published, t5_folder, video_models
from tests.support.world import clips, tiny_folder, trained

__all__ = [
    "clips",
    "encoders",
    "languages",
    "model",
    "opt_folder",
    "published",
    "t5_folder",
    "tiny_folder",
    "trained",
    "video_models",
]
