"""Fixtures of the registry's tests."""

from tests.support.dummies import dummies, install

__all__ = ["dummies", "install"]
