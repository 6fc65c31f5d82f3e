"""What a model consists of and what an answer costs: parameters, megabytes and arithmetic by component."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from crema_core.common.tables import table
from crema_core.data import modality_calls
from crema_core.features.feature_cache import prepare_batch
from crema_core.fusion.base import Fusion
from crema_core.model.flops import measure
from crema_core.model.network import CremaNetwork
from crema_core.model.qformer import QFormer

VISION, QFORMER, LANGUAGE, FUSION = "vision encoder", "Q-Former", "language model", "fusion"
QUESTION = "What is it?"
NUM_ANSWER_TOKENS = 5


@dataclass(frozen=True)
class Component:
    """One row of the table."""

    name: str  # part of the backbone, a modality, or the fusion
    frozen: int  # parameters that never change
    trainable: int  # parameters of adapters and fusion
    megabytes: float  # memory of both, in 10^6 bytes
    gflops: float  # 10^9 operations per answer, a multiply-add counted as two


@dataclass(frozen=True)
class Cost:
    """What one answer costs with some modalities."""

    modalities: tuple[str, ...]  # the modalities given
    num_tokens: int  # tokens the language model reads, prefixes and question included
    gflops: dict[str, float]  # 10^9 operations by component, a multiply-add counted as two, frozen encoders included

    @property
    def total_gflops(self) -> float:
        """10^9 operations of one answer."""
        return sum(self.gflops.values())


@dataclass(frozen=True)
class Description:
    """The table `model.describe()` prints."""

    components: tuple[Component, ...]  # backbone, modalities in their order, fusion
    cost: Cost  # of one answer with all modalities
    backbone: str  # where the backbone came from
    # where the language model in place of the backbone's own came from; None for the backbone's own
    language_model: str | None
    fusion: str  # name of the strategy
    major: str  # name of the major modality

    @property
    def total(self) -> Component:
        """The sum of all rows."""
        rows = self.components
        return Component(
            "total",
            sum(row.frozen for row in rows),
            sum(row.trainable for row in rows),
            sum(row.megabytes for row in rows),
            sum(row.gflops for row in rows),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return asdict(self) | {"total": asdict(self.total)}

    def __str__(self) -> str:
        rows = [["component", "frozen", "trainable", "MB", "GFLOPs per answer"]]
        for row in (*self.components, self.total):
            numbers = f"{row.frozen:,}", f"{row.trainable:,}", f"{row.megabytes:,.2f}", f"{row.gflops:,.4g}"
            rows.append([row.name, *numbers])
        width = [max(map(len, column)) for column in zip(*rows, strict=True)]
        aligned = [[row[0], *(cell.rjust(size) for cell, size in zip(row[1:], width[1:], strict=True))] for row in rows]
        override = f", language model {self.language_model}" if self.language_model else ""
        return "\n".join(
            [
                table(aligned),
                "",
                f"{self.cost.num_tokens} tokens into the language model per answer with all modalities, question "
                "included.",
                f"Backbone {self.backbone}{override}, fusion {self.fusion}, major modality {self.major}.",
                f"GFLOPs: a multiply-add counts as two; encoders included; an answer of {NUM_ANSWER_TOKENS} tokens to "
                "a synthetic sample.",
            ]
        )


def describe_model(model: CremaNetwork) -> Description:
    """Return the table of a model's components.

    Args:
        model: a built model; it is left as it was.

    Example:
        >>> print(describe_model(model))    # doctest: +SKIP
    """
    cost = cost_of(model, model.names)
    backbone = model.backbone
    tuned = {id(parameter) for parameter in model.language_parameters().values()}
    # a vision-language model has its vision encoder inside
    seeing = backbone.vision_parts() if backbone.vision_model is None else (backbone.vision_model,)
    vision = list(dict.fromkeys(parameter for part in seeing for parameter in part.parameters()))
    inside = {id(parameter) for parameter in vision}
    language = [parameter for parameter in backbone.language_model.parameters() if id(parameter) not in inside]
    groups: dict[str, tuple[list[nn.Parameter], list[nn.Parameter]]] = {}
    if vision:
        groups[VISION] = (vision, [])
    if backbone.qformer is not None:
        groups[QFORMER] = (_qformer_parameters(model, backbone.qformer), [])
    groups[LANGUAGE] = (
        [parameter for parameter in language if id(parameter) not in tuned],
        [parameter for parameter in language if id(parameter) in tuned],
    )
    for name in model.names:
        branch, trained = model.branch(name), list(model.adapter_parameters(name).values())
        own = [] if branch.modality.trainable else list(branch.modality.parameters())
        frozen = [*own, *branch.adapter.frozen()]
        groups[name] = (frozen, trained)
    groups[FUSION] = ([], list(model.fusion_parameters().values()))
    return Description(
        components=tuple(
            Component(
                name,
                _count(frozen),
                _count(trainable),
                sum(parameter.nbytes for parameter in [*frozen, *trainable]) / 1e6,
                cost.gflops.get(name, 0.0),
            )
            for name, (frozen, trainable) in groups.items()
        ),
        cost=cost,
        backbone=backbone.source,
        language_model=backbone.settings.language_model,
        fusion=str(model.config["fusion"]["name"]),
        major=model.major,
    )


def cost_of(
    model: CremaNetwork,
    names: Sequence[str],
    *,
    sources: Mapping[str, Any] | None = None,
    question: str = QUESTION,
    num_answer_tokens: int = NUM_ANSWER_TOKENS,
    fusion: Fusion | None = None,
) -> Cost:
    """Return what one answer costs when the modalities `names` are given; nothing heavy is computed.

    Args:
        model: a built model; it is left as it was.
        names: modalities of the model; an empty sequence is the question alone.
        sources: a source for every one of them; None: the synthetic example of each modality.
        question: text of the question.
        num_answer_tokens: length of the answer, decoded in one pass as with a key-value cache.
        fusion: the strategy to answer with; None: the model's own.

    Raises:
        UnknownModalityError: for a modality the model does not have.
    """
    generator = torch.Generator().manual_seed(0)
    branches = {name: model.branch(name) for name in names}
    given = sources or {name: modality_calls.example(branch.modality, generator) for name, branch in branches.items()}
    batches = prepare_batch(model, [{name: given[name] for name in names}])
    mode = model.training
    model.eval()
    try:
        # A plugin's encoder may look at its own numbers, so it is computed; the backbone is only counted.
        with measure(_modules(model, fusion or model.fusion), real=frozenset({FUSION}), default=LANGUAGE) as meter:
            asked = [model.template.render(question)]
            tokens = {}
            for name, batch in batches.items():
                meter.default = name
                tokens[name] = model.modality_tokens(name, model.encode({name: batch})[name], asked)
            meter.default = LANGUAGE
            prompt = model.prompt(tokens, asked, fusion=fusion)
            answer = torch.zeros(1, num_answer_tokens, dtype=torch.int64, device=model.device)
            model.language.logits(prompt, answer)
    finally:
        model.train(mode)
    parts = [VISION, QFORMER, LANGUAGE, *names, FUSION]
    gflops = {name: meter.flops[name] / 1e9 for name in parts if name in meter.flops}
    return Cost(tuple(names), int(prompt.mask.sum()), gflops)


def _modules(model: CremaNetwork, fusion: Fusion) -> dict[str, list[nn.Module]]:
    """Return the modules whose operations belong to each component; LoRA inside the Q-Former is its modality's."""
    backbone = model.backbone
    found: dict[str, list[nn.Module]] = {
        VISION: list(backbone.vision_parts()),
        QFORMER: [] if backbone.qformer is None else [backbone.qformer],
        LANGUAGE: [backbone.language_model],
        FUSION: [fusion],
    }
    return found | {name: list(model.branch(name).adapter.counted()) for name in model.names}


def _qformer_parameters(model: CremaNetwork, qformer: QFormer) -> list[nn.Parameter]:
    """Return the frozen Q-Former with the backbone's queries and projection, which adapters start from."""
    lora = {id(parameter) for name in model.names for parameter in model.lora_parameters(name).values()}
    own = list(qformer.parameters()) if qformer.owner is None else []
    if model.backbone.query_tokens is not None:
        own.append(model.backbone.query_tokens)  # of a new one too: modalities start from them
    if model.backbone.language_projection is not None:
        own += model.backbone.language_projection.parameters()
    return [parameter for parameter in own if id(parameter) not in lora]


def _count(parameters: Iterable[Tensor]) -> int:
    return sum(parameter.numel() for parameter in parameters)
