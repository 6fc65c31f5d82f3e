"""Fixtures of this package's tests."""

from tests.support.fixtures import encoders, languages, model, opt_folder, t5_folder
from tests.support.world import clips, tiny_folder

__all__ = ["clips", "encoders", "languages", "model", "opt_folder", "t5_folder", "tiny_folder"]
