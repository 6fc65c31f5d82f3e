"""Frozen models that estimate geometry from RGB frames, as CREMA made its inputs."""
