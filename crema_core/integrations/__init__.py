"""Adapters that let other programs use saved models; each imports its program only when that program asks for it."""
