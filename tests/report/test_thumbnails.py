"""Pictures of samples: small, those of the modality itself, and never in the way of a report."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from crema_core.common.progress import StatusLine
from crema_core.data.data_file import Record
from crema_core.errors import MediaError
from crema_core.modality import Modality
from crema_core.report import thumbnails
from crema_core.report.thumbnails import HEIGHT_PX, MAX_BYTES, WIDTH_PX, samples_shown, thumbnail


class Drawn(Modality):
    """Draws a red picture of a source, or raises what it is given."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.spec = SimpleNamespace(name="drawn")  # type: ignore[assignment]
        self.shown: list[Any] = []

    def show(self, source: Any) -> torch.Tensor:
        self.shown.append(source)
        if "bad" in source:
            raise MediaError(f"'{source}' is empty. Record it again.\nMore.")
        if "crash" in source:
            raise RuntimeError("boom")
        return torch.tensor([255, 0, 0], dtype=torch.uint8).expand(40, 60, 3)


class Silent(Drawn):
    """Has no picture of its own."""

    show = Modality.show


Drawn.__abstractmethods__ = Silent.__abstractmethods__ = frozenset()


def model_of(major: str = "main", **modalities: Modality) -> Any:
    branches = {name: SimpleNamespace(modality=own) for name, own in modalities.items()}
    return SimpleNamespace(major=major, names=tuple(modalities), branch=branches.__getitem__)


def record(number: int = 0, choices: tuple[str, ...] | None = None, **sources: Any) -> Record:
    return Record(str(number), "what?", "yes", sources, choices)


def line_of(own: Record) -> dict[str, Any]:
    return {"id": own.id, "question": own.question, "answer": own.answer}


def test_a_picture_fits_and_keeps_its_proportions() -> None:
    for height, width, size in (
        (254, 926, (480, 132)),
        (2000, 1000, (160, 320)),
        (30, 40, (40, 30)),
        (1, 5000, (480, 1)),
    ):
        image = Image.open(io.BytesIO(thumbnail(torch.zeros(height, width, 3, dtype=torch.uint8))))
        assert (image.format, image.size) == ("JPEG", size)


def test_noise_takes_no_more_bytes_than_stated() -> None:
    noise = torch.randint(
        0, 256, (HEIGHT_PX, WIDTH_PX, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    packed = thumbnail(noise)
    assert len(packed) <= MAX_BYTES
    assert packed == thumbnail(noise)


def test_a_card_gets_the_major_modality_its_file_and_the_choices() -> None:
    main, other = Drawn(), Drawn()
    asked = record(choices=("yes", "no"), other="/data/b.x", main="/data/sub/clip one.x#t=1,2")
    found = samples_shown(model_of(other=other, main=main), [asked])(line_of(asked))
    assert (found.file, found.choices, found.reason) == ("clip one.x#t=1,2", ("yes", "no"), "")
    assert found.alt == "main of clip one.x#t=1,2, as the model takes it"
    assert Image.open(io.BytesIO(found.image)).size == (60, 40)
    assert (main.shown, other.shown) == (["/data/sub/clip one.x#t=1,2"], [])


def test_where_the_major_modality_is_absent_or_draws_nothing_another_is_drawn() -> None:
    model = model_of(main=Silent(), other=Drawn())
    for asked in (record(main="a.x", other="b.x"), record(other="b.x")):
        assert samples_shown(model, [asked])(line_of(asked)).alt == "other of b.x, as the model takes it"
    asked = record(main=["a.x", "b.x", "c.x"])
    found = samples_shown(model, [asked])(line_of(asked))
    assert (found.file, found.image) == ("a.x and 2 more", b"")
    assert "draws no picture" in found.reason


@pytest.mark.parametrize(
    ("source", "reason"), [("bad.x", "'bad.x' is empty. Record it again"), ("crash.x", "RuntimeError: boom")]
)
def test_a_source_that_cannot_be_drawn_leaves_its_reason(source: str, reason: str) -> None:
    asked = record(main=source)
    found = samples_shown(model_of(main=Drawn()), [asked])(line_of(asked))
    assert (found.image, found.file) == (b"", source)
    assert reason in found.reason
    assert "\n" not in found.reason


def test_samples_without_a_source_and_lines_of_other_samples_get_a_card_without_a_picture() -> None:
    asked = record()
    about = samples_shown(model_of(main=Drawn()), [asked])
    for line in (line_of(asked), line_of(asked) | {"id": "unknown"}):
        found = about(line)
        assert (found.file, found.image, found.reason) == ("", b"", "")


def test_a_source_is_drawn_once_for_all_its_questions_and_progress_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    main, said = Drawn(), []
    monkeypatch.setattr(StatusLine, "show", lambda self, text: said.append(text))
    records = [record(number, main=f"{number // 2}.x") for number in range(4)]
    about = samples_shown(model_of(main=main), records, status=StatusLine())
    assert all(about(line_of(own)).image for own in records)
    assert main.shown == ["0.x", "1.x"]
    assert said == ["drawing samples for the report: 1", "drawing samples for the report: 2"]


def test_the_bounds_of_a_page_are_those_the_documentation_states() -> None:
    assert thumbnails.MAX_BYTES * 18 * 4 / 3 < 0.7e6
