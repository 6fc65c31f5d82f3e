"""The small modalities of tests/support, reading their sources from .npy files as real modalities read media."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.data.data_file import Record, read_data_file
from crema_core.errors import MediaError
from crema_core.modality import Sample
from crema_core.plugins.spec import MMQASpec, ModalitySpec
from tests.support.modalities import (
    FramesModality,
    GaitModality,
    OtherFramesModality,
    PointsModality,
    WaveModality,
    frames_spec,
    gait_spec,
    points_spec,
    wave_spec,
)

ANSWERS = ("red", "blue", "green", "left", "right")


class _FromFile:
    def prepare(self, source: Any) -> Sample:
        if isinstance(source, torch.Tensor):  # an example
            return super().prepare(source)  # type: ignore[misc]
        try:
            values = np.load(source)
        except (OSError, ValueError) as error:
            raise MediaError(
                f"'{Path(source).name}' cannot be read. A .npy file is accepted. Write it again."
            ) from error
        return super().prepare(values)  # type: ignore[misc]


class MainFiles(_FromFile, FramesModality):
    """Frames of the major modality."""


class OtherFiles(_FromFile, OtherFramesModality):
    """Frames of a supporting modality."""


class WaveFiles(_FromFile, WaveModality):
    """A sequence."""


class GaitFiles(_FromFile, GaitModality):
    """A sequence whose encoder is trained."""


class PointFiles(_FromFile, PointsModality):
    """A static set."""


def file_modalities(*, dropout: float = 0.0, num: int = 4) -> list[ModalitySpec]:
    """Return the first `num` of four modalities, with LoRA dropout."""
    sizes = MMQASpec(lora_rank=2, lora_dropout=dropout)
    specs = [frames_spec("main"), frames_spec("other"), wave_spec(), points_spec()]
    factories = ("MainFiles", "OtherFiles", "WaveFiles", "PointFiles")
    return [
        spec.model_copy(update={"factory": f"{__name__}:{name}", "mmqa": sizes})
        for spec, name in zip(specs[:num], factories[:num], strict=True)
    ]


def trained_modalities(*, dropout: float = 0.0) -> list[Any]:
    """Return frames, a sequence whose encoder is trained, and points; `write_data(..., modalities="mgp")`."""
    main, _, _, points = file_modalities(dropout=dropout)
    sizes = MMQASpec(lora_rank=2, lora_dropout=dropout)
    gait = gait_spec(mmqa=sizes).model_copy(update={"factory": f"{__name__}:GaitFiles"})
    return [main, {"name": gait, "dropout": dropout}, points]


def random_model(
    backbone: Path,
    *,
    tuning: Any = None,
    fusion: str = "self_gated",
    modalities: list[Any] | None = None,
    **options: Any,
) -> CremaModel:
    """Return a model of the file modalities whose every trainable weight is non-zero; equal at every call."""
    model = build(modalities or file_modalities(**options), backbone=backbone, tuning=tuning, fusion=fusion)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.trainable_parameters().values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model


def write_data(
    folder: Path, num_samples: int, *, seed: int = 0, modalities: str = "mowp", answers: tuple[str, ...] = ANSWERS
) -> Path:
    """Write sources and a data file of one-word answers.

    Args:
        folder: where.
        num_samples: lines.
        seed: of everything random.
        modalities: first letters of the modalities; every third sample lacks the second, every fourth the third.
        answers: texts to draw from.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    lines = []
    for index in range(num_samples):
        answer = answers[int(torch.randint(len(answers), (), generator=generator))]
        line: dict[str, Any] = {"id": f"s{index}", "question": "what is the color ?", "answer": answer}
        line["type"] = "color" if index % 2 else "side"
        arrays = {
            "main": torch.randn(2, 3, 16, 16, generator=generator),
            "other": torch.randn(2, 3, 16, 16, generator=generator),
            "wave": torch.randn(2 + index % 3, 3, 10, generator=generator),
            "points": torch.randn(2 + index % 4, 6, generator=generator),
        }
        arrays["gait"] = arrays["wave"]
        for name, array in arrays.items():
            lacking = (name == "other" and index % 3 == 2) or (name in ("wave", "gait") and index % 4 == 3)
            if name[0] in modalities and not lacking:
                path = folder / f"{name}-{index}.npy"
                np.save(path, array.numpy())
                line[name] = path.name
        lines.append(line)
    data_file = folder / "data.jsonl"
    data_file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return data_file


def write_records(folder: Path, num_samples: int, **options: Any) -> list[Record]:
    """Write data and read them back."""
    return read_data_file(write_data(folder, num_samples, **options), modalities=("main", "other", "wave", "points"))
