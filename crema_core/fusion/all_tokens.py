"""The paper's alternatives that merge all tokens, the major modality's included (Table 8: linear, cross-attention).

The paper names them in a sentence each and gives their arithmetic: 1.30K GFLOPs for video alone, 2.47K for self-gated
fusion, which doubles the language model's tokens, 1.87K for linear. Between these two figures linear stands where half
as many tokens again as video's are read, which is the default here. A sample without supporting modalities has nothing
to merge and keeps its tokens.

Shape letters: B samples, R samples that have a modality, T grid steps, Q tokens of a step, K tokens after merging, S
tokens of all modalities and steps, L width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from crema_core.errors import OptionsError
from crema_core.fusion.base import Fusion, FusionSizes, ModalitySet, spread
from crema_core.fusion.strategies import ModalityEmbedding
from crema_core.tokens import Segment


class LinearFusion(Fusion):
    """One linear map over the concatenated tokens of all modalities, the major one included, to a fixed number.

    The map goes over tokens, not channels: at every step of the major modality K tokens are weighted sums of all Q
    tokens of every modality, each with a bias. It is kept as a sum of one `(K, Q)` block per modality, so a modality
    more is a block more.

    Args:
        supporting: names of the supporting modalities.
        width: L.
        num_queries: Q of the supporting modalities.
        major_queries: of the major one; None: Q.
        num_tokens: K, which replace the tokens of all modalities at every step; None: half as many again as Q.

    Raises:
        OptionsError: when less than one token is asked for.

    Example:
        >>> LinearFusion(["one"], width=64, num_queries=32).num_tokens
        48
    """

    starts_at_zero = True
    test_options = ({}, {"num_tokens": 2})

    def __init__(
        self,
        supporting: Sequence[str],
        *,
        width: int,
        num_queries: int,
        major_queries: int | None = None,
        num_tokens: int | None = None,
    ) -> None:
        check_count("num_tokens", num_tokens)
        self.major_queries = num_queries if major_queries is None else major_queries
        self.num_tokens = math.ceil(1.5 * num_queries) if num_tokens is None else num_tokens
        super().__init__(supporting, width=width, num_queries=num_queries)
        self.complete()

    @classmethod
    def for_sizes(cls, supporting: Sequence[str], sizes: FusionSizes, **options: Any) -> Fusion:
        """Build the strategy.

        Raises:
            OptionsError: where the major modality's tokens are a vision-language model's own, as many as it makes them.
        """
        if sizes.visual is not None and sizes.major_queries is None:
            raise OptionsError(
                "linear maps all tokens of a step, the visual ones included, to a fixed number, and a vision-language "
                "model makes its own visual tokens, as many as a picture needs. Accepted: a backbone in BLIP-2 or "
                "InstructBLIP format, or the major modality with own_tokens=False. Use fusion='ungated', which leaves "
                "the visual tokens as they are."
            )
        return cls(
            supporting,
            width=sizes.width,
            num_queries=sizes.num_queries,
            major_queries=sizes.major_queries,
            **options,
        )

    def make_block(self, name: str, *, total: int, zero: bool) -> None:
        """Add a `(K, Q)` block, initialised as the columns of one linear map over all tokens of a step."""
        block = nn.Linear(self.num_queries, self.num_tokens, bias=False)
        bound = 0.0 if zero else self._bound(total)
        nn.init.uniform_(block.weight, -bound, bound)
        self.blocks[name] = block

    def make_shared(self) -> None:
        """Add the major modality's block with the bias of every token, initialised as that of the same map."""
        self.major = nn.Linear(self.major_queries, self.num_tokens)
        bound = self._bound(len(self.supporting))
        for parameter in self.major.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def zero_shared(self) -> None:
        """Hand the major modality's tokens on as they are; further tokens are zero."""
        nn.init.eye_(self.major.weight)
        nn.init.zeros_(self.major.bias)

    def _bound(self, total: int) -> float:
        return 1 / math.sqrt(self.major_queries + self.num_queries * total)

    def forward(self, modalities: ModalitySet) -> list[Segment]:
        """Return K tokens a step in place of all modalities; samples without supporting ones keep the major tokens."""
        known = self.known(modalities)
        if not known:
            return self.side_by_side(modalities, modalities.tokens)
        grid = modalities.grid()
        batch, steps = grid.mask.shape
        fused_BTKL = self.major.bias[:, None].expand(batch, steps, self.num_tokens, self.width)
        if modalities.major in modalities.tokens:
            major = modalities.tokens[modalities.major]
            values_RTQL = _over_tokens(major.values, self.major.weight)
            values_RTQL = nn.functional.pad(values_RTQL, (0, 0, 0, 0, 0, steps - values_RTQL.shape[1]))
            fused_BTKL = fused_BTKL + spread(values_RTQL, major.rows, batch)
        for name in known:
            block = self.blocks[name]
            assert isinstance(block, nn.Linear)
            added_RTKL = _over_tokens(modalities.aligned(name, grid), block.weight)
            if modalities.watch is not None:
                modalities.watch.parts[name] = added_RTKL.detach().float().norm(dim=-1).mean(-1)
            fused_BTKL = fused_BTKL + spread(added_RTKL, modalities.tokens[name].rows, batch)
        present_B = _any_of(modalities, known)
        fused = Segment(fused_BTKL, grid.mask & present_B[:, None], modalities.prefixes[modalities.major])
        return [*_kept(modalities, ~present_B), fused, *_unknown(modalities, known)]


class CrossAttentionFusion(Fusion):
    """Extra prompts, learned, attend to all tokens of all modalities and steps, and follow the major modality's tokens.

    The prompts pass one pre-norm multi-head attention layer of the language model's width, and what they read is added
    to them. An embedding per modality tells their tokens apart. A sample reads what it has, so nothing is aligned.

    Args:
        supporting: names of the supporting modalities.
        width: L, divisible by `num_heads`.
        num_queries: Q.
        num_heads: attention heads.
        num_prompts: K, extra tokens of a sample; None: Q.

    Raises:
        OptionsError: when less than one prompt is asked for.
    """

    test_options = ({}, {"num_prompts": 2})

    def __init__(
        self,
        supporting: Sequence[str],
        *,
        width: int,
        num_queries: int,
        num_heads: int = 8,
        num_prompts: int | None = None,
    ) -> None:
        check_count("num_prompts", num_prompts)
        super().__init__(supporting, width=width, num_queries=num_queries)
        self.num_heads = num_heads
        self.num_prompts = num_queries if num_prompts is None else num_prompts
        self.complete()

    def make_shared(self) -> None:
        """Add prompts, norms, the attention layer, and the major modality's embedding."""
        self.prompts = nn.Parameter(torch.empty(self.num_prompts, self.width).normal_(std=0.02))
        self.prompt_norm, self.key_norm = nn.LayerNorm(self.width), nn.LayerNorm(self.width)
        self.attention = nn.MultiheadAttention(self.width, self.num_heads, batch_first=True)
        self.major = ModalityEmbedding(self.width)

    def make_block(self, name: str, *, total: int, zero: bool) -> None:
        """Add the modality's embedding."""
        self.blocks[name] = ModalityEmbedding(self.width)

    def forward(self, modalities: ModalitySet) -> list[Segment]:
        """Return major tokens, then the prompts; samples without supporting modalities get none."""
        known = self.known(modalities)
        if not known:
            return self.side_by_side(modalities, modalities.tokens)
        batch = modalities.num_samples
        keys, masks = [], []
        for name in modalities.tokens:
            if name in known or name == modalities.major:
                own_BSL, mask_BS = self._keys(modalities, name)
                keys.append(own_BSL)
                masks.append(mask_BS)
        read_BKL = self._attend(torch.cat(keys, dim=1), torch.cat(masks, dim=1))
        present_B1 = _any_of(modalities, known)[:, None]
        extra_B1KL = (self.prompts + read_BKL)[:, None]
        return self.arrange(modalities, extra_B1KL.expand(batch, -1, -1, -1), present_B1, known)

    def _keys(self, modalities: ModalitySet, name: str) -> tuple[Tensor, Tensor]:
        """Return all tokens of a modality for all samples, `(B, S, L)`, and which are real."""
        tokens, is_major = modalities.tokens[name], name == modalities.major
        embedding = self.major if is_major else self.blocks[name]
        # A vision-language model's own tokens may be wider: what its first layers add follows what they read.
        values = embedding(tokens.values[..., : self.width].to(self.prompts.dtype)).flatten(1, 2)
        mask = tokens.mask[:, :, None].expand(tokens.values.shape[:3])
        if tokens.token_mask is not None:
            mask = mask & tokens.token_mask
        own = (spread(one, tokens.rows, modalities.num_samples) for one in (values, mask.flatten(1)))
        return next(own), next(own)

    def _attend(self, keys_BSL: Tensor, mask_BS: Tensor) -> Tensor:
        # A sample with none of these would attend to nothing (NaN): it keeps all keys, its result is masked away.
        mask_BS = mask_BS | ~mask_BS.any(1, keepdim=True)
        keys = self.key_norm(keys_BSL)
        asked = self.prompt_norm(self.prompts).expand(keys.shape[0], -1, -1)
        read, _ = self.attention(asked, keys, keys, key_padding_mask=~mask_BS, need_weights=False)
        result: Tensor = read
        return result


def check_count(name: str, value: int | None) -> None:
    """Refuse a number that leaves the language model no token (`OptionsError`); None is the strategy's default."""
    if value is not None and value < 1:
        raise OptionsError(
            f"fusion: {name}={value} leaves the language model nothing to read. Accepted: 1 or more. Leave {name} out, "
            "or raise it."
        )


def _over_tokens(values_RTQL: Tensor, weight_KQ: Tensor) -> Tensor:
    return weight_KQ @ values_RTQL.to(weight_KQ.dtype)


def _any_of(modalities: ModalitySet, names: Sequence[str]) -> Tensor:
    return torch.stack([modalities.present(name) for name in names]).any(0)


def _kept(modalities: ModalitySet, rows_B: Tensor) -> list[Segment]:
    """Return the major modality's tokens as they are, for some samples."""
    if modalities.major not in modalities.tokens or not bool(rows_B.any()):
        return []
    own = modalities.segment(modalities.major)
    return [own._replace(mask=own.mask & rows_B[:, None])]


def _unknown(modalities: ModalitySet, known: Sequence[str]) -> list[Segment]:
    """Return the supporting modalities without weights, side by side: zero-shot concatenation (A.5)."""
    return [modalities.segment(name) for name in modalities.supporting if name not in known]
