"""An evaluation leaves out what cannot be read, or names it before the first question."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from crema_core.errors import DataFileError, MediaError
from crema_core.evaluation.run import evaluate
from tests.train.conftest import MakeModel
from tests.train.file_modalities import write_data


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Ten samples, of which line 2 has a damaged file of "main" and line 5 none of "other"."""
    path = write_data(tmp_path / "data", 10, modalities="mo")
    (tmp_path / "data" / "main-1.npy").write_bytes(b"damaged")
    (tmp_path / "data" / "other-4.npy").unlink()
    return path


@pytest.mark.parametrize("with_cache", [False, True])
@pytest.mark.parametrize("shuffle", [None, "other"])
def test_what_is_left_out_is_counted_and_the_rest_is_that_of_data_without_it(
    new_model: MakeModel, tmp_path: Path, data: Path, with_cache: bool, shuffle: str | None
) -> None:
    model = new_model(num=2)
    settings: dict[str, Any] = {"batch_size": 3, "shuffle": shuffle}
    out = tmp_path / "answers.jsonl"
    cache = tmp_path / "features" if with_cache else None
    found = evaluate(model, data, cache=cache, out=out, on_error="skip", max_skipped=0.2, **settings)
    kept = data.with_name("kept.jsonl")
    lines = data.read_text().splitlines()
    kept.write_text("".join(f"{line}\n" for number, line in enumerate(lines, start=1) if number not in (2, 5)))
    plain = evaluate(model, kept, out=tmp_path / "plain.jsonl", **settings)
    assert (found.num_samples, found.accuracy, found.by_type) == (8, plain.accuracy, plain.by_type)
    assert out.read_text() == (tmp_path / "plain.jsonl").read_text()
    assert [(own.line, own.why) for own in found.skipped] == [(2, "unreadable"), (5, "missing")]
    assert found.metrics["skipped"] == 2
    listed = [json.loads(line) for line in (tmp_path / "answers.jsonl.skipped.jsonl").read_text().splitlines()]
    assert [own["line"] for own in listed] == [2, 5]
    again = evaluate(model, data, cache=cache, out=out, on_error="skip", max_skipped=0.2, resume=True, **settings)
    assert (again.accuracy, again.skipped) == (found.accuracy, found.skipped)


def test_files_of_modalities_that_take_no_part_do_not_matter(new_model: MakeModel, data: Path) -> None:
    found = evaluate(new_model(num=2), data, modalities=["other"], on_error="skip")
    assert [own.line for own in found.skipped] == [5]
    assert found.num_samples == 9


def test_more_than_a_share_stops_the_evaluation(new_model: MakeModel, data: Path) -> None:
    with pytest.raises(DataFileError, match=r"pass max_skipped=0\.2"):
        evaluate(new_model(num=2), data, on_error="skip")


def test_by_default_nothing_is_left_out(new_model: MakeModel, tmp_path: Path, data: Path) -> None:
    with pytest.raises(DataFileError, match=r"data\.jsonl line 5, other: other-4\.npy does not exist"):
        evaluate(new_model(num=2), data)
    (tmp_path / "data" / "other-4.npy").write_bytes((tmp_path / "data" / "other-0.npy").read_bytes())
    with pytest.raises(MediaError, match=r"Sample 's1' \(line 2\)"):
        evaluate(new_model(num=2), data)
