"""Accelerometer and gyroscope recordings as a modality of CREMA models."""

__version__ = "0.3.0"
