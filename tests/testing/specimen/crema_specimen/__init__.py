"""A package that every check accepts; each fault of tests/testing/faults.py is one edit of it."""
