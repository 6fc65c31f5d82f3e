"""A package that keeps every rule."""
