"""Depth, optical flow and surface normals for CREMA models."""
