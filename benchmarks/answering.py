"""Answering a batch of 8 questions about 4 modalities: the engine against decoding as the released code does.

Multiple choice: the released code decodes to the length limit of 30 tokens without a cache of keys and values and reads
the letters at the second; here one pass of the decoder scores them. Open-ended: beam 5, 10 tokens, without and with
that cache. Both sides include the Q-Former passes and the language model's encoder.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from benchmarks.measure import alternate, median, ratio, report
from benchmarks.moderate import BATCH, moderate_backbone, moderate_model, random_batch
from crema_core.api.model import CremaModel
from crema_core.model.allocator import retain_freed_memory
from crema_core.tokens import ModalityFeatures, ModalityTokens

CHOICES = ["word0", "word1", "word2", "word3", "word4"]
LIMIT, LENGTH, BEAMS = 30, 10, 5


def compute_tokens(model: CremaModel, features: dict[str, ModalityFeatures]) -> dict[str, ModalityTokens]:
    """Return every modality's tokens."""
    return {name: model.modality_tokens(name, own) for name, own in features.items()}


def decode_as_released(
    model: CremaModel, features: dict[str, ModalityFeatures], question: str, **settings: int
) -> None:
    """Generate without a cache of keys and values."""
    prompt = model.prompt(compute_tokens(model, features), [question] * BATCH)
    model.language.model.generate(  # type: ignore[operator]
        inputs_embeds=prompt.embeds, attention_mask=prompt.mask.long(), do_sample=False, use_cache=False, **settings
    )


@torch.no_grad()
def compare(folder: Path, repeats: int) -> list[dict[str, object]]:
    """Return a row for each kind of question."""
    model = moderate_model(folder, 4, "features")
    batch, inputs = random_batch(model, 0)
    features = model.encode(inputs)
    question = batch.records[0].question
    several = [question] * BATCH

    def as_released(length: int, beams: int) -> None:
        decode_as_released(model, features, question, max_new_tokens=length, min_new_tokens=length, num_beams=beams)

    # Both sides write exactly LENGTH tokens.
    model.language.model.generation_config.min_new_tokens = LENGTH
    seconds = alternate(
        {
            "choice_plain": lambda: as_released(LIMIT, 1),
            "choice": lambda: model.score_choices(
                model.prompt(compute_tokens(model, features), several), [CHOICES] * BATCH
            ),
            "open_plain": lambda: as_released(LENGTH, BEAMS),
            "open": lambda: model.generate(
                model.prompt(compute_tokens(model, features), several), max_new_tokens=LENGTH, num_beams=BEAMS
            ),
        },
        repeats=repeats,
    )
    return [
        {
            "question": kind,
            "as_released_s": median(seconds[f"{kind}_plain"]),
            "engine_s": median(seconds[kind]),
            "speedup": round(ratio(seconds, f"{kind}_plain", kind), 2),
        }
        for kind in ("choice", "open")
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place, retain_freed_memory():
        rows = compare(moderate_backbone(Path(place) / "backbone"), options.repeats)
    report("answering", rows, unit="CPU seconds of one thread")


if __name__ == "__main__":
    main()
