"""Fixtures of this package's tests."""

from tests.support.fixtures import t5_folder

__all__ = ["t5_folder"]
