"""Fixtures of this room."""

from tests.support.fixtures import encoders, model, opt_folder, t5_folder

__all__ = ["encoders", "model", "opt_folder", "t5_folder"]
