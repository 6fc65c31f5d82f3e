"""Measurements of speed, memory and accuracy: `make bench`, `make tables`, or one by one: `python -m benchmarks.NAME`.

Each file compares on the same work in one run and prints a table and one line of JSON. None is part of the test suite.
"""
