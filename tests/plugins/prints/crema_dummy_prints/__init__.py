"""Prints whenever its code runs."""
