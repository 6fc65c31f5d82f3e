"""Tokens of several encoders brought to common steps and a common number of tokens.

The released code has no such rule: it demands equal lengths, got by choosing the numbers of frames, or a single token,
which it repeats. Here encoders of any lengths go together. The steps of an encoder are equal parts of the clip, in
order (what `pool_steps` and the vision encoders make), so two encoders with different numbers of steps still share a
clock:

- as many real steps as wanted: as they are;
- "average": every wanted step is the mean of the steps it overlaps, weighted by the overlap; one step is repeated;
- "linear": every wanted step is interpolated, at its middle, between the middles of the two nearest steps.

Shape letters: B samples, E encoders, S steps an encoder has, T common steps, K tokens of a step, L width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from crema_core.errors import OptionsError, did_you_mean
from crema_merv.projectors import Projected

Rule = Literal["average", "linear"]


class Aligned(NamedTuple):
    """Tokens of E encoders on the same steps.

    Attributes:
        values: of every encoder `(B, T, K, L)`, zero at padded steps and where a sample lacks the encoder.
        mask: `(B, T)` bool, real steps.
        present: `(B, E)` bool, the encoders a sample has.
    """

    values: list[Tensor]
    mask: Tensor
    present: Tensor


def check_rule(rule: str) -> None:
    """Refuse a rule that is none.

    Raises:
        OptionsError: naming those there are.
    """
    if rule not in get_args(Rule):
        raise OptionsError(
            f"{rule!r} is no rule that aligns encoders in time. Accepted: {', '.join(get_args(Rule))}."
            f"{did_you_mean(rule, get_args(Rule))} Use 'average'."
        )


def align_encoders(
    encoders: Sequence[Projected],
    present_BE: Tensor | None = None,
    *,
    num_steps: int | None = None,
    rule: Rule = "average",
) -> Aligned:
    """Bring all encoders to the same steps and tokens.

    Args:
        encoders: tokens `(B, S, K, L)` each with its own S; K is common or 1.
        present_BE: `(B, E)` bool, the encoders a sample has; None: those with a real step.
        num_steps: T; None: for every sample as many as its encoder with most steps has.
        rule: how steps are made of others, see above.

    Returns:
        Values of an encoder that already has these steps and tokens are not copied.
    """
    check_rule(rule)
    count_BE = torch.stack([encoder.mask.sum(1) for encoder in encoders], dim=1)
    present_BE = (count_BE > 0) if present_BE is None else present_BE & (count_BE > 0)
    wanted_B = (count_BE * present_BE).amax(1)
    if num_steps is not None:
        wanted_B = num_steps * (wanted_B > 0)
    steps = num_steps or max(encoder.mask.shape[1] for encoder in encoders)
    mask_BT = torch.arange(steps, device=wanted_B.device) < wanted_B[:, None]
    tokens = max(encoder.values.shape[2] for encoder in encoders)
    values = []
    for index, (own, mask_BS) in enumerate(encoders):
        if mask_BS.shape != mask_BT.shape or not bool((mask_BS == mask_BT).all()):
            weights_BTS = step_weights(count_BE[:, index], wanted_B, mask_BS.shape[1], steps, rule=rule)
            own = torch.einsum("bts,bskl->btkl", weights_BTS.to(own.dtype), own)
        if not bool(present_BE[:, index].all()):
            own = own * present_BE[:, index, None, None, None]
        values.append(own if own.shape[2] == tokens else own.expand(-1, -1, tokens, -1))
    return Aligned(values, mask_BT, present_BE)


def step_weights(own_B: Tensor, wanted_B: Tensor, num_own: int, num_wanted: int, *, rule: Rule = "average") -> Tensor:
    """Return what every wanted step takes from every own step.

    Args:
        own_B, wanted_B: `(B,)` int, real steps each sample has and gets.
        num_own: S, with padding.
        num_wanted: T, with padding.
        rule: "average" or "linear".

    Returns:
        `(B, T, S)` float32; rows of real steps sum to 1, others to 0.

    Example:
        >>> step_weights(torch.tensor([2]), torch.tensor([3]), 2, 3)
        tensor([[[1.0000, 0.0000],
                 [0.5000, 0.5000],
                 [0.0000, 1.0000]]])
    """
    own, wanted = own_B[:, None, None], wanted_B[:, None, None]
    source = torch.arange(num_own, device=own_B.device)
    target = torch.arange(num_wanted, device=own_B.device)[:, None]
    real = (source < own) & (target < wanted)
    if rule == "average":
        # In units of a clip cut into own * wanted equal parts, so equal lengths give exactly 1 and 0.
        start = torch.maximum(target * own, source * wanted)
        end = torch.minimum((target + 1) * own, (source + 1) * wanted)
        return (end - start).clamp(min=0) * real / own.clamp(min=1)
    middle = (target + 0.5) * own / wanted.clamp(min=1) - 0.5
    middle = middle.clamp(min=0).minimum((own - 1).clamp(min=0).to(middle.dtype))
    return (1 - (middle - source).abs()).clamp(min=0) * real
