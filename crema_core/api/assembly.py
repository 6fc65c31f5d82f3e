"""The parts of a model, built one by one: a modality with its connector, and the sizes a fusion is built for.

Each starts from a seed of its own name, so that no initialisation depends on what else is built.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from crema_core.api.requests import Request, not_mixed
from crema_core.data import modality_calls
from crema_core.errors import BuildError, ContractError, OptionsError
from crema_core.fusion.base import Fusion, FusionPlan, FusionSizes, ModalitySet
from crema_core.fusion.connector import Connector, ConnectorRequest
from crema_core.modality import BuildContext, Features, Modality
from crema_core.model.backbone import TINY, Backbone
from crema_core.model.checkpoint import is_pretrained
from crema_core.model.load_backbone import checkpoint_place
from crema_core.model.mmqa import MMQA, chosen_start
from crema_core.model.network import CremaNetwork, ModalityBranch
from crema_core.model.own_tokens import OwnTokens
from crema_core.model.shapes import shapes_alone
from crema_core.plugins.spec import ModalityOptions
from crema_core.tokens import ModalityFeatures

PROBED_TOKENS = 8
"""Of a random sample, for `starting_gain`."""


def make_branch(
    request: Request,
    backbone: Backbone,
    seed: int,
    *,
    plan: FusionPlan,
    fusion: str,
    major: bool = False,
) -> ModalityBranch:
    """Build one modality with its connector and load its weights.

    Args:
        request: what was asked for; left-open options are filled in with what was chosen.
        backbone: the frozen parts it is built on.
        seed: of the model.
        plan: of the strategy, whose connector it gets.
        fusion: name of the strategy, for messages.
        major: whether the others are fused on its frames; on a vision-language model these are the model's own.

    Raises:
        BuildError: when this backbone, modality and strategy do not go together.
    """
    spec = request.spec
    connector = plan.major_connector if major else plan.supporting_connector
    context = BuildContext(
        vision=backbone.encode_images if backbone.vision_dim else None,
        vision_dim=backbone.vision_dim,
        image_size=backbone.image_size,
        image_mean=backbone.image_mean,
        image_std=backbone.image_std,
        seed=seed,
        dtype=torch.float32 if spec.trainable else backbone.dtype,  # as adapters: steps are smaller than bf16's
        whole_clips=backbone.whole_clips,
        usual_frames=backbone.usual_frames,
        pictures=backbone.pictures,
        pretrained=is_pretrained(checkpoint_place(backbone.source)),
        **(backbone.own_sight(inner=plan.reads_inner) if major else {}),
        **backbone.own_hearing(),
    )
    sizes = request.mmqa
    if sizes.num_queries is None and backbone.query_tokens is not None:
        sizes = sizes.model_copy(update={"num_queries": int(backbone.query_tokens.shape[1])})
    with seeded(seed, spec.name):
        modality = modality_calls.construct(request.resolved, request.options, context)
        if backbone.shape_only:
            with shapes_alone(modality):
                modality_calls.load_shapes(modality)
        else:
            modality_calls.load_assets(modality)
        _require_trainable(modality)
        parts = [part.name for part in modality.feature_parts]
        if parts and not (major and plan.mixes_parts):
            raise BuildError([not_mixed(spec.name, parts, fusion=fusion)])
        asked = ConnectorRequest(modality, sizes, backbone)
        if modality.own_tokens and connector is None:
            connector = OwnTokens.of
        made = _around_qformer(asked, plan, major=major) if connector is None else connector(asked)
    made.lr_scale = plan.lr_scale
    branch = ModalityBranch(modality, made, sizes, request.provenance, request.prefix)
    branch.defaults = _filled_in(request.options, modality.options)
    request.options = modality.options  # what was chosen is what a saved model records
    return branch


def _require_trainable(modality: Modality) -> None:
    """Raise unless a trainable encoder is one whose training is exact: its parameters are its only state.

    Raises:
        ContractError: naming what is in the way.
    """
    if not modality.trainable:
        return
    name = modality.spec.name
    parameters = dict(modality.named_parameters())
    other = [f"{key} ({own.dtype})" for key, own in parameters.items() if own.dtype != torch.get_default_dtype()]
    counting = [key for key, own in modality.named_modules() if getattr(own, "running_mean", None) is not None]
    if not parameters or other:
        raise ContractError(
            f"'{name}' declares trainable=True and its encoder has "
            f"{f'parameters in other formats than float32, first {other[0]}' if other else 'no parameters'}. What is "
            "trained are nn.Parameters in float32, whatever the backbone computes in. Make them in __init__ or "
            "load_assets."
        )
    if counting:
        raise ContractError(
            f"'{name}' declares trainable=True and its encoder counts running statistics in {counting[0]}. Every pass "
            "changes those, and a modality's tokens are computed more than once in an update and by several processes, "
            "so training would not be exact. Accepted are layers without: nn.GroupNorm, nn.LayerNorm, or "
            "nn.BatchNorm1d(..., track_running_stats=False)."
        )


def _around_qformer(request: ConnectorRequest, plan: FusionPlan, *, major: bool) -> Connector:
    modality, backbone = request.modality, request.backbone
    name, sees = modality.spec.name, modality.spec.encoder == "vision"
    if backbone.qformer is None or backbone.query_tokens is None:
        raise BuildError(
            [
                f"'{name}' is to pass a Q-Former, and the backbone '{backbone.source}' has none. Accepted: backbones "
                f"in BLIP-2 or InstructBLIP format. Use backbone='{TINY}' or 'Salesforce/blip2-flan-t5-xl'."
            ]
        )
    if plan.individual_qformers and backbone.qformer.has_lora:
        raise BuildError(
            [
                f"'{name}' is to get a copy of the Q-Former, and this backbone object's carries adapters of another "
                "model. Accepted: one that serves no model yet. Pass a folder or hub id, or load_backbone(...) again."
            ]
        )
    try:
        start = chosen_start(request.sizes, backbone.language_projection, major=major, sees=sees)
    except OptionsError as error:
        raise BuildError([f"{name}: {error}"]) from error
    adapter = MMQA(
        name,
        request.sizes,
        backbone.qformer,
        feature_dim=modality.feature_dim,
        output_dim=backbone.language_dim,
        norm_eps=backbone.norm_eps,
        individual=plan.individual_qformers,
    )
    adapter.start_from(
        queries=backbone.first_queries(adapter.queries.shape[1]),
        output=backbone.language_projection if start == "copied" else None,
        norm=getattr(backbone.vision_model, "post_layernorm", None) if sees else None,
    )
    if start == "zero":
        adapter.zero_output()
    return adapter


def _filled_in(asked: ModalityOptions, built: ModalityOptions) -> dict[str, Any]:
    """Return the options that were left open and that the modality chose for this backbone."""
    left_open = [name for name, value in asked if value is None]
    return {name: value for name in left_open if (value := getattr(built, name)) is not None}


def fusion_sizes(
    name: str, plan: FusionPlan, branches: Mapping[str, ModalityBranch], major: str, backbone: Backbone
) -> FusionSizes:
    """Return what the strategy `name` is built for, from the modalities that are there.

    Raises:
        BuildError: when the strategy needs one number of queries and the modalities have several.
    """
    count = branches[major].adapter.num_tokens
    return FusionSizes(
        width=backbone.language_dim,
        num_queries=common_queries(query_counts(branches, major), name, plan.fusion),
        major_queries=count,
        token_widths={own: branch.adapter.width for own, branch in branches.items()},
        visual=backbone.visual_layout,
        qformer=None if (own := backbone.qformer) is None else (own.encoder_width, own.hidden_size),
    )


def query_counts(branches: Mapping[str, ModalityBranch], major: str) -> dict[str, int]:
    """Return the number of queries of the modalities that pass the Q-Former."""
    counts = {
        name: branch.adapter.num_tokens or 0 for name, branch in branches.items() if branch.adapter.passes_qformer
    }
    return counts or {major: branches[major].mmqa.num_queries or branches[major].adapter.num_tokens or 0}


def common_queries(counts: Mapping[str, int], fusion: str, strategy: type[Fusion]) -> int:
    """Return the number of queries of all modalities, the first one's where the strategy allows several.

    Raises:
        BuildError: when the strategy `fusion` needs one number and `counts`, by modality, has several.
    """
    if strategy.one_query_count and len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise BuildError(
            [
                f"The modalities have different numbers of queries: {listed}. Fusion '{fusion}' needs one number for "
                "all. Set mmqa={'num_queries': ...}, or use fusion='concat'."
            ]
        )
    return next(iter(counts.values()))


@torch.no_grad()
def starting_gain(model: CremaNetwork) -> float:
    """Return the number that brings the fused tokens of a new model to a root mean square of one.

    A vision-language model reads them at the scale of its input embeddings; what a fusion makes of its inputs at the
    start differs from strategy to strategy. It is measured once on random features and kept with the model. Tokens that
    start as zeros have no length: theirs is that of a projection drawn anew, which is where training takes them.

    Args:
        model: with at least one modality whose tokens are not the backbone's own, on any device.
    """
    names = [name for name in model.names if not model.branch(name).modality.own_tokens]
    connectors = [model.branch(name).adapter for name in names]
    draws = torch.Generator().manual_seed(0)
    tokens = {}
    with _drawn_anew(own for own in connectors if isinstance(own, MMQA) and own.is_zero):
        for name in names:
            branch = model.branch(name)
            count = 1 if branch.modality.feature_parts else PROBED_TOKENS
            values = torch.randn(1, 1, count, branch.modality.feature_dim, generator=draws)
            features = Features(values.to(model.device), torch.ones(1, 1, dtype=torch.bool, device=model.device))
            rows = torch.zeros(1, dtype=torch.int64, device=model.device)
            tokens[name] = branch.tokens(ModalityFeatures(features, rows))
    sets = ModalitySet(
        tokens, major=model.major, num_samples=1, prefixes=dict.fromkeys(model.names, ""), per_frame=frozenset()
    )
    squares = [own.values.float().square().mean() for own in model.fusion(sets)]
    size = float(torch.stack(squares).mean().sqrt()) if squares else 0.0
    return 1 / size if size else 1.0


@contextmanager
def _drawn_anew(adapters: Iterable[MMQA]) -> Iterator[None]:
    """Inside the block, give adapters that start with zeros an output projection as a new layer has it."""
    zeros = list(adapters)
    for adapter in zeros:
        with seeded(0, adapter.name):
            adapter.output.reset_parameters()
    try:
        yield
    finally:
        for adapter in zeros:
            adapter.zero_output()


@contextmanager
def seeded(seed: int, name: str) -> Iterator[None]:
    """Seed torch's generator from the name for a while, so that no initialisation depends on the others."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(zlib.crc32(f"{seed}:{name}".encode()))
        yield
