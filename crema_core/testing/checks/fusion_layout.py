"""Silver: what the fusion lays out before the question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from crema_core.api.model import CremaModel
from crema_core.testing.check import check, require
from crema_core.testing.fusion_bench import (
    MAJOR,
    NAMES,
    build_with,
    cases,
    difference,
    lay_out,
    models,
    sample,
    sense_set,
    stretches,
    subsets,
    tokens_of,
)
from crema_core.testing.subject import FusionUnderTest
from crema_core.tokens import Segment

CONTRACT = ("segments_keep_the_contract",)


@check("silver", needs=("entry_point_names_a_fusion", "options_have_defaults"), kinds=("fusion",))
def segments_keep_the_contract(subject: FusionUnderTest) -> None:
    """`forward` gives segments: finite floats `(B, T, K, L)`, a bool mask `(B, T)` or `(B, T, K)`, a prefix or None.

    Why: the prompt is packed from them; a mask of another shape would move tokens to other steps.
    Fix: the message has the shapes; `senses.grid()` and `senses.framed(name, grid)` give values and masks that fit.
    """
    for options, model in models(subject):
        samples = [sample(NAMES, seed) for seed in range(2)]
        _require_segments(lay_out(model, samples), model, samples, options)


@check("silver", needs=CONTRACT, kinds=("fusion",))
def every_subset_of_modalities_works(subject: FusionUnderTest) -> None:
    """Every choice of modalities is laid out, also without the major one; each sample has at least one token.

    Why: recordings lack modalities, and a batch may lack one in all of its samples; it is then absent from
    `senses.tokens`.
    Fix: take names from `senses.tokens` and `senses.supports`, and look whether the major one is among them.
    """
    for options, model in models(subject):
        for chosen in subsets():
            samples = [sample(chosen, seed) for seed in range(2)]
            try:
                segments = lay_out(model, samples)
            except KeyError as error:
                require(False, f"With {', '.join(chosen)} alone it looks for {error}. Absent modalities are absent.")
            _require_segments(segments, model, samples, options)


@check("silver", needs=("every_subset_of_modalities_works",), kinds=("fusion",))
def absent_modalities_change_nothing(subject: FusionUnderTest) -> None:
    """A sample with the major modality alone is laid out as by a model that has no other.

    Why: a model with more modalities must answer about a plain recording as before.
    Fix: return `self.side_by_side(senses, senses.tokens)` where no supporting modality is there.
    """
    samples = [sample((MAJOR,), seed) for seed in range(2)]
    for number, options in enumerate(cases(subject)):
        model = list(models(subject))[number][1]
        alone = build_with(subject, options, (MAJOR,))
        alone.load_adapter_state_dict(_own_of(model, alone))
        for row, (one, other) in enumerate(zip(_rows(model, samples), _rows(alone, samples), strict=True)):
            found = difference(one, other)
            require(
                found is None,
                f"Sample {row} with '{MAJOR}' alone is laid out otherwise than without other modalities"
                f"{_with(options)}: {found}. Absent modalities change nothing. Return the major tokens as they are.",
            )


@check("silver", needs=("every_subset_of_modalities_works",), kinds=("fusion",))
def samples_ignore_each_other(subject: FusionUnderTest) -> None:
    """A sample is laid out the same alone and in a batch whose other samples are longer or have other modalities.

    Why: an answer would depend on what else is in the batch. Padding and absent samples that leak are the usual reason.
    Fix: use the masks of `senses.framed` wherever steps or modalities are mixed, and mask what a sample does not have.
    """
    samples = [sample(chosen, seed) for seed, chosen in enumerate(subsets())]
    for options, model in models(subject):
        together = _rows(model, samples)
        for row, own in enumerate(samples):
            (alone,) = _rows(model, [own])
            found = difference(together[row], alone)
            require(
                found is None,
                f"A sample with {', '.join(own)} differs in a batch{_with(options)}: {found}. A value depends on its "
                "own sample only. Keep padding and absent modalities out with the masks.",
            )


@check("silver", needs=CONTRACT, kinds=("fusion",))
def layout_is_deterministic(subject: FusionUnderTest) -> None:
    """In eval mode the same tokens give the same segments, bit for bit.

    Why: answers are repeated and runs resumed.
    Fix: draw nothing at random outside of training (`self.training`), where torch's generator is drawn from.
    """
    for options, model in models(subject):
        samples = [sample(NAMES, 0)]
        (first,), (second,) = _rows(model, samples), _rows(model, samples)
        found = difference(first, second, exactly=True)
        require(
            found is None,
            f"The same tokens are laid out otherwise a second time{_with(options)}: {found}. A layout is constant. "
            "Draw nothing at random.",
        )


@check("silver", needs=CONTRACT, kinds=("fusion",))
def tokens_are_left_alone(subject: FusionUnderTest) -> None:
    """`forward` changes none of the tokens it is given.

    Why: training keeps the tokens of modalities that a sub-step does not update and gives them again.
    Fix: no operations in place on `senses.tokens[name].values`: write `values = values + ...`, not `values += ...`.
    """
    for _, model in models(subject):
        samples = [sample(NAMES, seed) for seed in range(2)]
        with torch.no_grad():
            tokens = tokens_of(model, samples)
            before = {name: own.values.clone() for name, own in tokens.items()}
            model.fusion(sense_set(model, tokens, len(samples)))
        changed = [name for name, own in tokens.items() if not torch.equal(own.values, before[name])]
        require(
            not changed,
            f"forward() changes the tokens of {', '.join(changed)}. They are used again. Copy before writing.",
        )


def _rows(model: CremaModel, samples: Sequence[Mapping[str, Any]]) -> list[Any]:
    segments = lay_out(model, samples)
    return [stretches(segments, row) for row in range(len(samples))]


def _own_of(model: CremaModel, alone: CremaModel) -> dict[str, torch.Tensor]:
    """Return the state of a smaller model as the larger one has it; what the larger one lacks stays as it is."""
    state = model.adapter_state_dict()
    return {key: state.get(key, value) for key, value in alone.adapter_state_dict().items()}


def _with(options: Mapping[str, Any]) -> str:
    return f" (options {dict(options)})" if options else ""


def _require_segments(
    segments: object, model: CremaModel, samples: Sequence[Mapping[str, Any]], options: Mapping[str, Any]
) -> None:
    case = f"with {', '.join(samples[0])}{_with(options)}"
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
            f"A segment's prefix is {own.prefix!r} {case}. It is a text or None. Use senses.prefixes[name].",
        )
        require(
            own.grid is None or (own.prefix is None and own.grid[0] * own.grid[1] == shape[2]),
            f"A segment of {shape[2]} tokens has the grid {own.grid} and the prefix {own.prefix!r} {case}. Rows times "
            "columns are the tokens of a step, without a prefix. Leave grid out.",
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
