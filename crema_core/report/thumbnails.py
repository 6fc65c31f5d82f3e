"""Small pictures of samples for the cards of a report: what a modality makes of a file, as `crema show` draws it."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor

from crema_core.api.model import CremaModel
from crema_core.common.progress import StatusLine
from crema_core.data import modality_calls
from crema_core.data.data_file import Record
from crema_core.data.sampling import split_span
from crema_core.errors import CremaError, first_line
from crema_core.modality import Modality
from crema_core.report.html import About, Line

WIDTH_PX, HEIGHT_PX = 480, 320
"""Largest picture; twice the pixels of a card on a desk, and those of a phone."""
MAX_BYTES = 24_000
_QUALITIES = (85, 70, 50, 30)


def thumbnail(pixels_HW3: Tensor) -> bytes:
    """Return a picture as a JPEG image of at most `MAX_BYTES`, scaled down to fit where it is larger.

    Args:
        pixels_HW3: `(H, W, 3)` uint8.
    """
    picture = Image.fromarray(pixels_HW3.numpy())
    picture.thumbnail((WIDTH_PX, HEIGHT_PX), Image.Resampling.LANCZOS)
    while True:
        for quality in _QUALITIES:
            buffer = io.BytesIO()
            picture.save(buffer, format="jpeg", quality=quality, optimize=True)
            if buffer.tell() <= MAX_BYTES:
                return buffer.getvalue()
        picture = picture.reduce(2)  # noise


def samples_shown(
    model: CremaModel, records: Sequence[Record], *, status: StatusLine | None = None
) -> Callable[[Line], About]:
    """Return what tells a card about the sample of a line: file, choices and a picture.

    The picture is that of the major modality, or where a sample lacks it, or it draws none, of the first that does. A
    source that cannot be drawn leaves its reason, and a report is written all the same.

    Args:
        model: the modalities' own `show` draws.
        records: the samples of the lines.
        status: where progress is shown.
    """
    by_key = {(own.id, own.question, own.answer): own for own in records}
    drawn: dict[tuple[str, tuple[str, ...]], About] = {}

    def about(line: Line) -> About:
        record = by_key.get((line["id"], line["question"], line["answer"]))
        if record is None:
            return About()
        name = _drawn_modality(model, record)
        key = name, record.paths(name)
        if key not in drawn:
            if status is not None:
                status.show(f"drawing samples for the report: {len(drawn) + 1}")
            drawn[key] = _draw(model.branch(name).modality, name, record) if name else About()
        shown = drawn[key]
        return About(shown.file, record.choices or (), shown.image, shown.alt, shown.reason)

    return about


def _drawn_modality(model: CremaModel, record: Record) -> str:
    """Return the modality of a sample that is drawn; empty where it has none of the model's."""
    order = [name for name in (model.major, *model.names) if name and record.paths(name)]
    draws = [name for name in order if type(model.branch(name).modality).show is not Modality.show]
    return next(iter([*draws, *order]), "")


def _draw(modality: Modality, name: str, record: Record) -> About:
    file = _file_name(record.paths(name))
    try:
        image = thumbnail(modality_calls.show(modality, record.sources[name]))
    except CremaError as error:
        return About(file, reason=first_line(error))
    return About(file, image=image, alt=f"{name} of {file}, as the model takes it")


def _file_name(paths: Sequence[str]) -> str:
    part = split_span(paths[0])
    # A path that ends in a slash, or is a drive, has no name.
    name = part._replace(path=Path(part.path).name or part.path).text
    return name if len(paths) == 1 else f"{name} and {len(paths) - 1:,} more"
