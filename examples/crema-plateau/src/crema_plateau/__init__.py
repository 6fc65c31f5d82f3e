"""Lowers the learning rate and stops a CREMA training when validation accuracy no longer rises."""

__version__ = "0.1.0"
