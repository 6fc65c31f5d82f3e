"""Accelerometer and gyroscope recordings as a sense of CREMA models."""
