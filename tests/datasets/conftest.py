"""Fixtures of this room."""

from tests.support.dummies import dummies, install

__all__ = ["dummies", "install"]
