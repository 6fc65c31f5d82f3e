"""PAVE (arXiv 2503.19794): a patch that adds what side tokens say to the visual tokens of a video language model."""

from __future__ import annotations

from crema_core.fusion.pave.compose import add_patches, chain_patches
from crema_core.fusion.pave.newlines import Newlines, add_newlines, pool_tokens
from crema_core.fusion.pave.patch import PavePatch

__all__ = ["Newlines", "PavePatch", "add_newlines", "add_patches", "chain_patches", "pool_tokens"]
