"""Mixture of experts inside the Q-Former (the paper's Table 8): all modalities pass it together, once a sample.

The paper gives one sentence and one figure: 1.02K GFLOPs, where video alone has 1.30K. The language model must then
read fewer tokens than video alone gives it, so one pass reads the features of all modalities and all steps, and a fixed
number of tokens comes out. An expert is what a modality trains anyway: its queries, its LoRA, its output projection. A
router weighs the modalities a sample has, and the weighted sum of their queries passes the Q-Former under the weighted
sum of their LoRAs, reading features that are weighed alike. What is a modality's own travels with its adapter file as
everywhere else.

Shape letters: B samples, R samples that have a modality, P samples with something to mix, T steps, N tokens of a step,
S feature tokens of all modalities and steps, E width the Q-Former attends to, Q queries, K tokens after mixing, H
Q-Former width, L language-model width, X modalities of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from crema_core.common.known import to_device
from crema_core.errors import OptionsError
from crema_core.fusion.all_tokens import check_count
from crema_core.fusion.base import Fusion, FusionSizes, ModalitySet, spread
from crema_core.fusion.connector import QFormerText
from crema_core.model.feature_tokens import run_connector, unpack_features
from crema_core.model.mmqa import MMQA
from crema_core.tokens import ModalityTokens, Segment

QUERIES_PER_CLIP = 3
"""Tokens of a sample, in numbers of queries: with 32 queries 96 tokens, three quarters of video alone's 128."""


class MixtureFusion(Fusion):
    """Adapters as experts of one pass through the Q-Former, weighed by a router.

    A sample without supporting modalities has one expert and nothing to mix: it passes the Q-Former frame by frame, as
    in a model of its major modality alone.

    Args:
        supporting: names of the supporting modalities.
        width: L.
        num_queries: Q of the first modality.
        qformer: E and H.
        num_tokens: K, which the language model reads of a sample; None: three times Q.

    Raises:
        OptionsError: when less than one token is asked for.
    """

    one_query_count = False
    reads_features = True
    test_options = ({}, {"num_tokens": 2})

    def __init__(
        self,
        supporting: Sequence[str],
        *,
        width: int,
        num_queries: int,
        qformer: tuple[int, int],
        num_tokens: int | None = None,
    ) -> None:
        check_count("num_tokens", num_tokens)
        self.encoder_width, self.hidden_size = qformer
        self.num_tokens = QUERIES_PER_CLIP * num_queries if num_tokens is None else num_tokens
        super().__init__(supporting, width=width, num_queries=num_queries)
        self.complete()

    @classmethod
    def for_sizes(cls, supporting: Sequence[str], sizes: FusionSizes, **options: Any) -> Fusion:
        """Build the strategy.

        Raises:
            OptionsError: where the major modality's tokens are a vision-language model's own, past any Q-Former.
        """
        if sizes.visual is not None or sizes.qformer is None:
            raise OptionsError(
                "mixture lets all modalities pass one Q-Former together, and a vision-language model's own visual "
                "tokens pass none. Accepted: a backbone in BLIP-2 or InstructBLIP format. Use fusion='token_mixture', "
                "which mixes the tokens of supporting modalities behind the Q-Former."
            )
        return cls(supporting, width=sizes.width, num_queries=sizes.num_queries, qformer=sizes.qformer, **options)

    def make_block(self, name: str, *, total: int, zero: bool) -> None:
        """Add the router of a modality; one added at zero starts with the score the major modality always has."""
        router = nn.Linear(self.encoder_width, 1)
        if zero:
            nn.init.zeros_(router.weight)
            nn.init.zeros_(router.bias)
        self.blocks[name] = router

    def make_shared(self) -> None:
        """Add what tells the K queries apart where they repeat the Q of an expert."""
        self.places = nn.Parameter(torch.empty(self.num_tokens, self.hidden_size).normal_(std=0.02))

    def forward(self, modalities: ModalitySet) -> list[Segment]:
        """Return K tokens of every sample that has supporting modalities; the others' pass the Q-Former frame by frame.

        Args:
            modalities: whose tokens are features, with the connectors.
        """
        known = self.known(modalities)
        mixed_B = next(iter(modalities.tokens.values())).mask.new_zeros(modalities.num_samples)
        for name in known:
            mixed_B = mixed_B | modalities.present(name)
        alone = {name: own for name in modalities.tokens if (own := self._alone(modalities, name, mixed_B)) is not None}
        apart = self.side_by_side(replace(modalities, tokens=alone), alone)
        if not known:
            return apart
        prefix = modalities.prefixes[modalities.major].replace(" {index}", "")  # the tokens are of the whole clip
        mixed_PKL = self._mix(modalities, known, mixed_B)
        values_BKL = spread(mixed_PKL, mixed_B.nonzero()[:, 0], modalities.num_samples)
        position = 1 if modalities.major in alone else 0
        return [*apart[:position], Segment(values_BKL[:, None], mixed_B[:, None], prefix), *apart[position:]]

    def _alone(self, modalities: ModalitySet, name: str, mixed_B: Tensor) -> ModalityTokens | None:
        """Return a modality's own tokens, of samples in which it is mixed with nothing; None where there are none."""
        tokens = modalities.tokens[name]
        if name in self.blocks:
            return None
        if name == modalities.major:
            index = (~mixed_B[tokens.rows]).nonzero()[:, 0]
            if not index.numel():
                return None
            tokens = tokens.select(index, tokens.rows[index])
        return run_connector(modalities.connectors[name], tokens)

    def _mix(self, modalities: ModalitySet, known: Sequence[str], mixed_B: Tensor) -> Tensor:
        """Return the tokens `(P, K, L)` of all samples with something to mix."""
        mixed_P = mixed_B.nonzero()[:, 0]
        num_mixed = mixed_P.numel()
        place_B = mixed_P.new_zeros(mixed_B.shape).index_copy(
            0, mixed_P, to_device(torch.arange(num_mixed), mixed_P.device)
        )
        inputs = []
        for name in modalities.tokens:
            tokens = modalities.tokens[name]
            index = mixed_B[tokens.rows].nonzero()[:, 0]
            if index.numel() and (name in known or name == modalities.major):
                own = tokens.select(index, place_B[tokens.rows[index]])
                inputs.append(self._read(name, own, modalities, num_mixed))
        scores_PX = torch.stack([one.scores for one in inputs], dim=1)
        weights_PX = scores_PX.softmax(1)
        weights = {one.name: weight_P for one, weight_P in zip(inputs, weights_PX.unbind(1), strict=True)}
        experts = {name: _expert(modalities, name) for name in weights}

        queries_PKH = self.places.expand(num_mixed, -1, -1)
        repeated_K = torch.arange(self.num_tokens, device=self.places.device)
        for name, weight_P in weights.items():
            own_QH = experts[name].queries[0]
            queries_PKH = queries_PKH + weight_P[:, None, None] * own_QH[repeated_K % own_QH.shape[0]]
        # Experts that start alike would give the router nothing to learn from, so the features are weighed too: equal
        # weights leave them as they are.
        shares_PX = weights_PX * scores_PX.isfinite().sum(1, keepdim=True)
        keys_PSE = torch.cat([one.keys * shares_PX[:, own, None, None] for own, one in enumerate(inputs)], dim=1)
        mask_PS = torch.cat([one.mask for one in inputs], dim=1)
        text = _text(inputs, num_mixed)
        qformer = experts[known[0]].qformer
        with qformer.mixing(weights):
            hidden_PKH = qformer(known[0], queries_PKH, keys_PSE, None if bool(mask_PS.all()) else mask_PS, text)
        mixed_PKL = torch.zeros((), device=hidden_PKH.device)
        for name, weight_P in weights.items():
            mixed_PKL = mixed_PKL + weight_P[:, None, None] * experts[name].output(hidden_PKH)
        return mixed_PKL

    def _read(self, name: str, tokens: ModalityTokens, modalities: ModalitySet, num_mixed: int) -> _Input:
        one, text = unpack_features(tokens)
        values, mask = one.features.values, one.features.mask
        mask_RTN = mask if mask.dim() == 3 else mask[:, :, None].expand(values.shape[:3])
        keys_RSE = _expert(modalities, name).inputs(values.flatten(0, 1)).unflatten(0, values.shape[:2]).flatten(1, 2)
        mask_RS = mask_RTN.flatten(1)
        score_R = keys_RSE.new_zeros(keys_RSE.shape[0])  # the major modality's, which the others' are measured against
        if name in self.blocks:
            real_RS1 = mask_RS[:, :, None].to(keys_RSE.dtype)
            mean_RE = (keys_RSE * real_RS1).sum(1) / real_RS1.sum(1)
            score_R = self.blocks[name](mean_RE)[:, 0]
        absent_P = score_R.new_full((num_mixed,), -torch.inf)
        return _Input(
            name,
            spread(keys_RSE, tokens.rows, num_mixed),
            spread(mask_RS, tokens.rows, num_mixed),
            absent_P.index_copy(0, tokens.rows, score_R),
            tokens.rows,
            text,
        )


class _Input(NamedTuple):
    """What one modality brings to the pass."""

    name: str
    keys: Tensor  # `(P, S, E)`
    mask: Tensor  # `(P, S)` bool
    scores: Tensor  # `(P,)`, minus infinity where a sample lacks the modality
    rows: Tensor  # `(R,)` of P
    text: QFormerText | None  # of R samples


def _expert(modalities: ModalitySet, name: str) -> MMQA:
    connector = modalities.connectors[name]
    assert isinstance(connector, MMQA), "the strategy names no connector of its own"
    return connector


def _text(inputs: Sequence[_Input], num_mixed: int) -> QFormerText | None:
    """Return the texts of all mixed samples; every modality brings those of its own samples."""
    texts = [(one.text, one.rows) for one in inputs if one.text is not None]
    if not texts:
        return None
    ids, mask = (spread(own, texts[0][1], num_mixed) for own in texts[0][0])
    for text, rows in texts[1:]:
        ids, mask = ids.index_copy(0, rows, text.ids), mask.index_copy(0, rows, text.mask)
    return QFormerText(ids, mask)
