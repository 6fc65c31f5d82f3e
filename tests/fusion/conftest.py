"""Fixtures of this room."""

from tests.support.fixtures import languages, model, opt_folder, published, t5_folder

__all__ = ["languages", "model", "opt_folder", "published", "t5_folder"]
