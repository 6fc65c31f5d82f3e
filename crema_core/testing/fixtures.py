"""What surrounds a modality or fusion under test.

A stand-in for the vision encoder of the backbone, no network, and modalities of the kit, rows of eight numbers, which
what is tested must not change.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from crema_core.data import modality_calls
from crema_core.errors import MediaError
from crema_core.modality import Batch, Features, Modality, Sample
from crema_core.plugins.spec import Capabilities, InputSpec, ModalityOptions, ModalitySpec

VISION_DIM, NUM_TOKENS, IMAGE_SIZE = 24, 5, 32
MAX_DIFFERENCE = 1e-5
"""Largest difference between features that should be equal but are computed in batches of other sizes, as a part of the
largest of them where that is above 1."""
QUESTION = "what is it ?"
WIDTH = 8


def vision(pixels: Tensor) -> Tensor:
    """Stand in for the frozen encoder: `(M, 3, H, W)` -> `(M, 5, 24)`; every token depends on its image alone."""
    mixing = torch.randn(3 * 16, NUM_TOKENS * VISION_DIM, generator=torch.Generator().manual_seed(0))
    pooled = torch.nn.functional.adaptive_avg_pool2d(pixels, 4).flatten(1)
    tokens: Tensor = (pooled @ mixing.to(pooled)).unflatten(1, (NUM_TOKENS, VISION_DIM))
    return tokens


def source(modality: Modality, seed: int) -> object:
    """Return a synthetic source."""
    given: object = modality_calls.example(modality, torch.Generator().manual_seed(seed))
    return given


COMPANION = ModalitySpec(
    name="kit_second",
    summary="Rows of numbers, for checks.",
    factory="crema_core.testing.fixtures:SecondModality",
    options=ModalityOptions,
    test_options=(ModalityOptions(),),
    inputs=(InputSpec(kind="array", description="(T, 8) float"),),
    encoder="features",
    feature_dim=WIDTH,
    prefix="Second: ",
)


class SecondModality(Modality):
    """Takes tensors `(T, 8)`; one token per step."""

    spec = COMPANION

    def prepare(self, source: object) -> Sample:
        """Take the rows as they are."""
        if not isinstance(source, Tensor):
            raise MediaError(f"{source!r} is no tensor. Accepted is (T, {WIDTH}). Pass torch.rand(4, {WIDTH}).")
        return Sample({"rows": source})

    def encode(self, batch: Batch) -> Features:
        """Return `(B, T, 1, 8)`."""
        return Features(batch["rows"][:, :, None], batch.mask)

    def example(self, generator: torch.Generator) -> Tensor:
        """Return `(3, 8)` numbers in 0..1."""
        return torch.rand(3, WIDTH, generator=generator)


CLOCKED = COMPANION.model_copy(
    update={
        "name": "kit_clocked",
        "factory": "crema_core.testing.fixtures:ClockedModality",
        "prefix": "Clocked: ",
        "capabilities": Capabilities(timestamps=True),
    }
)
"""The same with a clock: half a second for every row."""


class ClockedModality(SecondModality):
    """Takes tensors `(T, 8)`; one token per step, each with its time."""

    spec = CLOCKED

    def prepare(self, source: object) -> Sample:
        """Take the rows as they are, half a second each."""
        sample = super().prepare(source)
        start = torch.arange(len(sample.tensors["rows"])) / 2
        return Sample(sample.tensors, torch.stack([start, start + 0.5], dim=1))

    def encode(self, batch: Batch) -> Features:
        """Return `(B, T, 1, 8)` with the times of the steps."""
        return Features(batch["rows"][:, :, None], batch.mask, batch.times)


@contextmanager
def offline() -> Iterator[list[str]]:
    """Refuse every connection of this process and yield the list of those that were tried.

    Sockets inside the machine (AF_UNIX) stay, because worker processes use them.
    """
    tried: list[str] = []
    connect = socket.socket.connect

    def refuse(address: object) -> OSError:
        tried.append(str(address))
        return OSError(f"the network is blocked while a modality is checked; it asked for {address}")

    def connect_local(own: socket.socket, address: Any) -> None:
        if own.family == getattr(socket, "AF_UNIX", None):
            return connect(own, address)
        raise refuse(address)

    def look_up(host: object, *arguments: object, **keywords: object) -> object:
        raise refuse(host)

    with (
        mock.patch.object(socket.socket, "connect", connect_local),
        mock.patch.object(socket.socket, "connect_ex", connect_local),
        mock.patch.object(socket, "getaddrinfo", look_up),
    ):
        yield tried
