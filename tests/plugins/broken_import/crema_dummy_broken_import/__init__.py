"""A package whose light module cannot be imported."""
