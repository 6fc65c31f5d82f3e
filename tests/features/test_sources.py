"""Files that several modalities read are read once when a cache is filled, and nobody's features differ."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from crema_core.data.data_file import Record, Samples
from crema_core.errors import MediaError, TrainingError
from crema_core.features.encode import Shard, Unreadable, fill_cache
from crema_core.features.feature_cache import FeatureCache
from crema_core.features.readable import find_unreadable
from crema_core.features.sources import distinct, read_together, sharing
from tests.data.test_clips import write_clip
from tests.data.test_reuse import Frames, opens
from tests.train.conftest import MakeModel
from tests.train.file_modalities import OtherFiles, write_records

__all__ = ["opens"]

NAMES = ("main", "other")


def record(name: str, **sources: Any) -> Record:
    return Record(name, "?", "!", sources)


def shared(folder: Path, count: int) -> list[Record]:
    """Samples whose first two modalities read one file; every third lacks the second."""
    given = write_records(folder, count)
    return [
        replace(own, sources=own.sources | ({"other": own.sources["main"]} if number % 3 != 2 else {}))
        for number, own in enumerate(given)
    ]


def test_modalities_that_read_a_file_of_a_sample_both_are_one_group() -> None:
    records = [
        record("0", a="x.mp4", b="y.wav", c=["z.png", "x.mp4#t=1,2"]),
        record("1", a="x.mp4", d="z.png"),  # of another sample: not together
        record("2", e="1.npy", d="1.npy"),
    ]
    assert sharing(records, "abcde") == [("a", "c"), ("b",), ("d", "e")]
    assert sharing([*records, record("3", e="q", c="q"), record("4", b="q", d="q")], "abcde") == [tuple("abcde")]
    assert sharing(records, []) == []


def test_a_file_is_wanted_for_the_first_sample_that_names_it() -> None:
    records = [record("0", a="x", b=["y", "z"]), record("1", a="x", b="y"), record("2", a="x", b=["y", "z"])]
    assert list(distinct(records, "ab")) == [(records[0], ("a", "b")), (records[1], ("b",))]
    assert list(distinct(records, "ba", lambda source: source != "x")) == [(records[0], ("b",)), (records[1], ("b",))]
    assert list(distinct(records, "a", lambda source: False)) == []


@pytest.mark.parametrize("num_workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_clip_is_decoded_once_and_each_modality_has_its_own_damage(
    tmp_path: Path, opens: Counter[str], num_workers: int
) -> None:
    paths = [str(write_clip(tmp_path / f"{number}.mp4")) for number in range(3)]
    (tmp_path / "bad.mp4").write_bytes(b"no clip")
    modalities = {"few": Frames(2), "late": Frames(1, start_s=0.5, end_s=1.0)}
    records = [record(path, few=path, late=path) for path in paths]
    records[1] = record("parts", few=paths[1], late=f"{paths[1]}#t=50,60")  # not there
    records.append(record("bad", few=str(tmp_path / "bad.mp4")))
    opens.clear()
    batches = list(
        read_together(
            list(distinct(records, list(modalities))), modalities, batch_size=2, num_workers=num_workers, pass_over=True
        )
    )
    assert [{name: rows.tolist() for name, rows in own.present.items()} for own in batches] == [
        {"few": [0, 1], "late": [0]},
        {"few": [0], "late": [0]},
    ]
    assert [(record.id, name, type(why.error)) for own in batches for record, name, why in own.left_out] == [
        ("parts", "late", MediaError),
        ("bad", "few", MediaError),
    ]
    for batch, first in zip(batches, (records[0], records[2]), strict=True):
        for name, own in batch.modalities.items():
            alone = modalities[name].prepare(first.sources[name]).tensors["frames"]
            assert torch.equal(own.batch["frames"][0], alone)
    if not num_workers:
        opens.clear()
        list(read_together(list(distinct([records[0], records[2]], list(modalities))), modalities, batch_size=2))
        assert opens == {"0.mp4": 1, "2.mp4": 1}


def test_features_are_those_of_modalities_that_are_filled_one_by_one(
    new_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, records = new_model(num=2), shared(tmp_path / "data", 8)
    passes: list[dict[str, int]] = []
    encode = model.encode

    def counted(batches: Any) -> Any:
        passes.append({name: len(own.rows) for name, own in batches.items()})
        return encode(batches)

    monkeypatch.setattr(model, "encode", counted)
    together, alone = FeatureCache(model), FeatureCache(model)
    filled = fill_cache(together, records * 2, names=NAMES, batch_size=3)
    assert passes == [{"main": 3, "other": 2}, {"main": 3, "other": 2}, {"main": 2, "other": 2}]
    assert (filled.encoded, filled.found) == ({"main": 8, "other": 6}, {"main": 0, "other": 0})
    for name in NAMES:
        fill_cache(alone, records, names=[name], batch_size=3)
        sources = [own.sources[name] for own in records if name in own.sources]
        first, second = together.gather(name, sources), alone.gather(name, sources)
        assert torch.equal(first.values, second.values)
        assert torch.equal(first.mask, second.mask)
    passes.clear()
    again = fill_cache(together, records, names=NAMES, batch_size=3)
    assert (passes, again.found) == ([], {"main": 8, "other": 6})


def test_what_is_missing_of_one_modality_is_read_for_it_alone(
    new_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, records = new_model(num=2), shared(tmp_path / "data", 6)
    cache = FeatureCache(model)
    fill_cache(cache, records, names=["other"], batch_size=6)
    read: list[str] = []
    monkeypatch.setattr(OtherFiles, "prepare", lambda self, source: read.append(source))
    filled = fill_cache(cache, records, names=NAMES, batch_size=4)
    assert (filled.encoded, filled.found, read) == ({"main": 6, "other": 0}, {"main": 0, "other": 4}, [])


@pytest.mark.parametrize("kept", [True, False])
def test_a_file_that_one_modality_cannot_read_is_left_out_of_it_alone(
    new_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    model, records = new_model(num=2), shared(tmp_path / "data", 6)
    bad = str(records[1].sources["main"])
    prepare = OtherFiles.prepare

    def refuse(self: OtherFiles, source: Any) -> Any:
        if source == bad:
            raise MediaError(f"'{source}' has no other. Accepted is a file with one. Write it again.")
        return prepare(self, source)

    monkeypatch.setattr(OtherFiles, "prepare", refuse)
    cache = FeatureCache(model) if kept else None
    (found,) = find_unreadable(
        model,
        [Samples(records, list(range(1, 7)), [], "data.jsonl")],
        NAMES,
        cache=cache,
        batch_size=4,
        max_skipped=0.5,
    )
    assert [(own.modality, own.why) for own in found.unusable] == [("other", "unreadable")]
    reason = found.unusable[0].reason
    assert reason == f"'{bad}' has no other. Accepted is a file with one. Write it again."
    if cache is None:
        return
    assert cache.has("main", bad)
    assert not cache.has("other", bad)
    with pytest.raises(MediaError, match=r"^Sample 's1' .*has no other"):
        fill_cache(FeatureCache(model), records, names=NAMES, batch_size=4)
    monkeypatch.setattr(OtherFiles, "prepare", prepare)  # it can be read now, and is not
    again = FeatureCache(model)
    filled = fill_cache(again, records, names=NAMES, batch_size=4, unreadable=Unreadable({("other", (bad,)): reason}))
    assert (filled.encoded, filled.unreadable) == ({"main": 6, "other": 3}, 1)
    sources = [own.sources["other"] for own in records if own.sources.get("other", bad) != bad]
    assert torch.equal(cache.gather("other", sources).values, again.gather("other", sources).values)


def test_parts_of_several_processes_are_the_whole(new_model: MakeModel, tmp_path: Path) -> None:
    model, records = new_model(num=2), shared(tmp_path / "data", 8)
    counts = [
        fill_cache(FeatureCache(model), records, names=NAMES, batch_size=3, shard=Shard(number, 2)).encoded
        for number in range(2)
    ]
    assert {name: sum(own[name] for own in counts) for name in NAMES} == {"main": 8, "other": 6}
    assert all(own["main"] for own in counts)


def test_what_both_need_is_counted_before_it_is_too_much(new_model: MakeModel, tmp_path: Path) -> None:
    model, records = new_model(num=2), shared(tmp_path / "data", 60)
    one = FeatureCache(model)
    fill_cache(one, records[:3], names=NAMES, batch_size=3)
    enough, too_little = (factor * one.num_bytes * 20 for factor in (1.01, 0.99))
    with pytest.raises(TrainingError, match="The features of 100 sources of 'main' and 'other' need about"):
        fill_cache(cache := FeatureCache(model, limit_bytes=too_little), records, names=NAMES, batch_size=3)
    assert len(cache) == 5  # after one pass
    fill_cache(FeatureCache(model, limit_bytes=enough), records, names=NAMES, batch_size=3)
