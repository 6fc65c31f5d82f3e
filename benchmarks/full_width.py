"""The published backbones at their true widths, with one or two layers of each part: written, loaded, asked, trained.

The suite checks the formats at small widths; this checks that nothing depends on a width (shards of 400 MB, 32 queries,
1408 to 768 to 2048, 2560 or 4096). A few hundred million random parameters each; needs about 4 GB of memory and as much
disk. Prints one line per backbone.

    python benchmarks/full_width.py [blip2-flan-t5 blip2-opt instructblip-flan-t5 instructblip-vicuna]
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from crema_core.api.build import build
from crema_core.features.feature_cache import prepare_batch
from crema_core.model.trainable import names_of, set_trainable
from tests.support.checkpoints import PUBLISHED, Published, save_published
from tests.support.modalities import frames_spec, wave_spec

QUESTION, CHOICES = "What is it?", ["red", "blue"]


def check(kind: Published, folder: Path) -> str:
    """Write, load, answer, choose and train one step; returns what was seen."""
    save_published(folder, kind, full_width=True)
    model = build([frames_spec("main"), wave_spec()], backbone=folder)
    backbone = model.backbone
    sources = {"main": torch.randn(2, 3, backbone.image_size, backbone.image_size), "wave": torch.randn(2, 3, 10)}
    text = model.answer(QUESTION, **sources).text
    scores = model.answer(QUESTION, CHOICES, **sources).scores
    parameters = model.trainable_parameters()
    set_trainable(model, names_of(model, parameters.values()))
    tokens = model.tokens(model.encode(prepare_batch(model, [sources])), [QUESTION])
    loss = model.loss(tokens, [QUESTION], ["red"])
    loss.backward()
    assert all(
        parameter.grad is not None and bool(parameter.grad.isfinite().all()) for parameter in parameters.values()
    )
    count = sum(parameter.numel() for parameter in backbone.parameters()) / 1e6
    shards = len(list(folder.glob("*.safetensors")))
    return (
        f"{kind}: {count:.0f}M parameters in {shards} shards, tokens {tuple(tokens['main'].values.shape)}, "
        f"loss {loss.item():.3f}, answer {text!r}, scores {', '.join(f'{score:.3f}' for score in scores.values())}"
    )


def main(kinds: Sequence[str]) -> None:
    """Check the named backbones, all of them by default."""
    for kind in kinds or PUBLISHED:
        with tempfile.TemporaryDirectory() as place:
            print(check(cast(Published, kind), Path(place) / kind), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
