"""Hooks that break the rules, one way each."""
