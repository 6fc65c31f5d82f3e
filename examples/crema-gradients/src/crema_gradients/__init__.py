"""Gradient norms of every parameter, written while a CREMA model trains."""

__version__ = "0.1.0"
