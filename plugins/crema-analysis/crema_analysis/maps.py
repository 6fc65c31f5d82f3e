"""Where each modality's queries look, and how far the gate opens, for one question (CREMA Figure 5).

Shape letters: T steps of a modality, N feature tokens of a step, Q queries, H and W a picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from crema_analysis.observe import watched_attention
from crema_analysis.reads import ReadMap, read_maps
from crema_core.api.model import CremaModel
from crema_core.api.predict import choose
from crema_core.errors import OptionsError
from crema_core.features.feature_cache import prepare_batch
from crema_core.fusion.base import FusionWatch
from crema_core.modality import Batch
from crema_core.model.mmqa import MMQA


@dataclass(frozen=True)
class ModalityMap:
    """Attention of one modality's queries over its feature tokens.

    Attributes:
        weights: `(layers, T, Q, N)`, mean over heads; each row sums to 1 over N.
        pictures: `(T, 3, H, W)` in 0..1, brightness stretched, of what was encoded; None for modalities without
            pictures.
        grid: rows and columns of patches where the tokens are a picture's; None where they are not.
        times: `(T, 2)` seconds, or None.
    """

    weights: Tensor
    pictures: Tensor | None
    grid: tuple[int, int] | None
    times: Tensor | None

    def strips(self, layer: int | None = None) -> Tensor:
        """Return `(T, N)`: the mean over queries, of one cross-attention layer or of all."""
        chosen = self.weights if layer is None else self.weights[layer : layer + 1]
        return chosen.mean((0, 2))

    def heat(self, layer: int | None = None) -> Tensor | None:
        """Return `(T, rows, columns)` over the patches, without a class token; None where tokens are no picture's."""
        if self.grid is None:
            return None
        patches: Tensor = self.strips(layer)[:, -math.prod(self.grid) :]
        return patches.view(-1, *self.grid)


@dataclass(frozen=True)
class GateMap:
    """The self-gated fusion on the major modality's frames.

    Attributes:
        gate: `(T, Q)` in 0..1, mean over the width; None for a fusion without a gate.
        shares: by supporting modality `(T,)`, its part of the summed lengths of what all modalities add to the fused
            tokens.
    """

    gate: Tensor | None
    shares: dict[str, Tensor]


@dataclass(frozen=True)
class Maps:
    """One answered question and what the model looked at.

    Attributes:
        question: as asked.
        answer: the model's.
        modalities: those that pass a Q-Former, by name, in the model's order.
        gate: None where nothing was fused.
        reads: supporting modalities that the major modality's own tokens read, by name; empty for fusions where they
            do not.
    """

    question: str
    answer: str
    modalities: dict[str, ModalityMap]
    gate: GateMap | None
    reads: dict[str, ReadMap] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as plain JSON data: per modality and step the attention, per frame the gate and shares."""
        gate = self.gate
        return {
            "question": self.question,
            "answer": self.answer,
            "modalities": {
                name: {"grid": own.grid, "attention": own.strips().tolist(), "times_s": _listed(own.times)}
                for name, own in self.modalities.items()
            },
            "gate": None if gate is None or gate.gate is None else gate.gate.mean(-1).tolist(),
            "shares": {} if gate is None else {name: own.tolist() for name, own in gate.shares.items()},
            "reads": {name: own.to_dict() for name, own in self.reads.items()},
        }


@torch.no_grad()
def attention_maps(
    model: CremaModel, question: str, sources: Mapping[str, Any], *, choices: tuple[str, ...] | None = None
) -> Maps:
    """Answer one question and return where the model looked.

    Args:
        model: a built model; it is left in the mode it was in, and its outputs are those without watching.
        question: as written.
        sources: by modality.
        choices: of a multiple-choice question.

    Raises:
        UnknownModalityError: for a source of a modality the model does not have.
        OptionsError: without any source, when no modality passes a Q-Former and the clip's tokens read none, or when
            all modalities pass the Q-Former together.
        MediaError: for a source that cannot be read.

    Example:
        >>> maps = attention_maps(model, "what is on the left?", {"video": "a.mp4"})    # doctest: +SKIP
        >>> maps.modalities["video"].heat().shape    # doctest: +SKIP
        torch.Size([2, 8, 8])
    """
    for name in sources:
        model.branch(name)
    if not sources:
        raise OptionsError(
            f"The question {question!r} comes without any source, so there is nothing to look at. Accepted: one or "
            f"more of {', '.join(model.names)}. Name a line that has some."
        )
    reads = model.fusion.shows_reads
    if reads and (model.major not in sources or len(sources) == 1):
        raise OptionsError(
            f"The question comes with {', '.join(sources)} alone. In this model the tokens of '{model.major}' read the "
            f"other modalities. Accepted: '{model.major}' and at least one other. Name a line that has both."
        )
    if not reads and not any(isinstance(model.branch(name).adapter, MMQA) for name in sources):
        raise OptionsError(
            f"None of {', '.join(sources)} passes a Q-Former in this model, so no queries look at them. Accepted: "
            "models on a backbone in BLIP-2 format, whose modalities do, and fusions whose visual tokens read the "
            "others (pave). Use such a model."
        )
    if model.fusion.reads_features:
        raise OptionsError(
            f"The fusion '{model.config['fusion']['name']}' lets all modalities pass the Q-Former together, so no "
            "queries look at one of them alone. Accepted: models whose modalities pass it one by one. Build with "
            "fusion='token_mixture', or another one."
        )
    model.backbone.require_weights()
    with _answering(model):
        batches = prepare_batch(model, [sources])
        features = model.encode(batches)
        asked = [model.template.render(question, choices)]
        tokens, modalities = {}, {}
        for name, own in features.items():
            adapter = model.branch(name).adapter
            if not isinstance(adapter, MMQA):  # it reaches the fusion by another way, without queries that look
                tokens[name] = model.modality_tokens(name, own, asked)
                continue
            with watched_attention(adapter.qformer) as seen:
                tokens[name] = model.modality_tokens(name, own, asked)
            weights = torch.stack(seen).cpu()
            pictures = _pictures(batches[name].batch, num_steps=weights.shape[1])
            # A grid of patches means something only where there is a picture below it.
            grid = None if pictures is None else _grid(weights.shape[-1])
            mask, times = own.features.mask, own.features.times
            real = (mask if mask.dim() == 2 else mask.any(-1))[0]
            modalities[name] = ModalityMap(weights, pictures, grid, None if times is None else times[0][real].cpu())
        major = batches.get(model.major)
        watch = FusionWatch()
        prompt = model.prompt(tokens, asked, watch=watch)
        if choices:
            answer, _ = choose(choices, model.score_choices(prompt, [choices])[0])
        else:
            answer = model.generate(prompt)[0]
    found_reads: dict[str, ReadMap] = {}
    if watch.reads and major is not None:
        pictures = _pictures(major.batch, num_steps=tokens[model.major].values.shape[1])
        found_reads = read_maps(watch.reads, tokens, major=model.major, pictures=pictures)
    total = sum(watch.parts.values(), start=torch.zeros(()))
    shares = {name: (own / total.clamp(min=1e-12))[0].cpu() for name, own in watch.parts.items()}
    gate = None if watch.gate is None else watch.gate[0].cpu()
    fused = GateMap(gate, shares) if gate is not None or shares else None
    return Maps(question, answer, modalities, fused, found_reads)


@contextmanager
def _answering(model: CremaModel) -> Iterator[None]:
    mode = model.training
    model.eval()
    try:
        with model.computing():
            yield
    finally:
        model.train(mode)


def _pictures(batch: Batch, *, num_steps: int) -> Tensor | None:
    """Return the first tensor of a prepared sample that holds one RGB picture per step, stretched to 0..1."""
    for values in batch.tensors.values():
        own = values[0]
        while own.dim() > 4 and own.shape[0] == 1:  # a processor's own dimension for one clip
            own = own[0]
        if own.dim() == 4 and own.shape[:2] == (num_steps, 3):
            frames = own.float()
            low, high = frames.amin(), frames.amax()
            return ((frames - low) / (high - low).clamp(min=1e-6)).cpu()
    return None


def _grid(num_tokens: int) -> tuple[int, int] | None:
    """Return the square grid that N tokens are, with or without a class token before them."""
    for count in (num_tokens, num_tokens - 1):
        side = math.isqrt(count)
        if side > 1 and side * side == count:
            return side, side
    return None


def _listed(times: Tensor | None) -> list[list[float]] | None:
    return None if times is None else times.tolist()


def require_layer(model: CremaModel, layer: int | None) -> None:
    """Raise when the Q-Former has no such cross-attention layer; a model without Q-Former is `attention_maps`' matter.

    Args:
        model: a built model.
        layer: counted from 0; None: the mean of all, which there always is.

    Raises:
        OptionsError: for any other.
    """
    qformer = model.backbone.qformer
    modules = [] if qformer is None else [name for name, _ in qformer.model.named_modules()]
    count = sum(name.endswith(".crossattention") for name in modules)
    if layer is not None and count and not 0 <= layer < count:
        raise OptionsError(
            f"layer={layer} is no cross-attention layer of this Q-Former. It has {count}, 0 to {count - 1}. Name one "
            "of them, or leave layer out for their mean."
        )
