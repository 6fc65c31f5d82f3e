"""Silver and gold: what a fusion lays out before the question, and that it trains, is saved and takes a modality more.

Three modalities stand before it in a model on a built-in tiny backbone: the built-in one that sees as the major one,
rows of numbers, and rows with a clock. Their tokens come from the connectors the fusion itself names, so a fusion of
any kind gets what it is made for.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from crema_core.api.build import build
from crema_core.api.load import load
from crema_core.api.model import CremaModel
from crema_core.api.requests import ModalityRequest
from crema_core.errors import BuildError
from crema_core.features.feature_cache import prepare_batch
from crema_core.fusion.base import ModalitySet
from crema_core.model.trainable import names_of, set_trainable
from crema_core.plugins import registry
from crema_core.plugins.loading import CORE_DISTRIBUTION
from crema_core.testing.check import require
from crema_core.testing.fixtures import CLOCKED, COMPANION, MAX_DIFFERENCE, QUESTION, WIDTH, offline
from crema_core.testing.under_test import IN_PROCESS, FusionUnderTest
from crema_core.tokens import ModalityTokens, Segment

(MAJOR,) = (name for name, owner in registry.known_packages("modality").items() if owner == CORE_DISTRIBUTION)
"""The built-in modality."""
PLAIN, TIMED = COMPANION.name, CLOCKED.name
NAMES = (MAJOR, PLAIN, TIMED)
BACKBONES = ("crema-tiny", "crema-tiny-video")
"""The second one for a fusion that needs the visual tokens of a video language model."""

Source = Mapping[str, Any]


def segments_keep_the_contract(under_test: FusionUnderTest) -> None:
    """`forward` gives segments: finite floats `(B, T, K, L)`, a bool mask `(B, T)` or `(B, T, K)`, a prefix or None."""
    for _, model in models(under_test):
        samples = tried(under_test, [sample(NAMES, seed) for seed in range(2)])
        _require_segments(lay_out(model, samples), model, samples)


def every_subset_of_modalities_works(under_test: FusionUnderTest) -> None:
    """Every choice of modalities is laid out, also without the major one; each sample has at least one token."""
    for _, model in models(under_test):
        for chosen in subsets():
            samples = tried(under_test, [sample(chosen, seed) for seed in range(2)])
            try:
                segments = lay_out(model, samples)
            except KeyError as error:
                require(False, f"With {', '.join(chosen)} alone it looks for {error}.")
            _require_segments(segments, model, samples)


def absent_modalities_change_nothing(under_test: FusionUnderTest) -> None:
    """A sample with the major modality alone is laid out as by a model that has no other."""
    samples = tried(under_test, [sample((MAJOR,), seed) for seed in range(2)])
    for options, model in models(under_test):
        alone = build_with(under_test, options, (MAJOR,))
        alone.load_adapter_state_dict(_own_of(model, alone))
        for row, (one, other) in enumerate(zip(_rows(model, samples), _rows(alone, samples), strict=True)):
            found = difference(one, other)
            require(
                found is None,
                f"Sample {row} with '{MAJOR}' alone is laid out otherwise than without other modalities: {found}.",
            )


def samples_ignore_each_other(under_test: FusionUnderTest) -> None:
    """A sample is laid out the same alone and in a batch whose other samples are longer or have other modalities."""
    samples = tried(under_test, [sample(chosen, seed) for seed, chosen in enumerate(subsets())])
    for _, model in models(under_test):
        together = _rows(model, samples)
        for row, own in enumerate(samples):
            (alone,) = _rows(model, [own])
            found = difference(together[row], alone)
            require(found is None, f"A sample with {', '.join(own)} differs in a batch: {found}.")


def layout_is_deterministic(under_test: FusionUnderTest) -> None:
    """In eval mode the same tokens give the same segments, bit for bit."""
    for _, model in models(under_test):
        samples = tried(under_test, [sample(NAMES, 0)])
        (first,), (second,) = _rows(model, samples), _rows(model, samples)
        found = difference(first, second, exactly=True)
        require(found is None, f"The same tokens are laid out otherwise a second time: {found}.")


def tokens_are_left_alone(under_test: FusionUnderTest) -> None:
    """`forward` changes none of the tokens it is given."""
    for _, model in models(under_test):
        samples = tried(under_test, [sample(NAMES, seed) for seed in range(2)])
        with torch.no_grad():
            tokens = tokens_of(model, samples)
            before = {name: own.values.clone() for name, own in tokens.items()}
            model.fusion(modality_set(model, tokens, len(samples)))
        changed = [name for name, own in tokens.items() if not torch.equal(own.values, before[name])]
        require(not changed, f"forward() changes the tokens of {', '.join(changed)}.")


def _rows(model: CremaModel, samples: Sequence[Mapping[str, Any]]) -> list[Any]:
    segments = lay_out(model, samples)
    return [stretches(segments, row) for row in range(len(samples))]


def _own_of(model: CremaModel, alone: CremaModel) -> dict[str, torch.Tensor]:
    """Return the state of a smaller model as the larger one has it; what the larger one lacks stays as it is."""
    state = model.adapter_state_dict()
    return {key: state.get(key, value) for key, value in alone.adapter_state_dict().items()}


def _require_segments(segments: object, model: CremaModel, samples: Sequence[Mapping[str, Any]]) -> None:
    case = f"with {', '.join(samples[0])}"
    require(
        isinstance(segments, list) and bool(segments) and all(isinstance(own, Segment) for own in segments),
        f"forward() returns {type(segments).__name__} {case}. It returns a list of at least one Segment. Return "
        "[Segment(values, mask, prefix)].",
    )
    assert isinstance(segments, list)
    batch, width = len(samples), model.backbone.language_dim
    for own in segments:
        shape = tuple(own.values.shape)
        require(
            len(shape) == 4 and shape[0] == batch and shape[3] == width and own.values.is_floating_point(),
            f"A segment's values are {own.values.dtype} {shape} {case}. They are floats ({batch}, steps, tokens, "
            f"{width}). Correct the shape.",
        )
        require(
            own.mask.dtype == torch.bool and tuple(own.mask.shape) in (shape[:2], shape[:3]),
            f"A segment's mask is {own.mask.dtype} {tuple(own.mask.shape)} {case}. It is bool {shape[:2]} or "
            f"{shape[:3]}. Correct the mask.",
        )
        require(
            own.prefix is None or isinstance(own.prefix, str),
            f"A segment's prefix is {own.prefix!r} {case}. It is a text or None. Use modalities.prefixes[name].",
        )
    for row in range(batch):
        found = stretches(segments, row)
        require(
            bool(found),
            f"Sample {row} has no token {case}. A modality that is there has at least one. Mask only what is absent.",
        )
        require(
            all(bool(own.tokens.isfinite().all()) for own in found),
            f"Tokens of sample {row} are not finite {case}. All must be. Look for a softmax or a mean over nothing.",
        )


def parameters_are_declared(under_test: FusionUnderTest) -> None:
    """Every parameter belongs to one modality (`blocks.<name>.`) or to all; none exists with one modality alone."""
    for options in cases(under_test):
        model = build_with(under_test, options)
        fusion = model.fusion
        strangers = sorted(name for name in fusion.blocks if name not in (PLAIN, TIMED))
        require(not strangers, f"There are blocks of {', '.join(strangers)}.")
        left = sorted(name for name, _ in build_with(under_test, options, (MAJOR,)).fusion.named_parameters())
        require(not left, f"With one modality alone it has the parameters {', '.join(left[:3])}.")


def gradients_reach_what_is_declared(under_test: FusionUnderTest) -> None:
    """With all modalities in a batch, gradients reach every parameter of the fusion; without one, not its block."""
    for options in cases(under_test):
        model = build_with(under_test, options)
        own = dict(model.fusion.named_parameters())
        if not own:
            continue
        reached = _reached(model, NAMES)
        missing = sorted(own.keys() - reached)
        require(not missing, f"No gradient reaches {', '.join(missing[:3])} of the fusion.")
        foreign = sorted(name for name in _reached(model, (MAJOR, PLAIN)) if name.startswith(f"blocks.{TIMED}."))
        require(not foreign, f"Gradients reach {', '.join(foreign[:3])} where no sample has '{TIMED}'.")


def saved_and_loaded_it_lays_out_the_same(under_test: FusionUnderTest) -> None:
    """A saved and loaded model lays out every sample the same, bit for bit."""
    for options in cases(under_test):
        model = _drawn(build_with(under_test, options), 1)
        with tempfile.TemporaryDirectory() as folder, known(under_test), offline():
            model.save_pretrained(Path(folder) / "model")
            loaded = load(Path(folder) / "model")
        found = difference(*(_layout(one, NAMES) for one in (loaded, model)), exactly=True)
        require(found is None, f"A loaded model lays a sample out otherwise than the saved one: {found}.")


def other_modalities_stay_bit_identical(under_test: FusionUnderTest) -> None:
    """Adding a modality changes no parameter that was there, and no layout of a sample without it."""
    for options in cases(under_test):
        model = _drawn(build_with(under_test, options, (MAJOR, PLAIN)), 1)
        before = {name: own.detach().clone() for name, own in model.fusion.named_parameters()}
        layouts = [_layout(model, chosen) for chosen in ((MAJOR,), (PLAIN,), (MAJOR, PLAIN))]
        _add(under_test, model)
        own = dict(model.fusion.named_parameters())
        changed = [name for name, value in before.items() if name not in own or not torch.equal(own[name], value)]
        require(not changed, f"Adding a modality changes {', '.join(changed[:3])}.")
        after = [_layout(model, chosen) for chosen in ((MAJOR,), (PLAIN,), (MAJOR, PLAIN))]
        found = [difference(one, other, exactly=True) for one, other in zip(after, layouts, strict=True)]
        require(
            found == [None] * len(found),
            f"After adding a modality, samples without it are laid out otherwise: {next(filter(None, found), '')}.",
        )


def an_added_modality_starts_at_zero(under_test: FusionUnderTest) -> None:
    """Where `starts_at_zero` is declared, a modality just added changes nothing beside another supporting one."""
    if not under_test.strategy.starts_at_zero:
        return
    for options in cases(under_test):
        model = _drawn(build_with(under_test, options, (MAJOR, PLAIN)), 1)
        _add(under_test, model)
        found = difference(_layout(model, NAMES), _layout(model, (MAJOR, PLAIN)), exactly=True)
        require(
            found is None,
            f"A modality just added changes the layout: {found}. starts_at_zero is declared.",
        )


def _drawn(model: CremaModel, seed: int) -> CremaModel:
    """Give every parameter of the fusion a value other than its start, which may be zero and hide what it does."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.fusion.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model


def _add(under_test: FusionUnderTest, model: CremaModel) -> None:
    with known(under_test), offline():
        model.add_modality({"name": CLOCKED})


def _layout(model: CremaModel, chosen: tuple[str, ...]) -> list[Any]:
    return stretches(lay_out(model, [sample(chosen, 0)]), 0)


def _reached(model: CremaModel, chosen: tuple[str, ...]) -> set[str]:
    """Return the names of the fusion's parameters whose gradient is not zero after one backward pass."""
    _drawn(model, 1)  # a block that starts at zero may hide the gradients of others
    own = dict(model.fusion.named_parameters())
    set_trainable(model, names_of(model, own.values()))
    model.zero_grad()
    samples = [sample(chosen, seed) for seed in range(2)]
    answers = [model.template.target(answer, ()) for answer in ("red", "blue")]
    model.loss(tokens_of(model, samples), [QUESTION] * len(samples), answers).backward()
    return {name for name, one in own.items() if one.grad is not None and bool(one.grad.any())}


class Stretch(NamedTuple):
    """What one segment puts before the question of one sample."""

    prefix: str | None  # text of the segment
    prefixes_first: bool  # see `Segment`
    counts: tuple[int, ...]  # number of tokens of every step that has some
    tokens: Tensor  # `(sum of counts, L)`


@contextmanager
def known(under_test: FusionUnderTest) -> Iterator[None]:
    """Let `build` and `load` find the kit's modalities, and a fusion that was given as a class."""
    with registry.temporary_registrations():
        for spec in (COMPANION, CLOCKED):
            registry.register(spec, replace=True)
        if under_test.known_as == IN_PROCESS:
            registry.register(under_test.strategy, kind="fusion", name=IN_PROCESS, replace=True)
        yield


def cases(under_test: FusionUnderTest) -> Iterator[Mapping[str, Any]]:
    """Yield the option sets the fusion is tried with."""
    for number, options in enumerate(under_test.strategy.test_options or ({},)):
        named = f"test_options[{number}] = {dict(options)}"
        under_test.options = named if under_test.strategy.test_options else "the defaults"
        yield options


def build_with(under_test: FusionUnderTest, options: Mapping[str, Any], names: Sequence[str] = NAMES) -> CremaModel:
    """Build a model of some of the kit's modalities with the fusion, without network."""
    requests: dict[str, ModalityRequest] = {
        MAJOR: {"name": MAJOR, "num_frames": 3},
        PLAIN: {"name": COMPANION},
        TIMED: {"name": CLOCKED},
    }
    first: BuildError | None = None
    for backbone in BACKBONES:
        try:
            with known(under_test), offline():
                return build(
                    [requests[name] for name in names],
                    backbone=backbone,
                    fusion={**options, "name": under_test.known_as},
                    major=MAJOR,
                )
        except BuildError as error:
            first = first or error
    assert first is not None
    raise first


def models(under_test: FusionUnderTest) -> Iterator[tuple[Mapping[str, Any], CremaModel]]:
    """Yield every set of options with a model of all the kit's modalities, built once for all checks."""
    for number, options in enumerate(cases(under_test)):
        made = under_test.once(f"model {number}", lambda options=options: _drawn(build_with(under_test, options), 0))  # type: ignore[misc]
        yield options, made


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


def tried(under_test: FusionUnderTest, samples: list[Source]) -> list[Source]:
    """Return the samples of a batch; messages say which modalities they have, with shapes."""
    shapes = ["; ".join(f"{name} {tuple(own.shape)}" for name, own in one.items()) for one in samples]
    under_test.batch = f"{len(samples)} sample{'s' * (len(samples) > 1)}: {', '.join(shapes)}"
    return samples


def tokens_of(model: CremaModel, samples: Sequence[Source]) -> dict[str, ModalityTokens]:
    """Return the tokens of a batch as the fusion gets them; differentiable in what is trained."""
    with offline():
        return model.tokens(model.encode(prepare_batch(model, samples)), [QUESTION] * len(samples))


def modality_set(model: CremaModel, tokens: Mapping[str, ModalityTokens], num_samples: int) -> ModalitySet:
    """Return the modalities of a batch as the fusion sees them."""
    return ModalitySet(
        {name: tokens[name] for name in model.names if name in tokens},
        major=model.major,
        num_samples=num_samples,
        prefixes={name: model.branch(name).prefix for name in model.names},
        per_frame=frozenset(name for name, spec in model.specs.items() if spec.per_frame),
        connectors={name: model.branch(name).adapter for name in model.names},
    )


def lay_out(model: CremaModel, samples: Sequence[Source]) -> list[Segment]:
    """Return what the fusion makes of a batch, without gradient."""
    with torch.no_grad():
        segments: list[Segment] = model.fusion(modality_set(model, tokens_of(model, samples), len(samples)))
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
