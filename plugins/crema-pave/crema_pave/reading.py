"""How a layer's tokens read side tokens, laid out over all steps of the side tokens (PAVE Figure 4).

Attention knows a frame's own group of steps alone. To be looked at, its weights are put where those steps are in time;
they are summed up first, over a frame's tokens or over a step's, because all of them at once would be as large as
frames times their tokens times all side tokens.

Shape letters: B samples, F frames, S tokens of a frame, G steps of the longest group, T side steps, N tokens of a step.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from crema_pave.grouping import gather_index


class LayerReading(NamedTuple):
    """One layer's weights, mean over heads.

    Attributes:
        by_place: `(B, F, T, N)`, mean over a frame's tokens.
        by_token: `(B, F, S, T)`, sum over a step's tokens.
    """

    by_place: Tensor
    by_token: Tensor


def over_steps(weights_BFSGN: Tensor, groups: Tensor) -> LayerReading:
    """Put weights of groups where the groups' steps are.

    Args:
        weights_BFSGN: `(B, F, S, G, N)`, each token's sum 1 over G and N.
        groups: `(B, F, T)` bool, the steps each frame reads.

    Returns:
        The weights, 0 at steps a frame does not read, and everywhere for a frame that reads none.
    """
    steps_BFG, _ = gather_index(groups)  # what lies after a group's end has weight 0
    read_BF11 = groups.any(-1)[..., None, None]
    place_BFGN, token_BFSG = weights_BFSGN.mean(2), weights_BFSGN.sum(-1)
    num_steps = groups.shape[-1]
    by_place = place_BFGN.new_zeros(*groups.shape, place_BFGN.shape[-1])
    by_place = by_place.scatter_add(2, steps_BFG[..., None].expand_as(place_BFGN), place_BFGN)
    by_token = token_BFSG.new_zeros(*token_BFSG.shape[:3], num_steps)
    by_token = by_token.scatter_add(3, steps_BFG[:, :, None].expand_as(token_BFSG), token_BFSG)
    return LayerReading(by_place * read_BF11, by_token * read_BF11)
