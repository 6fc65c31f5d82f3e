"""One built sense: the plugin's encoder and core's adapter, with where it came from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from crema_core.errors import ContractError
from crema_core.modality import Features, Modality
from crema_core.model.mmqa import MMQA
from crema_core.model.qformer import QFormer, QFormerText
from crema_core.model.tokens import SenseBatch, SenseFeatures, SenseTokens
from crema_core.plugins.spec import MMQASpec, ModalitySpec


@dataclass(frozen=True)
class Provenance:
    """Which installed package provides a sense; recorded in every checkpoint."""

    distribution: str
    version: str
    api_version: str


class Sense(nn.Module):
    """A modality and its adapter.

    Args:
        modality: the plugin's instance; frozen.
        adapter: the trainable part outside the Q-Former.
        mmqa: the sizes the adapter was built with, number of queries filled in.
        provenance: the package it came from.
        prefix: text before its tokens; the declared one unless the user chose another.
    """

    def __init__(
        self, modality: Modality, adapter: MMQA, mmqa: MMQASpec, provenance: Provenance, prefix: str | None = None
    ) -> None:
        super().__init__()
        self.modality, self.adapter = modality, adapter
        self.mmqa, self.provenance = mmqa, provenance
        self.prefix = modality.spec.prefix if prefix is None else prefix

    @property
    def spec(self) -> ModalitySpec:
        """The plugin's declaration."""
        return self.modality.spec

    @torch.no_grad()
    def encode(self, batch: SenseBatch) -> SenseFeatures:
        """Run the frozen encoder and check what it returns against the contract.

        Raises:
            ContractError: when shapes or mask are not the declared ones.
        """
        features = self.modality.encode(batch.batch)
        self._check(features, samples=batch.rows.shape[0])
        return SenseFeatures(features, batch.rows)

    def tokens(self, features: SenseFeatures, qformer: QFormer, text: QFormerText | None = None) -> SenseTokens:
        """Turn features `(R, T, N, D)` into language-model tokens `(R, T, Q, L)`; differentiable in the adapter.

        Only real steps pass the Q-Former; padded ones are zero. With `text`, the questions of all samples, each step
        is read with its own sample's question.
        """
        values, mask, times = features.features
        steps_RT = mask if mask.dim() == 2 else mask.any(-1)
        token_mask = None if mask.dim() == 2 else mask[steps_RT]
        if token_mask is not None and bool(token_mask.all()):
            token_mask = None
        keys_MNE = self.adapter.inputs(values[steps_RT])
        asked = None if text is None else text.rows(features.rows[steps_RT.nonzero()[:, 0]])
        hidden_MQH = qformer(self.spec.name, self.adapter.queries, keys_MNE, token_mask, asked)
        tokens_MQL = self.adapter.output(hidden_MQH)
        if not bool(steps_RT.all()):
            empty = tokens_MQL.new_zeros(*steps_RT.shape, *tokens_MQL.shape[1:])
            tokens_RTQL = empty.index_put((steps_RT.nonzero(as_tuple=True)), tokens_MQL)
        else:
            tokens_RTQL = tokens_MQL.unflatten(0, steps_RT.shape)
        return SenseTokens(tokens_RTQL, steps_RT, features.rows, times)

    def _check(self, features: Features, *, samples: int) -> None:
        name, width = type(self.modality).__name__, self.modality.feature_dim
        shape, mask_shape = tuple(features.values.shape), tuple(features.mask.shape)
        if len(shape) != 4 or shape[0] != samples or shape[3] != width:
            raise ContractError(
                f"{name}.encode returned features of shape {shape} for {samples} samples. The contract is "
                f"(samples, steps, tokens, {width}); feature_dim is {width}. Correct encode() or feature_dim."
            )
        if mask_shape not in (shape[:2], shape[:3]) or features.mask.dtype != torch.bool:
            raise ContractError(
                f"{name}.encode returned a {features.mask.dtype} mask of shape {mask_shape}. The contract is a bool "
                f"mask of shape {shape[:2]} or {shape[:3]}. Return Features(values, batch.mask)."
            )
        if not bool(features.mask.flatten(1).any(1).all()):
            raise ContractError(
                f"{name}.encode masked away every step of a sample. A present sense has at least one real step. "
                "Refuse empty sources in prepare() with a MediaError."
            )
