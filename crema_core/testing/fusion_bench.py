"""A fusion in a model on a built-in tiny backbone: what the silver and gold checks of fusions work on.

Three modalities stand before it: the built-in one that sees as the major one, rows of numbers, and rows with a clock.
Their tokens come from the connectors the fusion itself names, so a fusion of any kind gets what it is made for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations
from typing import Any, NamedTuple

import torch
from torch import Tensor

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.api.requests import ModalityRequest
from crema_core.errors import BuildError
from crema_core.features.prepare import prepare_batch
from crema_core.fusion import SenseSet
from crema_core.plugins import registry
from crema_core.plugins.policy import CORE_DISTRIBUTION
from crema_core.testing.bench import MAX_DIFFERENCE
from crema_core.testing.companion import CLOCKED, COMPANION, WIDTH
from crema_core.testing.offline import offline
from crema_core.testing.subject import IN_PROCESS, FusionUnderTest
from crema_core.tokens import Segment, SenseTokens

(MAJOR,) = (name for name, owner in registry.known_packages("modality").items() if owner == CORE_DISTRIBUTION)
"""The built-in modality."""
PLAIN, TIMED = COMPANION.name, CLOCKED.name
NAMES = (MAJOR, PLAIN, TIMED)
BACKBONES = ("crema-tiny", "crema-tiny-video")
"""The second one for a fusion that needs the visual tokens of a video language model."""
QUESTION = "what is it ?"

Source = Mapping[str, Any]


class Stretch(NamedTuple):
    """What one segment puts before the question of one sample.

    Attributes:
        prefix: text of the segment.
        prefixes_first: see `Segment`.
        counts: number of tokens of every step that has some.
        tokens: `(sum of counts, L)`.
    """

    prefix: str | None
    prefixes_first: bool
    counts: tuple[int, ...]
    tokens: Tensor


@contextmanager
def known(subject: FusionUnderTest) -> Iterator[None]:
    """Let `build` and `load` find the kit's modalities, and a fusion that was given as a class."""
    with registry.temporary_registrations():
        for spec in (COMPANION, CLOCKED):
            registry.register(spec, replace=True)
        if subject.known_as == IN_PROCESS:
            registry.register(subject.strategy, kind="fusion", name=IN_PROCESS, replace=True)
        yield


def cases(subject: FusionUnderTest) -> tuple[Mapping[str, Any], ...]:
    """Return the option sets the fusion is tried with."""
    return subject.strategy.test_options or ({},)


def build_with(subject: FusionUnderTest, options: Mapping[str, Any], names: Sequence[str] = NAMES) -> CremaModel:
    """Build a model of some of the kit's modalities with the fusion, without network."""
    requests: dict[str, ModalityRequest] = {
        MAJOR: {"name": MAJOR, "num_frames": 3},
        PLAIN: {"name": COMPANION},
        TIMED: {"name": CLOCKED},
    }
    first: BuildError | None = None
    for backbone in BACKBONES:
        try:
            with known(subject), offline():
                return build(
                    [requests[name] for name in names],
                    backbone=backbone,
                    fusion={**options, "name": subject.known_as},
                    major=MAJOR,
                )
        except BuildError as error:
            first = first or error
    assert first is not None
    raise first


def models(subject: FusionUnderTest) -> Iterator[tuple[Mapping[str, Any], CremaModel]]:
    """Yield every set of options with a model of all the kit's modalities, built once for all checks."""
    for number, options in enumerate(cases(subject)):
        made = subject.share(f"model {number}", lambda options=options: _drawn(build_with(subject, options)))  # type: ignore[misc]
        yield options, made


def _drawn(model: CremaModel) -> CremaModel:
    """Give every parameter of the fusion a value other than its start, which may be zero and hide what it does."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.fusion.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model


def source(name: str, seed: int, *, steps: int = 3) -> Tensor:
    """Return a synthetic source of one of the kit's modalities."""
    generator = torch.Generator().manual_seed(seed)
    if name == MAJOR:
        return torch.randint(0, 256, (steps, 3, 40, 48), generator=generator, dtype=torch.uint8)
    return torch.randn(steps, WIDTH, generator=generator)


def subsets(names: Sequence[str] = NAMES) -> list[tuple[str, ...]]:
    """Return every choice of at least one modality."""
    return [chosen for count in range(1, len(names) + 1) for chosen in combinations(names, count)]


def sample(chosen: Sequence[str], seed: int) -> Source:
    """Return a sample that has some modalities, each with a length of its own."""
    return {name: source(name, seed + NAMES.index(name), steps=1 + (seed + NAMES.index(name)) % 3) for name in chosen}


def tokens_of(model: CremaModel, samples: Sequence[Source]) -> dict[str, SenseTokens]:
    """Return the tokens of a batch as the fusion gets them; differentiable in what is trained."""
    with offline():
        return model.tokens(model.encode(prepare_batch(model, samples)), [QUESTION] * len(samples))


def sense_set(model: CremaModel, tokens: Mapping[str, SenseTokens], num_samples: int) -> SenseSet:
    """Return the modalities of a batch as the fusion sees them."""
    return SenseSet(
        {name: tokens[name] for name in model.names if name in tokens},
        major=model.major,
        num_samples=num_samples,
        prefixes={name: model.sense(name).prefix for name in model.names},
        per_frame=frozenset(name for name, spec in model.specs.items() if spec.per_frame),
    )


def lay_out(model: CremaModel, samples: Sequence[Source]) -> list[Segment]:
    """Return what the fusion makes of a batch, without gradient."""
    with torch.no_grad():
        segments: list[Segment] = model.fusion(sense_set(model, tokens_of(model, samples), len(samples)))
    return segments


def stretches(segments: Sequence[Segment], row: int) -> list[Stretch]:
    """Return what the segments put before the question of one sample; those without a token of it are left out."""
    found = []
    for segment in segments:
        mask = segment.mask[row]
        real = mask if mask.dim() == 2 else mask[:, None].expand(segment.values.shape[1:3])
        counts = tuple(count for count in real.sum(1).tolist() if count)
        if counts:
            found.append(Stretch(segment.prefix, segment.prefixes_first, counts, segment.values[row][real]))
    return found


def difference(first: Sequence[Stretch], second: Sequence[Stretch], *, exactly: bool = False) -> str | None:
    """Return how two layouts of a sample differ, or None; rounding is no difference unless `exactly`."""
    for name in ("prefix", "prefixes_first", "counts"):
        values = [[getattr(one, name) for one in own] for own in (first, second)]
        if values[0] != values[1]:
            return f"{name} of its segments: {values[0]} and {values[1]}"
    for one, other in zip(first, second, strict=True):
        # Rounding grows with what is rounded.
        limit = 0.0 if exactly else MAX_DIFFERENCE * max(1.0, float(other.tokens.abs().max()))
        largest = float((one.tokens - other.tokens).abs().max())
        if not largest <= limit:
            return f"tokens by {largest:.2g}, accepted is {limit:.2g}"
    return None
