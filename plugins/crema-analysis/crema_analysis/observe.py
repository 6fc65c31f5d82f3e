"""Looking at attention while a model works, without changing a number of it.

The Q-Former keeps its fused attention, which never forms weights; they are computed a second time from the inputs of
each cross-attention. Hooks only read, and are gone when the block ends. A fusion is watched without hooks, see
`crema_core.fusion.FusionWatch`.

Shape letters: M steps of all samples, N feature tokens, Q queries, A heads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

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
