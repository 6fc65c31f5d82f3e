"""One built sense: the plugin's encoder and core's connector, with where it came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from crema_core.errors import ContractError
from crema_core.fusion.connector import Connector, QFormerText
from crema_core.modality import Features, Modality
from crema_core.plugins.spec import MMQASpec, ModalitySpec
from crema_core.tokens import SenseBatch, SenseFeatures, SenseTokens


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
        adapter: its connector, which holds everything trainable of the sense.
        mmqa: the sizes of an adapter around the Q-Former, number of queries filled in.
        provenance: the package it came from.
        prefix: text before its tokens; the declared one unless the user chose another.

    Attributes:
        defaults: options left open by the user, as the modality chose them for this backbone.
    """

    def __init__(
        self, modality: Modality, adapter: Connector, mmqa: MMQASpec, provenance: Provenance, prefix: str | None = None
    ) -> None:
        super().__init__()
        self.modality, self.adapter = modality, adapter
        self.mmqa, self.provenance = mmqa, provenance
        self.prefix = modality.spec.prefix if prefix is None else prefix
        self.defaults: dict[str, Any] = {}

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

    def tokens(self, features: SenseFeatures, text: QFormerText | None = None) -> SenseTokens:
        """Turn features `(R, T, N, D)` into tokens, see `Connector.forward`; differentiable in the adapter."""
        tokens: SenseTokens = self.adapter(features, text)
        return tokens

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
