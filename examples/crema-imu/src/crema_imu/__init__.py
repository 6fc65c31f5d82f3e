"""Accelerometer and gyroscope recordings as a sense of CREMA models."""

__version__ = "0.3.0"
