"""Fixtures of this package's tests."""

from tests.support.fixtures import encoders, languages, model, opt_folder
from tests.support.world import clips, tiny_folder, trained
from tests.train.conftest import new_model, one_thread, t5_folder

__all__ = [
    "clips",
    "encoders",
    "languages",
    "model",
    "new_model",
    "one_thread",
    "opt_folder",
    "t5_folder",
    "tiny_folder",
    "trained",
]
