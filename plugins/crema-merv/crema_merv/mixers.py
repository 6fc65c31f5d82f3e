"""How the tokens of several encoders become one sequence (MERV, "feature fusion").

The paper's mixer gives every encoder of a clip one weight: the softmax over encoders of a learned query times the mean
of the encoder's tokens. Encoders a sample lacks get none, and the others share it.

Shape letters: B samples, E encoders, T steps, K tokens of a step, L language-model width.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from crema_merv.steps import mean_of_steps


class Mixed(NamedTuple):
    """What the language model is shown of a clip.

    Attributes:
        values: `(B, T, K, L)`; of the concatenation `(B, E * T, K, L)`, encoder after encoder.
        mask: `(B, T)` or `(B, E * T)` bool, real steps.
        weights: `(B, E)`, how much every encoder contributes, sums of 1; None where a kind has no weights.
    """

    values: Tensor
    mask: Tensor
    weights: Tensor | None


class Mixer(nn.Module, abc.ABC):
    """Base of the kinds: where the tokens of all encoders have one shape.

    Args:
        num_encoders: E.
        width: L.
    """

    def __init__(self, num_encoders: int, *, width: int) -> None:
        super().__init__()
        self.num_encoders, self.width = num_encoders, width

    @abc.abstractmethod
    def forward(self, values: Sequence[Tensor], mask_BT: Tensor, present_BE: Tensor) -> Mixed:
        """Mix.

        Args:
            values: of every encoder `(B, T, K, L)`, zero at padded steps and where a sample lacks the encoder.
            mask_BT: `(B, T)` bool, real steps.
            present_BE: `(B, E)` bool, the encoders a sample has.
        """


class CrossAttentionMixer(Mixer):
    """The paper's mixer, w = softmax_e(mean_tokens(x_e) . u), with u as its only parameter.

    The released one has 44M parameters at L = 4096 and computes just this: half of them are discarded with the
    attention's output, and the rest is a product that ends in one vector. u starts from the distribution the released
    start gives that product (see `query_spread`), so weights start near uniform as there. `ReleasedMixer` keeps the
    product for training exactly as released.

    Args:
        num_encoders: E.
        width: L.
        inner_width: width of the released attention.
        positional: add one learned score per encoder (the released code's positional vectors, which its model never
            uses, become that).
        num_tokens: T * K, to score all tokens each with an own part of u instead of their mean; None: the mean.
    """

    def __init__(
        self,
        num_encoders: int,
        *,
        width: int,
        inner_width: int = 3072,
        positional: bool = False,
        num_tokens: int | None = None,
    ) -> None:
        super().__init__(num_encoders, width=width)
        self.num_tokens = num_tokens
        keys = width * (num_tokens or 1)
        self.query = nn.Parameter(torch.empty(keys).normal_(std=query_spread(inner_width, keys)))
        self.prior = nn.Parameter(torch.zeros(num_encoders)) if positional else None

    def forward(self, values: Sequence[Tensor], mask_BT: Tensor, present_BE: Tensor) -> Mixed:
        """See `Mixer.forward`."""
        keys_BEL = torch.stack([encoder_key(tokens, mask_BT, self.num_tokens) for tokens in values], dim=1)
        scores_BE = keys_BEL @ self.query
        if self.prior is not None:
            scores_BE = scores_BE + self.prior
        return weighted(values, mask_BT, normalized(scores_BE, present_BE))


class ScalarMixer(Mixer):
    """One learned weight per encoder, the same for every clip (the paper's "learnable weights")."""

    def __init__(self, num_encoders: int, *, width: int) -> None:
        super().__init__(num_encoders, width=width)
        self.scores = nn.Parameter(torch.randn(num_encoders))

    def forward(self, values: Sequence[Tensor], mask_BT: Tensor, present_BE: Tensor) -> Mixed:
        """See `Mixer.forward`."""
        return weighted(values, mask_BT, normalized(self.scores.expand(len(present_BE), -1), present_BE))


class AverageMixer(Mixer):
    """The plain mean (the paper's "25% mixed", for any number of encoders); no parameters."""

    def forward(self, values: Sequence[Tensor], mask_BT: Tensor, present_BE: Tensor) -> Mixed:
        """See `Mixer.forward`."""
        scores_BE = torch.zeros(present_BE.shape, dtype=values[0].dtype, device=present_BE.device)
        return weighted(values, mask_BT, normalized(scores_BE, present_BE))


class ChannelMixer(Mixer):
    """One linear map of all encoders' channels side by side; an encoder a sample lacks is zero in it.

    Args:
        num_encoders: E.
        width: L.
        norm: LayerNorm over the channels before the map.
    """

    def __init__(self, num_encoders: int, *, width: int, norm: bool = False) -> None:
        super().__init__(num_encoders, width=width)
        self.norm = nn.LayerNorm(num_encoders * width) if norm else nn.Identity()
        self.map = nn.Linear(num_encoders * width, width)

    def forward(self, values: Sequence[Tensor], mask_BT: Tensor, present_BE: Tensor) -> Mixed:
        """See `Mixer.forward`."""
        mixed = self.map(self.norm(torch.cat(list(values), dim=-1)))
        return Mixed(mixed * mask_BT[:, :, None, None], mask_BT & present_BE.any(1, keepdim=True), None)


class ConcatMixer(Mixer):
    """All tokens, encoder after encoder; no parameters, and E times the length."""

    def forward(self, values: Sequence[Tensor], mask_BT: Tensor, present_BE: Tensor) -> Mixed:
        """See `Mixer.forward`."""
        masks = [mask_BT & present_B1 for present_B1 in present_BE.split(1, dim=1)]
        return Mixed(torch.cat(list(values), dim=1), torch.cat(masks, dim=1), None)


def query_spread(inner_width: int, key_width: int) -> float:
    """Return the standard deviation of u = Wk^T (Wq Q) / sqrt(M) as the released attention starts, M its width.

    Q is Xavier-uniform over (1, M), variance 2 / (M + 1). Wq and Wk are Xavier-uniform on their own, variances
    2 / (2 M) and 2 / (M + L), so u has 4 / ((M + L)(M + 1)). Where M = L torch draws the three weights as one matrix
    of 3 M rows, variance 2 / (4 M) each, and u has 1 / (2 M (M + 1)). Biases start at zero.

    Args:
        inner_width: M.
        key_width: L.
    """
    if inner_width == key_width:
        return float((2 * inner_width * (inner_width + 1)) ** -0.5)
    return float(2 * ((inner_width + key_width) * (inner_width + 1)) ** -0.5)


def encoder_key(tokens_BTKL: Tensor, mask_BT: Tensor, num_tokens: int | None = None) -> Tensor:
    """Return what an encoder is scored by: the mean of its real tokens `(B, L)`, or all of them `(B, T * K * L)`."""
    if num_tokens is None:
        return mean_of_steps(tokens_BTKL, mask_BT).mean(1)
    steps, tokens = tokens_BTKL.shape[1:3]
    assert steps * tokens == num_tokens, f"{steps} x {tokens} tokens, the query is for {num_tokens}"
    return tokens_BTKL.flatten(1)


def normalized(scores_BE: Tensor, present_BE: Tensor) -> Tensor:
    """Softmax over the encoders a sample has; zeros `(B, E)` where it has none."""
    nobody_B1 = ~present_BE.any(1, keepdim=True)
    scores_BE = scores_BE.masked_fill(~(present_BE | nobody_B1), -torch.inf)
    return scores_BE.softmax(1) * present_BE


def weighted(values: Sequence[Tensor], mask_BT: Tensor, weights_BE: Tensor) -> Mixed:
    """Sum the encoders' tokens by weight, one after another, so that no stack of all of them is kept."""
    mixed = torch.zeros_like(values[0])
    for tokens, weight_B in zip(values, weights_BE.to(values[0].dtype).unbind(1), strict=True):
        mixed = torch.addcmul(mixed, tokens, weight_B[:, None, None, None])
    return Mixed(mixed, mask_BT & (weights_BE > 0).any(1, keepdim=True), weights_BE)
