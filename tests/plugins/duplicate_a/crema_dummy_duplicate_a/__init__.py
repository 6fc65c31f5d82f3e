"""Provides 'twin', as another package does (a)."""
