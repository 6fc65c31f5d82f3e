"""Fixtures of this room."""

from tests.support.fixtures import languages, model, opt_folder, published, t5_folder
from tests.support.world import clips, tiny_folder, trained

__all__ = [
    "clips",
    "languages",
    "model",
    "opt_folder",
    "published",
    "t5_folder",
    "tiny_folder",
    "trained",
]
