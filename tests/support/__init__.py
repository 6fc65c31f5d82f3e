"""Shared test material: small random checkpoints and small modalities."""
