"""Looking at attention and gates while a model works, without changing a number of it.

The Q-Former keeps its fused attention, which never forms weights; they are computed a second time from the inputs of
each cross-attention. Hooks only read, and are gone when the block ends.

Shape letters: M steps of all samples, N feature tokens, Q queries, A heads, B samples, T steps of the grid, L
language-model width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from crema_core.fusion import Fusion
from crema_core.fusion.self_gated import SelfGatedFusion
from crema_core.model.qformer import QFormer

_INPUTS = ("hidden_states", "attention_mask", "encoder_hidden_states", "encoder_attention_mask")
"""Arguments of a cross-attention of transformers' Q-Formers, in their order."""


@contextmanager
def watched_attention(qformer: QFormer) -> Iterator[list[Tensor]]:
    """Yield a list that gets `(M, Q, N)` for every cross-attention that runs: weights, averaged over heads.

    Each row sums to 1 over the N tokens; padded tokens have 0.

    Args:
        qformer: of a model; its outputs stay bit-identical.
    """
    found: list[Tensor] = []

    def note(module: nn.Module, args: tuple[Any, ...], inputs: dict[str, Any]) -> None:
        named = dict(zip(_INPUTS, args, strict=False)) | inputs
        queries, keys = named["hidden_states"], named["encoder_hidden_states"]
        found.append(cross_attention(module, queries, keys, named["encoder_attention_mask"]))

    with ExitStack() as stack:
        for name, module in qformer.model.named_modules():
            if name.endswith(".crossattention.attention"):
                stack.callback(module.register_forward_pre_hook(note, with_kwargs=True).remove)
        yield found


@torch.no_grad()
def cross_attention(module: nn.Module, queries_MQH: Tensor, keys_MNE: Tensor, mask: Tensor | None) -> Tensor:
    """Return the weights of one cross-attention, averaged over heads.

    Args:
        module: a multi-head attention of transformers' Q-Former, with `query`, `key` and the number of its heads.
        queries_MQH: `(M, Q, H)`.
        keys_MNE: `(M, N, E)`.
        mask: broadcast over `(M, A, Q, N)`: bool, True where attention is allowed, or a number that is added; or None.

    Returns:
        `(M, Q, N)`.
    """
    heads = int(module.num_attention_heads)  # type: ignore[arg-type]
    query: Callable[[Tensor], Tensor] = module.get_submodule("query")
    key: Callable[[Tensor], Tensor] = module.get_submodule("key")
    query_MAQK = query(queries_MQH).unflatten(-1, (heads, -1)).transpose(1, 2)
    key_MANK = key(keys_MNE).unflatten(-1, (heads, -1)).transpose(1, 2)
    scores_MAQN = (query_MAQK @ key_MANK.transpose(-1, -2)).float() * query_MAQK.shape[-1] ** -0.5
    if mask is not None and mask.dtype == torch.bool:
        scores_MAQN = scores_MAQN.masked_fill(~mask, -torch.inf)
    elif mask is not None:
        scores_MAQN = scores_MAQN + mask
    weights_MQN: Tensor = scores_MAQN.softmax(-1).mean(1)
    return weights_MQN


class FusionWatch:
    """What a fusion did last.

    Attributes:
        gate: `(B, T, Q)`, mean over the width of what each fused token is multiplied with; None without a gate.
        parts: by supporting sense `(R, T)`, the mean length of what it adds to the fused tokens of R samples; empty
            where a fusion does not add senses up.
    """

    def __init__(self) -> None:
        self.gate: Tensor | None = None
        self.parts: dict[str, Tensor] = {}


@contextmanager
def watched_fusion(fusion: Fusion) -> Iterator[FusionWatch]:
    """Yield what the fusion does, kept from its last call.

    The gate is that of the self-gated fusion (CREMA equation 3), the sigmoid of the fused vector; parts are the terms
    of its sum, before the gate.

    Args:
        fusion: of a model; its outputs stay bit-identical.
    """
    watch = FusionWatch()

    def part(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def note(module: nn.Module, args: Any, added_RTQL: Tensor) -> None:
            watch.parts[name] = added_RTQL.detach().float().norm(dim=-1).mean(-1)

        return note

    with ExitStack() as stack:
        if isinstance(fusion, SelfGatedFusion):
            own = fusion.gate

            def gate(fused_BTQL: Tensor) -> Tensor:
                watch.gate = torch.sigmoid(fused_BTQL.detach().float()).mean(-1)
                return own(fused_BTQL)

            fusion.__dict__["gate"] = gate  # before the method of the class; removed again below
            stack.callback(fusion.__dict__.pop, "gate")
        for name, block in fusion.blocks.items():
            if isinstance(block, nn.Linear):
                stack.callback(block.register_forward_hook(part(name)).remove)
        yield watch
