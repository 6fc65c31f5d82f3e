"""Fixtures of the command line's tests."""

from tests.support.dummies import dummies, install
from tests.support.fixtures import languages, published
from tests.support.world import clips, tiny_folder, trained

__all__ = ["clips", "dummies", "install", "languages", "published", "tiny_folder", "trained"]
