"""Modalities written for other versions of the contract."""
