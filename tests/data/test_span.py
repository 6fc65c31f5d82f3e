"""Parts of files written into their paths."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from crema_core.data.data_file import read_data_file
from crema_core.data.images import read_frames
from crema_core.data.sampling import Span, file_of, split_span
from crema_core.errors import MediaError
from tests.support.official_datasets import write_clip


@pytest.mark.parametrize(
    ("source", "span"),
    [
        ("a.mp4", Span("a.mp4")),
        ("a.mp4#t=1", Span("a.mp4", 1.0)),
        ("a.mp4#t=,2.5", Span("a.mp4", None, 2.5)),
        ("a.mp4#t=1,2", Span("a.mp4", 1.0, 2.0)),
        ("a#t=b.mp4", Span("a#t=b.mp4")),  # a file may be called so
        ("a.mp4#t=", Span("a.mp4#t=")),
    ],
)
def test_a_source_is_a_file_and_perhaps_a_part(source: str, span: Span) -> None:
    assert split_span(source) == span
    assert file_of(source) == span.path


def test_frames_of_a_part_are_those_of_the_same_times(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4")
    named, given_apart = (
        read_frames(f"{clip}#t=0.5,1.5", num_frames=3),
        read_frames(clip, num_frames=3, start_s=0.5, end_s=1.5),
    )
    assert named.times is not None
    assert given_apart.times is not None
    assert bool((named.frames == given_apart.frames).all())
    assert named.times.tolist() == given_apart.times.tolist()


def test_options_count_from_the_beginning_of_the_part(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4")
    times = read_frames(f"{clip}#t=0.5,1.5", num_frames=1, start_s=0.5).times
    assert times is not None
    assert times.tolist() == [[1.0, 1.5]]


def test_a_part_of_a_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError) as error:
        read_frames(f"{tmp_path / 'a.png'}#t=1,2", num_frames=1)
    assert str(error.value).startswith(f"'{tmp_path / 'a.png'}' does not exist.")


def test_the_file_of_a_part_must_exist(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4")
    data_file = tmp_path / "data.jsonl"
    data_file.write_text('{"id": 1, "question": "?", "answer": "x", "video": "clip.mp4#t=0,1"}\n')
    assert read_data_file(data_file)[0].paths("video") == (f"{tmp_path}/clip.mp4#t=0,1",)


@pytest.mark.parametrize("start_s", [None, 0.0, 0.25, 7.0, 123456.789])
@pytest.mark.parametrize("end_s", [None, 0.1, 8.5, 200000.0])
def test_a_part_is_written_as_it_is_read(start_s: float | None, end_s: float | None) -> None:
    part = Span("clips/a.b.mp4", start_s, end_s)
    assert split_span(part.text) == part
    assert ("/" in part.label, bool(part.label)) == (False, part.text != part.path)


@pytest.mark.slow
def test_one_place_takes_parts_out_of_sources() -> None:
    """Elsewhere the sign stands in docstrings, comments and messages alone; crema-benchmarks writes it."""
    root = Path(__file__).parents[2]
    files = [*(root / "crema_core").rglob("*.py"), *(root / "plugins").glob("*/crema_*/**/*.py")]
    found = []
    for path in files:
        module = ast.parse(path.read_text(encoding="utf-8"))
        prose = {id(own.value) for own in ast.walk(module) if isinstance(own, ast.Expr)}
        for node in ast.walk(module):
            text = node.value if isinstance(node, ast.Constant) and id(node) not in prose else ""
            if isinstance(text, str) and "#t=" in text and len(text) < 20:
                found.append(path.name)
    assert sorted(set(found)) == ["media.py", "sampling.py"]
