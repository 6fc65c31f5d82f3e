"""Several patches on one video (PAVE section 4.4: a second modality is added to a frozen first patch).

The paper reports it and neither paper nor released code states how outputs combine, so both ways are here. Adding in
parallel keeps every patch's update what it is alone, whatever others are there. Chaining lets a patch see the earlier
ones' work: its queries are the tokens it updates. With queries from elsewhere (released runs query with tokens before
the projector) the two are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor

Update = Callable[[Tensor], Tensor]


def add_patches(tokens: Tensor, patches: Iterable[Update], *, queries: Tensor | None = None) -> Tensor:
    """Add every patch's update of the original tokens.

    Args:
        tokens: `(B, F, S, L)` visual tokens.
        patches: each maps queries to an update `(B, F, S, L)`; for a `PavePatch`, a function that passes its side
            tokens along.
        queries: `(B, F, S, Q)` for all patches; None for the tokens themselves.

    Returns:
        `(B, F, S, L)`; the order of the patches does not matter.
    """
    asked = tokens if queries is None else queries
    for patch in patches:
        tokens = tokens + patch(asked)
    return tokens


def chain_patches(tokens: Tensor, patches: Iterable[Update]) -> Tensor:
    """Let every patch update what the patches before it returned.

    Args:
        tokens: `(B, F, S, L)` visual tokens, the first patch's queries.
        patches: as in `add_patches`, with queries L wide.

    Returns:
        `(B, F, S, L)`.
    """
    for patch in patches:
        tokens = tokens + patch(tokens)
    return tokens
