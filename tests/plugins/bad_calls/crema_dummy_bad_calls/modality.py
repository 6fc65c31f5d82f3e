"""Fails as its option says: at once, or for the negative numbers among its sources."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crema_core.errors import MediaError
from crema_core.modality import Batch, BuildContext, Features, Modality, Sample
from crema_dummy_bad_calls.plugin import BadOptions


class UnpicklableMediaError(MediaError):
    """Cannot be made from its message alone."""

    def __init__(self, path: Path, *, line: int) -> None:
        super().__init__(f"Byte {line} is wrong. Accepted are digits. Write one.")


def _fail(error: BaseException) -> Any:
    raise error


STEP = torch.ones(1, 8)
SAMPLES: dict[str, Callable[[Path], Any]] = {
    "prepare raises": lambda path: _fail(ValueError("boom")),
    "prepare exits": lambda path: sys.exit(0),
    "prepare crashes": lambda path: os._exit(3),
    "prepare segfaults": lambda path: os.kill(os.getpid(), signal.SIGSEGV),
    "prepare is killed": lambda path: os.kill(os.getpid(), signal.SIGKILL),
    "prepare hangs": lambda path: time.sleep(60),
    "prepare needs memory": lambda path: _fail(MemoryError("Unable to allocate 3 TiB")),
    "prepare refuses without a name": lambda path: _fail(MediaError("It is no number. Accepted is one. Write it.")),
    "prepare refuses oddly": lambda path: _fail(UnpicklableMediaError(path, line=7)),
    "prepare gives a dict": lambda path: {"rows": STEP},
    "prepare gives None": lambda path: None,
    "prepare gives nothing": lambda path: Sample({}),
    "prepare gives an array": lambda path: Sample({"rows": STEP.numpy()}),  # type: ignore[dict-item]
    "prepare gives meta": lambda path: Sample({"rows": STEP.to("meta")}),
    "prepare gives float64": lambda path: Sample({"rows": STEP.double()}),
    "prepare gives gradient": lambda path: Sample({"rows": STEP.clone().requires_grad_()}),
    "prepare gives nan": lambda path: Sample({"rows": STEP / 0 * 0}),
    "prepare gives no step": lambda path: Sample({"rows": STEP[:0]}),
    "prepare gives two lengths": lambda path: Sample({"rows": STEP, "more": STEP.repeat(2, 1)}),
    "prepare gives a strange clock": lambda path: Sample({"rows": STEP}, torch.ones(1, 2, dtype=torch.int64)),
}


FEATURES: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "encode raises": lambda values, mask: _fail(ValueError("boom")),
    "encode exits": lambda values, mask: sys.exit(0),
    "encode gives None": lambda values, mask: None,
    "encode gives a tensor": lambda values, mask: values,
    "encode gives int64": lambda values, mask: Features(values.long(), mask),
    "encode gives nan": lambda values, mask: Features(torch.where(values < 0, torch.nan, values), mask),
    "encode gives another width": lambda values, mask: Features(values[..., :7], mask),
    "encode gives another batch": lambda values, mask: Features(values[:1], mask[:1]),
    "encode gives a long mask": lambda values, mask: Features(values, mask.repeat(1, 2)),
    "encode gives a float mask": lambda values, mask: Features(values, mask.float()),
    "encode gives meta": lambda values, mask: Features(values.to("meta"), mask.to("meta")),
    "encode masks all": lambda values, mask: Features(values, mask & (values[:, :, 0, 0] > 0)),
    "encode gives strange times": lambda values, mask: Features(values, mask, mask.float()),
    "encode gives strange extras": lambda values, mask: Features(values, mask, None, {"ids": values[0, 0, 0, 0]}),
}


class BadCalls(Modality):
    """Numbers in text files."""

    options: BadOptions

    def __init__(self, options: BadOptions, context: BuildContext) -> None:
        super().__init__(options, context)
        if options.fault == "init raises":
            raise KeyError("boom")

    def load_assets(self, folder: Path | None) -> None:
        if self.options.fault == "load_assets raises":
            raise RuntimeError("boom")
        if self.options.fault == "load_assets finds no file":
            raise FileNotFoundError("weights.bin")

    def prepare(self, source: Any) -> Sample:
        if isinstance(source, Tensor):
            return Sample({"rows": source})
        path = Path(source)
        try:
            number = float(path.read_text())
        except (OSError, ValueError) as error:
            raise MediaError(f"'{path}' holds no number. Accepted is one. Write it.") from error
        if number < 0 and self.options.fault in SAMPLES:
            sample: Sample = SAMPLES[self.options.fault](path)
            return sample
        return Sample({"rows": torch.full((1, 8), number)})

    def collate(self, samples: Sequence[Sample]) -> Batch:
        if self.options.fault == "collate raises":
            raise IndexError("boom")
        batch = super().collate(samples)
        if self.options.fault == "collate gives tensors":
            return batch.tensors  # type: ignore[return-value]
        if self.options.fault == "collate drops samples":
            return Batch({name: own[:-1] for name, own in batch.tensors.items()}, batch.mask[:-1])
        return batch

    def encode(self, batch: Batch) -> Features:
        values = batch["rows"][:, :, None]
        if self.options.fault in FEATURES and bool((values < 0).any()):
            features: Features = FEATURES[self.options.fault](values, batch.mask)
            return features
        return Features(values, batch.mask)

    def example(self, generator: torch.Generator) -> Any:
        if self.options.fault == "example raises":
            raise ValueError("boom")
        return torch.rand(1, 8, generator=generator)

    def show(self, source: Any) -> Tensor:
        if self.options.fault == "show raises":
            raise ValueError("boom")
        return torch.rand(4, 4, 3)
