"""Hooks into a vision-language model: what its language model is given is read here, and our tokens are put there.

A family merges its visual features into the embeddings of the prompt and hands the result to its decoder. Reading it
there (`captured`) needs nothing of how the family names, orders or shapes its features. Putting it back (`placed`)
happens at the input embedding: the prompt's ids still have the family's placeholders, from which it counts positions
and masks, and no pixels, so it computes no features of its own. Some families hand more to the decoder, layer by layer
(Qwen3-VL's deepstack features); that goes the same way as named arguments.

Hooks are installed for one call of a model; one call runs at a time.

Shape letters: B samples, S prompt length, P own visual tokens of a sample, L width, K layers with more features, E
width before the projector.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from crema_core.common.known import on_host

DEEP, DEEP_MASK = "deepstack_visual_embeds", "visual_pos_masks"
"""Arguments by which a decoder is given features of its first layers, and where they are added."""


class Visual(NamedTuple):
    """What a decoder is given of pictures.

    Attributes:
        embeds: `(P, L)` in the order of the prompt.
        deep: `(K, P, L)` features added in the first K layers; K is 0 for most families.
    """

    embeds: Tensor
    deep: Tensor


class _Seen(BaseException):
    """The decoder was reached; no error: it ends a forward pass whose rest nobody needs."""


@torch.no_grad()
def captured(model: PreTrainedModel, inputs: Mapping[str, Any], own_BS: Tensor, *, first_layer: bool = False) -> Visual:
    """Run a model as far as its decoder and return what its visual tokens are there.

    Args:
        model: whole.
        inputs: of its forward pass: ids, pixels and what its processor gives beside them.
        own_BS: `(B, S)` bool, the placeholders of visual tokens.
        first_layer: look at the decoder's first layer instead.
    """
    found: list[Visual] = []

    def look(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        embeds_BSL = named["inputs_embeds"] if named.get("inputs_embeds") is not None else arguments[0]
        deep = named.get(DEEP)
        rows_PL = embeds_BSL[own_BS]
        found.append(Visual(rows_PL, rows_PL.new_zeros(0, *rows_PL.shape) if deep is None else torch.stack(list(deep))))
        raise _Seen

    decoder: Any = model.get_decoder()
    handle = (decoder.layers[0] if first_layer else decoder).register_forward_pre_hook(look, with_kwargs=True)
    try:
        model(**inputs, use_cache=False)
    except _Seen:
        return found[0]
    finally:
        handle.remove()
    raise AssertionError("the forward pass of a vision-language model runs its decoder")


@torch.no_grad()
def captured_twice(
    model: PreTrainedModel, inputs: Mapping[str, Any], own_BS: Tensor, *, projector: nn.Module, width: int
) -> tuple[Visual, Tensor]:
    """Return what visual tokens are at the decoder, and what they are before a projector.

    The latter in the order of the former and pooled as the family does behind the projector: its inputs are let through
    in its place, as many channels at a time as it has outputs, while the layers of the vision encoder rest. Where it
    makes one token of several inputs that follow each other, their mean is let through.

    Args:
        model: whole.
        inputs, own_BS: as of `captured`.
        projector: part of the model.
        width: E.

    Returns:
        The tokens, and `(P, E)`; at a token that never passed the projector, what the family puts there.
    """
    given: list[Tensor] = []
    handle: Any = projector.register_forward_pre_hook(lambda module, arguments: given.append(arguments[0]))
    try:
        found = captured(model, inputs, own_BS)
    finally:
        handle.remove()
    parts: list[Tensor] = []
    for first in range(0, width, found.embeds.shape[1]):
        calls = iter(given)

        def let_through(
            module: nn.Module, arguments: Any, output: Tensor, start: int = first, calls: Any = calls
        ) -> Tensor:
            size = output.shape[-1]
            inner = next(calls).reshape(output[..., 0].numel(), -1, width).mean(1)[:, start : start + size]
            filled = torch.nn.functional.pad(inner, (0, size - inner.shape[1]))
            return filled.reshape(output.shape).to(output.dtype)

        handle = projector.register_forward_hook(let_through)
        try:
            with _resting_layers(model):
                parts.append(captured(model, inputs, own_BS).embeds[:, : width - first])
        finally:
            handle.remove()
    return found, torch.cat(parts, dim=1)


@contextmanager
def _resting_layers(model: PreTrainedModel) -> Iterator[None]:
    """Inside the block, repeated layers beside the decoder hand their input on."""
    inside = set(model.get_decoder().modules())
    stacks = [own for own in model.modules() if isinstance(own, nn.ModuleList) and own not in inside]
    layers = [layer for stack in stacks for layer in stack]
    kept = [layer.__dict__.get("forward") for layer in layers]
    for layer in layers:
        layer.__dict__["forward"] = lambda hidden, *arguments, **named: hidden
    try:
        yield
    finally:
        for layer, forward in zip(layers, kept, strict=True):
            if forward is None:
                del layer.__dict__["forward"]
            else:
                layer.__dict__["forward"] = forward


@contextmanager
def counting_on_host(model: PreTrainedModel) -> Iterator[None]:
    """Inside the block, a model that counts positions of pictures from its ids (M-RoPE) counts them on the host.

    It reads ids, masks and grids sample by sample, and would wait for the device each time.
    """
    base: Any = model.base_model
    count = getattr(base, "get_rope_index", None)
    if count is None:
        yield
        return
    base.get_rope_index = partial(on_host, count, device=model.device)
    try:
        yield
    finally:
        del base.get_rope_index


@contextmanager
def placed(
    model: PreTrainedModel, embeds_BSL: Tensor, mask_BS: Tensor, *, own_BS: Tensor, deep_BKSL: Tensor | None
) -> Iterator[None]:
    """Inside the block, the model reads given vectors at given places of a prompt, instead of its own embeddings.

    Later calls of the embedding, for generated tokens only, are left alone. A batch that generation has repeated for
    its beams is recognised by its size.

    Args:
        model: whole.
        embeds_BSL: `(B, S, L)`, of any number format; looked at where `mask_BS`.
        mask_BS: `(B, S)` bool.
        own_BS: `(B, S)` bool, those of them that are the model's own visual tokens.
        deep_BKSL: `(B, K, S, L)` what its first layers add at these; None: nothing.
    """
    batch, length = mask_BS.shape
    done = False

    def of_prompt(size: int, seen: int) -> bool:
        return seen == length and size % batch == 0

    def embed(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor | None:
        nonlocal done
        if output.dim() != 3 or len(output) % batch:
            return None
        new = output.shape[1] - length  # above 0 where generation keeps nothing, and reads all of it for each token
        if new < 0 or (done and not new):
            return None
        done = True
        times = len(output) // batch
        mask, embeds = (one.repeat_interleave(times, 0) if times > 1 else one for one in (mask_BS, embeds_BSL))
        start = torch.where(mask[..., None], embeds.to(output.dtype), output[:, :length])
        return start if not new else torch.cat([start, output[:, length:]], 1)

    def add(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        embeds = named.get("inputs_embeds")
        if deep_BKSL is None or embeds is None or not of_prompt(*embeds.shape[:2]):
            return None
        times = len(embeds) // batch
        mask, deep = own_BS.repeat_interleave(times, 0), deep_BKSL.repeat_interleave(times, 0)
        rows = [deep[:, layer][mask].to(embeds.dtype) for layer in range(deep.shape[1])]
        return arguments, {**named, DEEP: rows, DEEP_MASK: mask}

    embedding: nn.Module = model.get_input_embeddings()
    decoder: nn.Module = model.get_decoder()
    handles = [embedding.register_forward_hook(embed), decoder.register_forward_pre_hook(add, with_kwargs=True)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
