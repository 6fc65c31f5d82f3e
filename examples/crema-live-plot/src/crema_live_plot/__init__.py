"""A page in the run directory that plots a CREMA training while it runs."""

__version__ = "0.1.0"
