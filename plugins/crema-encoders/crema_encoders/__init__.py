"""Frozen vision encoders for every modality that sees, each by name: `encoder="siglip"`."""
