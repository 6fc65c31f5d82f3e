"""Hearing for CREMA models: sounds and the sound track of videos."""
