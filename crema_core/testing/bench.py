"""The sense alone on the CPU, with a stand-in for the backbone's vision encoder: what the silver checks work on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from crema_core.modality import Batch, BuildContext, Features, Modality, Sample, load_modality_class
from crema_core.plugins.spec import ModalityOptions
from crema_core.testing.offline import offline
from crema_core.testing.subject import Subject

VISION_DIM, NUM_TOKENS, IMAGE_SIZE = 24, 5, 32
MAX_DIFFERENCE = 1e-5
"""Largest difference between features that should be equal but are computed in batches of other sizes, as a part of the
largest of them where that is above 1."""


def vision(pixels: Tensor) -> Tensor:
    """Stand in for the frozen encoder: `(M, 3, H, W)` -> `(M, 5, 24)`; every token depends on its image alone."""
    mixing = torch.randn(3 * 16, NUM_TOKENS * VISION_DIM, generator=torch.Generator().manual_seed(0))
    pooled = torch.nn.functional.adaptive_avg_pool2d(pixels, 4).flatten(1)
    tokens: Tensor = (pooled @ mixing.to(pooled)).unflatten(1, (NUM_TOKENS, VISION_DIM))
    return tokens


def class_of(subject: Subject) -> type[Modality]:
    """Return the sense's class."""
    return subject.share("class", lambda: load_modality_class(subject.plugin))


def build_alone(subject: Subject, options: ModalityOptions) -> Modality:
    """Build the sense without a model and without network."""
    with offline():
        context = BuildContext(vision=vision, vision_dim=VISION_DIM, image_size=IMAGE_SIZE)
        return class_of(subject)(options, context).eval()


def modalities(subject: Subject) -> Iterator[Modality]:
    """Yield the sense built with every set of test options."""
    for number, options in enumerate(subject.cases):
        yield subject.share(f"modality {number}", lambda options=options: build_alone(subject, options))  # type: ignore[misc]


def source(modality: Modality, seed: int) -> object:
    """Return a synthetic source."""
    return modality.example(torch.Generator().manual_seed(seed))


def prepared(modality: Modality, seed: int) -> Sample:
    """Return the sample of a synthetic source."""
    with offline():
        return modality.prepare(source(modality, seed))


def encoded(modality: Modality, samples: list[Sample]) -> Features:
    """Collate and encode, as core does: without gradient."""
    return encoded_batch(modality, modality.collate(samples))


def encoded_batch(modality: Modality, batch: Batch) -> Features:
    """Encode without gradient and without network."""
    with offline(), torch.no_grad():
        return modality.encode(batch)


def doubled(sample: Sample) -> Sample:
    """Return a sample twice as long, on the clock of one twice as long."""
    times = sample.times
    longer = None if times is None else torch.cat([times, times + times.max()])
    return Sample({name: torch.cat([tensor, tensor]) for name, tensor in sample.tensors.items()}, longer)


def first_step(sample: Sample) -> Sample:
    """Return a sample of the first step alone."""
    times = None if sample.times is None else sample.times[:1]
    return Sample({name: tensor[:1] for name, tensor in sample.tensors.items()}, times)


def num_steps(sample: Sample) -> int:
    """Return the number of steps T."""
    return int(next(iter(sample.tensors.values())).shape[0])


def equal(first: Sample, second: Sample) -> bool:
    """Whether two samples hold the same values."""
    names = first.tensors.keys()
    return names == second.tensors.keys() and all(torch.equal(first.tensors[n], second.tensors[n]) for n in names)


def same(first: object, second: object) -> bool:
    """Whether two sources hold the same values: arrays, tensors, or lists, tuples and dicts of them."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return torch.equal(first, second)
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return np.array_equal(first, second)
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


def token_mask(features: Features) -> Tensor:
    """Return the mask as `(B, T, N)`."""
    mask = features.mask
    return mask if mask.dim() == 3 else mask[..., None].expand(features.values.shape[:3])
