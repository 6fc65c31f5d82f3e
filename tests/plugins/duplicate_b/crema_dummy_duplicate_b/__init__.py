"""Provides 'twin', as another package does (b)."""
