"""How much memory a training step will take, by component, before anything large is loaded.

Counted are tensors that live at the same time when the language model's backward pass begins: weights, optimizer
state, gradients, features, what every modality's graph and the language model keep for the backward pass, and one
layer's working memory. The language model runs on tensors without contents (torch's fake tensors), the small rest for
real with one sample. Memory that libraries take for themselves (a CUDA context, fragmentation) is not contained.

Shape letters: B samples, S prompt length, A answer length, T steps, N tokens of a step, Q queries, L width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses import DynamicOutputShapeException, FakeTensorMode
from torch._subclasses.fake_tensor import DataDependentOutputException

from crema_core.api.describe import NUM_ANSWER_TOKENS, QUESTION
from crema_core.api.model import CremaModel
from crema_core.common.tables import table
from crema_core.data import modality_calls
from crema_core.errors import OptionsError
from crema_core.features.feature_cache import prepare_batch
from crema_core.model.bf16_kernels import fuse_norms
from crema_core.model.flops import measure
from crema_core.model.id_language import language_of
from crema_core.model.kernels import activation_checkpointing, fuse_activations, share_position_bias
from crema_core.model.prompt import Prompt, PromptIds
from crema_core.model.trainable import collecting, freeze, names_of, set_trainable
from crema_core.model.tuning import EXPERT_DIMENSIONS
from crema_core.model.vlm.backbone import VisualBackbone, forward_arguments
from crema_core.tokens import ModalityFeatures, ModalityTokens
from crema_core.train.settings import MicroBatchSize
from crema_core.train.token_cache import size_in


@dataclass(frozen=True)
class Plan:
    """Peak memory of a training step."""

    rows: dict[str, int]  # bytes by component, in order
    batch_size: int  # samples in this process's part of a minibatch
    num_tokens: int  # S, tokens into the language model per sample

    @property
    def peak(self) -> int:
        """Bytes of everything together."""
        return sum(self.rows.values())

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {"rows": self.rows, "peak": self.peak, "batch_size": self.batch_size, "num_tokens": self.num_tokens}

    def __str__(self) -> str:
        rows = [["component", "MB"]]
        rows += [[name, f"{size / 1e6:,.1f}"] for name, size in [*self.rows.items(), ("peak", self.peak)]]
        return (
            f"{table(rows)}\n\n{self.batch_size} samples of {self.num_tokens} tokens each into the language model. "
            "An estimate:\na GPU's context and fragmentation come on top."
        )


def plan(
    model: CremaModel,
    *,
    batch_size: int,
    joint: bool = False,
    gradient_checkpointing: bool = False,
    micro_batch_size: MicroBatchSize = None,
    retained_graphs: int | None = None,
) -> Plan:
    """Estimate the peak memory of a training step with all modalities in every sample.

    Args:
        model: a built model; one of shapes alone will do. It is left as it was.
        batch_size: B, samples in a process's part of a minibatch.
        joint: all modalities are updated at once.
        gradient_checkpointing: the language model's layers are computed again in the backward pass.
        micro_batch_size: samples the language model reads at once, in each sub-step or in all; None: B.
        retained_graphs: modalities whose graphs wait for their turn; None: all but the first, whose turn it is.
    """
    mode = model.training
    before = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    model.eval()
    set_trainable(model, names_of(model, model.trainable_parameters().values()))
    try:
        modalities, features, tokens = _modalities(model)
        fusion, prompt = _kept(
            lambda: model.prompt(tokens, [model.template.render(QUESTION)]), parameters=_storages(model)
        )
        num_tokens = int(prompt.mask.shape[1])
        sizes = [min(size_in(micro_batch_size, step) or batch_size, batch_size) for step in range(len(modalities))]
        whole, language = {}, {}
        for size in {*sizes}:
            shape = (size, num_tokens, NUM_ANSWER_TOKENS)
            whole[size] = _language(model, shape, gradient_checkpointing=False)
            language[size] = (
                _language(model, shape, gradient_checkpointing=True) if gradient_checkpointing else whole[size]
            )
    finally:
        set_trainable(model, before)
        model.train(mode)
    adapters = {name: _bytes(model.adapter_parameters(name).values()) for name in model.names}
    shared = _bytes(model.fusion_parameters().values())
    tuned = _bytes(model.language_parameters().values())
    trained = sum(adapters.values()) + shared + tuned
    held = [sum(modalities) * batch_size] if joint else _held(modalities, batch_size, sizes, retained_graphs)
    num_layers = max(1, len(model.backbone.language_layers()))
    sub_steps = [
        {
            "activations: modalities": own,
            "activations: fusion and prompt": fusion * size,
            "activations: language model": language[size],
            "working memory of a layer": whole[size] // num_layers,
        }
        for own, size in zip(held, sizes, strict=False)  # joint: the first size
    ]
    rows = {
        "weights: frozen": _bytes({*model.parameters()} - {*model.trainable_parameters().values()}),
        "weights: adapters and fusion": trained - tuned,
        **({"weights: trained of the language model": tuned} if tuned else {}),
        "optimizer state": 2 * trained,
        "gradients": shared + tuned + (sum(adapters.values()) if joint else max(adapters.values())),
        "features of encoders": features * batch_size,
        **max(sub_steps, key=lambda own: sum(own.values())),
    }
    return Plan(rows, batch_size, num_tokens)


def _held(modalities: Sequence[int], batch_size: int, sizes: Sequence[int], retained_graphs: int | None) -> list[int]:
    """Return the bytes of the modalities' graphs in each sub-step: what waits, and what is built there."""
    waiting = range(1, len(modalities))[:retained_graphs]
    return [
        sum(modalities[own] for own in waiting if own >= step) * batch_size
        + (step not in waiting) * modalities[step] * size
        for step, size in enumerate(sizes)
    ]


def _modalities(model: CremaModel) -> tuple[list[int], int, dict[str, ModalityTokens]]:
    """Return the bytes each modality's graph keeps for one sample, those of its features, and its tokens."""
    generator = torch.Generator().manual_seed(0)
    sources = {name: modality_calls.example(model.branch(name).modality, generator) for name in model.names}
    parts = model.backbone.vision_parts()
    with (
        measure({"vision": parts[:1]}, real=frozenset(), default="encoder"),
        _passed_through(model.backbone.vision_layers()),
    ):
        encoded = model.encode_frozen(prepare_batch(model, [sources]))
    kept, tokens, parameters = [], {}, _storages(model)
    question = [model.template.render(QUESTION)]
    # Products with weights that are one zero seen many times are slow; of shapes alone nothing needs their values.
    adapters = [part for name in model.names for part in model.branch(name).adapter.children()]
    qformer = [] if model.backbone.qformer is None else [model.backbone.qformer]
    skipped = {"adapter": [*qformer, *adapters]} if model.backbone.shape_only else {}
    for name, own in encoded.items():
        with measure(skipped, real=frozenset(), default="adapter") if skipped else nullcontext():
            size, tokens[name] = _kept(partial(model.modality_tokens, name, own, question), parameters=parameters)
        kept.append(size)
    features = [own.features.values for own in encoded.values() if isinstance(own, ModalityFeatures)]
    return kept, sum(values.nbytes for values in features), tokens


@contextmanager
def _passed_through(skipped: Sequence[Any]) -> Iterator[None]:
    """Leave out the layers of the vision encoder: their output is as large as their input."""
    for layer in skipped:
        layer.forward = lambda hidden_states, *arguments, **settings: hidden_states
    try:
        yield
    finally:
        for layer in skipped:
            del layer.forward


def _language(model: CremaModel, shape: tuple[int, int, int], *, gradient_checkpointing: bool) -> int:
    """Return the bytes the language model keeps for the backward pass to its inputs."""
    batch, length, num_answer = shape
    original = model.backbone.language_model
    if isinstance(model.backbone, VisualBackbone):
        return _decoder(model.backbone, shape, gradient_checkpointing=gradient_checkpointing)
    weight = model.language.embedding.get_parameter("weight")
    with FakeTensorMode():
        fake = type(original)._from_config(original.config, dtype=weight.dtype).eval()
        fuse_activations(fake)  # as the backbone does
        fuse_norms(fake)
        share_position_bias(fake)
        freeze(fake)
        language = language_of(fake, model.backbone.tokenizer)
        embeds_BSL = torch.empty(batch, length, weight.shape[1], dtype=weight.dtype, requires_grad=True)
        mask_BS = torch.ones(batch, length, dtype=torch.bool)
        ids = PromptIds(mask_BS.long(), mask_BS, ~mask_BS, {}, {}, None)  # where it reads ids
        prompt = Prompt(embeds_BSL, mask_BS, ids=ids)
        answers_BA = torch.zeros(batch, num_answer, dtype=torch.int64)
        with activation_checkpointing(fake, enabled=gradient_checkpointing):
            scores = lambda: language.logits(prompt, answers_BA).float().log_softmax(-1)  # noqa: E731
            return _kept(scores, parameters=_storages(fake))[0]


def _decoder(backbone: VisualBackbone, shape: tuple[int, int, int], *, gradient_checkpointing: bool) -> int:
    """Return the same of a vision-language model, whose decoder alone keeps anything: what it sees comes as features.

    It reads ids, from which some make more inputs of their layers, and vectors take the place of their embeddings.
    """
    batch, length, num_answer = shape
    original = backbone.language_model
    dtype = original.get_input_embeddings().get_parameter("weight").dtype
    # Products of a mixture's experts have a form without contents in bf16 alone; in fp32 twice as much is kept.
    mixed = any(own.dim() == EXPERT_DIMENSIONS and "experts" in name for name, own in original.named_parameters())
    counted = torch.bfloat16 if mixed else dtype
    every = "logits_to_keep" not in forward_arguments(original)
    with FakeTensorMode():
        fake = type(original.get_decoder())._from_config(original.get_decoder().config, dtype=counted).eval()
        freeze(fake)
        wide = fake.get_input_embeddings()
        head = nn.Linear(wide.embedding_dim, wide.num_embeddings, bias=False, dtype=counted)
        freeze(head)
        handle = wide.register_forward_hook(lambda *arguments: collecting(arguments[-1]))
        ids = torch.zeros(batch, length + num_answer, dtype=torch.int64)

        def scores() -> Tensor:
            hidden: Tensor = fake(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)[0]
            if hidden.shape[-1] == wide.num_embeddings:  # a decoder with its own output layer
                return hidden[:, -num_answer - 1 :].float().log_softmax(-1)
            read = hidden if every else hidden[:, -num_answer - 1 :]
            logits: Tensor = head(read)
            return logits[:, -num_answer - 1 :].float().log_softmax(-1)

        try:
            with activation_checkpointing(fake, enabled=gradient_checkpointing):
                size = _kept(scores, parameters=_storages(fake) | _storages(head))[0]
        except (DynamicOutputShapeException, DataDependentOutputException) as error:
            raise OptionsError(
                f"The memory of a '{original.config.model_type}' model cannot be planned: what its decoder does "
                "depends on the values in its tensors. Accepted: other model types of docs/backbones.md. Start with a "
                "small micro_batch_size, and look at what fit reports."
            ) from error
        finally:
            handle.remove()
    return size * dtype.itemsize // counted.itemsize


def _kept(run: Callable[[], Any], *, parameters: set[int]) -> tuple[int, Any]:
    """Return the bytes a pass keeps for its backward pass, parameters apart, and its result."""
    found: dict[int, Any] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in parameters:
            found[storage._cdata] = storage  # held, so that no address is used twice
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = run()
    return sum(int(storage.nbytes()) for storage in found.values()), result


def _storages(model: nn.Module) -> set[int]:
    return {parameter.untyped_storage()._cdata for parameter in model.parameters()}


def _bytes(parameters: Any) -> int:
    sizes: Sequence[int] = [parameter.nbytes for parameter in parameters]
    return sum(sizes)
