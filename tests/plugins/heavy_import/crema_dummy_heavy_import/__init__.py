"""A package whose light module imports torch."""
