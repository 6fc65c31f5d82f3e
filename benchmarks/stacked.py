"""One Q-Former call for several modalities, with a LoRA of its own for each row, against one call per modality.

Modalities whose features are equally long could share a call: the frozen layers see all rows at once, and the LoRA's
two small products are batched over modalities. peft itself mixes adapters in a batch only in eval mode, so the layers'
forward is replaced here. Same weights, same numbers; dropout off.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import alternate, median, ratio, report
from benchmarks.moderate import BATCH, FRAMES, TOKENS, WIDTH, moderate_backbone, moderate_model
from crema_core.api.model import CremaModel
from crema_core.model.qformer import adapter_name


def one_by_one(model: CremaModel, keys_SMNE: Tensor) -> Tensor:
    """Return `(S, M, Q, H)` by a call per modality."""
    qformer = model.branch(model.names[0]).adapter.qformer
    return torch.stack([qformer(name, model.branch(name).adapter.queries, keys)
                        for name, keys in zip(model.names, keys_SMNE, strict=True)])  # fmt: skip


def stacked(model: CremaModel, keys_SMNE: Tensor) -> Tensor:
    """Return the same by one call."""
    qformer = model.branch(model.names[0]).adapter.qformer
    queries_SQH = torch.cat([model.branch(name).adapter.queries for name in model.names])
    rows = keys_SMNE.shape[1]
    with _a_lora_per_row(qformer, [adapter_name(name) for name in model.names]):
        hidden = qformer.model(
            query_embeds=queries_SQH.repeat_interleave(rows, dim=0), encoder_hidden_states=keys_SMNE.flatten(0, 1)
        ).last_hidden_state
    return hidden.unflatten(0, keys_SMNE.shape[:2])


@contextmanager
def _a_lora_per_row(qformer: Any, names: list[str]) -> Iterator[None]:
    layers = [layer for _, layer in qformer._lora_layers()]
    for layer in layers:
        layer.forward = partial(_forward, layer, names)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _forward(layer: Any, names: list[str], states: Tensor) -> Tensor:
    down = torch.stack([layer.lora_A[name].weight for name in names])  # (S, r, H)
    up = torch.stack([layer.scaling[name] * layer.lora_B[name].weight for name in names])  # (S, H, r)
    grouped = states.unflatten(0, (len(names), -1)).flatten(1, 2)  # (S, M*Q, H)
    low = torch.bmm(torch.bmm(grouped, down.transpose(1, 2)), up.transpose(1, 2))
    whole: Tensor = layer.base_layer(states) + low.view_as(states)
    return whole


def with_gradient(call: Any, model: CremaModel, keys_SMNE: Tensor) -> None:
    """Run a call forward and backward, to the parameters of all modalities."""
    call(model, keys_SMNE).square().mean().backward()


def main() -> None:
    """Compare the numbers, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--modalities", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as place:
        folder = moderate_backbone(Path(place) / "backbone")
        for count in options.modalities:
            model = moderate_model(folder, count, "features").eval()
            with torch.no_grad():
                for parameter in model.trainable_parameters().values():
                    parameter.add_(0.02 * torch.randn(parameter.shape))
            for samples in (1, BATCH):
                keys = torch.randn(count, samples * FRAMES, TOKENS, WIDTH)
                apart, together = one_by_one(model, keys), stacked(model, keys)
                with torch.no_grad():
                    forward = alternate(
                        {"apart": partial(one_by_one, model, keys), "stacked": partial(stacked, model, keys)},
                        repeats=options.repeats,
                    )
                both = alternate(
                    {"apart": partial(with_gradient, one_by_one, model, keys),
                     "stacked": partial(with_gradient, stacked, model, keys)},
                    repeats=options.repeats,
                )  # fmt: skip
                rows.append({
                    "modalities": count, "samples": samples,
                    "largest difference": f"{float((apart - together).abs().max().detach()):.1e}",
                    "apart_s": median(forward["apart"]), "stacked_s": median(forward["stacked"]),
                    "forward": round(ratio(forward, "apart", "stacked"), 2),
                    "apart_both_s": median(both["apart"]), "stacked_both_s": median(both["stacked"]),
                    "forward and backward": round(ratio(both, "apart", "stacked"), 2),
                })  # fmt: skip
    report("stacked_qformer", rows, unit="CPU seconds of one thread")


if __name__ == "__main__":
    main()
