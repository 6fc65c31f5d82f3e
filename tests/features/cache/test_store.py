"""Features come back as they were kept, from whatever process, and damage is found."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from crema_core.errors import CacheWarning
from crema_core.features.cache.folder import SHARD, Entry, read_entries
from crema_core.features.cache.store import FeatureStore, StoredFeatures, pad, split, write_shard
from crema_core.modality import Features


def write(path: Path, entries: Mapping[str, StoredFeatures]) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_shard(path, entries)
    return True


def new_store(folder: Path, **options: float) -> FeatureStore:
    return FeatureStore(folder, write=write, **options)  # type: ignore[arg-type]


def features(
    seed: int, *, steps: int = 2, tokens: int = 3, per_token: bool = False, clock: bool = True, dtype: str = "float32"
) -> StoredFeatures:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(steps, tokens, 4, generator=generator).to(getattr(torch, dtype))
    mask = torch.rand((steps, tokens) if per_token else (steps,), generator=generator) > 0.3
    times = torch.rand(steps, 2, generator=generator) if clock else None
    return StoredFeatures(values, mask, times, torch.float32)


def same(first: StoredFeatures | None, second: StoredFeatures) -> bool:
    assert first is not None
    clocks = first.times is second.times is None or (
        first.times is not None and second.times is not None and torch.equal(first.times, second.times)
    )
    return (
        torch.equal(first.values, second.values)
        and first.values.dtype == second.values.dtype
        and torch.equal(first.mask, second.mask)
        and clocks
        and first.encoded == second.encoded
    )


KEPT = st.builds(
    features,
    st.integers(0, 1000),
    steps=st.integers(1, 4),
    tokens=st.integers(1, 5),
    per_token=st.booleans(),
    clock=st.booleans(),
    dtype=st.sampled_from(["float32", "bfloat16", "float16"]),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(KEPT, min_size=1, max_size=6))
def test_shapes_masks_times_and_bits_are_kept_exactly(
    tmp_path_factory: pytest.TempPathFactory, entries: list[StoredFeatures]
) -> None:
    folder = tmp_path_factory.mktemp("store")
    writer = new_store(folder, shard_bytes=200)
    for number, entry in enumerate(entries):
        writer.add(f"{number:040x}", entry)
    writer.flush()
    reader = new_store(folder)
    assert len(reader) == len(entries)
    for store in (writer, reader):
        assert all(same(store.get(f"{number:040x}"), entry) for number, entry in enumerate(entries))


def test_cutting_and_padding_give_the_encoders_batch_back() -> None:
    mask = torch.tensor([[True, True, False], [True, False, False], [True, True, True]])
    values = torch.randn(3, 3, 2, 4) * mask[:, :, None, None]
    times = torch.rand(3, 3, 2) * mask[:, :, None]
    whole = Features(values, mask, times)
    again = pad(split(whole, dtype=None), device=torch.device("cpu"))
    assert all(torch.equal(first, second) for first, second in zip(whole[:3], again[:3], strict=True))


def test_a_source_without_a_clock_has_none_beside_others_either() -> None:
    batch = pad([features(1, steps=2), features(2, steps=3, clock=False)], device=torch.device("cpu"))
    assert batch.times is not None
    assert batch.times[1].isnan().all()
    assert batch.times[0, 2].tolist() == [0, 0], "padding is zero"
    whole = Features(torch.ones(2, 2, 1, 4), torch.ones(2, 2, dtype=torch.bool), batch.times[:, :2])
    first, second = split(whole, dtype=None)
    assert first.times is not None
    assert torch.equal(first.times, batch.times[0, :2])
    assert second.times is None


def test_a_shard_is_an_ordinary_safetensors_file(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    entry = features(1, per_token=True)
    store.add("ab", entry)
    store.flush()
    (path,) = tmp_path.glob("*")
    found = load_file(path)
    assert set(found) == {"ab.values", "ab.mask", "ab.times"}
    assert torch.equal(found["ab.values"], entry.values)


def test_features_not_on_disk_yet_are_read_from_memory_and_shards_close_by_size_and_age(tmp_path: Path) -> None:
    store = new_store(tmp_path, shard_bytes=10**6)
    store.add("a", features(1))
    assert same(store.get("a"), features(1))
    assert "a" in store
    assert store.unwritten_bytes == features(1).num_bytes
    assert list(tmp_path.iterdir()) == []
    aged = new_store(tmp_path, max_unwritten_s=0.0)
    aged.add("b", features(2))
    assert (len(list(tmp_path.iterdir())), aged.unwritten_bytes) == (1, 0)
    sized = new_store(tmp_path, shard_bytes=features(3).num_bytes)
    sized.add("c", features(3))
    assert len(list(tmp_path.iterdir())) == 2


def test_writers_at_once_have_shards_of_their_own_and_readers_see_them_after_a_look(tmp_path: Path) -> None:
    first, second, reader = (new_store(tmp_path) for _ in range(3))
    first.add("a", features(1))
    second.add("a", features(1))
    second.add("b", features(2))
    first.flush()
    second.flush()
    assert "a" not in reader
    reader.scan()
    assert same(reader.get("a"), features(1))
    assert same(reader.get("b"), features(2))
    assert len(list(tmp_path.glob(f"*{SHARD}"))) == 2


@pytest.mark.parametrize("keep", [0, 5, 60, 400, -1], ids=lambda keep: f"{keep} bytes left")
def test_a_truncated_shard_is_warned_of_once_set_aside_and_its_sources_are_missing(tmp_path: Path, keep: int) -> None:
    store = new_store(tmp_path)
    for number in range(3):
        store.add(f"{number}", features(number))
    store.flush()
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.warns(CacheWarning) as warned:
        reader = new_store(tmp_path)
    assert len(warned) == 1
    text = str(warned[0].message)
    assert text.startswith(f"The shard '{path.name}' of the feature cache is damaged: it")
    assert text.endswith(
        f". It is set aside as '{path.name}.damaged', and what it held is encoded again when it is needed."
    )
    assert "0" not in reader
    assert [entry.name for entry in tmp_path.iterdir()] == [f"{path.name}.damaged"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        new_store(tmp_path)


def test_a_flipped_byte_is_found_wherever_it_is(tmp_path: Path) -> None:
    """Whatever byte of a shard is flipped, no reader gets other features than those written."""
    store = new_store(tmp_path / "store")
    entry = features(1)
    store.add("ab", entry)
    store.flush()
    (path,) = (tmp_path / "store").iterdir()
    content = path.read_bytes()
    generator = torch.Generator().manual_seed(0)
    places = torch.randint(len(content), (60,), generator=generator).tolist()
    for number, place in enumerate([*range(8), *places]):
        folder = tmp_path / str(number)
        folder.mkdir()
        flipped = bytearray(content)
        flipped[place] ^= 1 << (number % 8)
        (folder / path.name).write_bytes(flipped)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CacheWarning)
            found = new_store(folder).get("ab")
        assert found is None or same(found, entry), f"byte {place}"


def test_a_damaged_entry_is_warned_of_and_the_rebuilt_one_hides_it_for_good(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    folder = root / "features" / "some-modality"
    store = new_store(folder)
    store.add("a", features(1))
    store.add("b", features(2))
    store.flush()
    (path,) = folder.iterdir()
    content = bytearray(path.read_bytes())
    content[read_entries(path)["a"].parts["values"].start + 5] ^= 1
    path.write_bytes(content)
    reader = new_store(folder)
    with pytest.warns(CacheWarning) as warned:
        assert reader.get("a") is None
        assert reader.get("a") is None
    assert [str(entry.message) for entry in warned] == [
        f"Kept features of one source in '{path.name}' are damaged: its checksum is another than when it was written. "
        f"They are encoded again. See all damage with: crema cache check {root}"
    ]
    assert same(reader.get("b"), features(2))
    reader.add("a", features(1))
    reader.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(new_store(folder).get("a"), features(1))


def test_what_is_written_after_the_clock_was_set_back_hides_what_was_written_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2, 3):
        store = new_store(tmp_path)
        store.add("a", features(number))
        store.flush()
        now = time.time_ns()
        monkeypatch.setattr(time, "time_ns", lambda now=now: now - 3_600_000_000_000)
    assert same(new_store(tmp_path).get("a"), features(3))


def test_shards_evicted_by_another_process_are_missing_not_an_error(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    store.add("a", features(1))
    store.flush()
    reader = new_store(tmp_path)
    for path in tmp_path.iterdir():
        path.unlink()
    reader.will_need("a")
    assert reader.get("a") is None
    assert "a" not in reader


def test_few_shards_are_mapped_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crema_core.features.cache.store.MAX_MAPPED", 2)
    store = new_store(tmp_path, shard_bytes=1)
    for number in range(5):
        store.add(f"{number}", features(number))
    for number in (0, 1, 2, 3, 4, 0, 3):
        store.will_need(f"{number}")
        assert same(store.get(f"{number}"), features(number))
    assert len(store._mapped) == 2


def test_the_header_of_a_shard_is_parsed_once_however_often_it_is_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crema_core.features.cache.store.MAX_MAPPED", 1)
    store = new_store(tmp_path, shard_bytes=1)
    for number in range(3):
        store.add(f"{number}", features(number))
    parsed: list[Path] = []

    def counted(path: Path) -> dict[str, Entry]:
        parsed.append(path)
        return read_entries(path)

    monkeypatch.setattr("crema_core.features.cache.store.read_entries", counted)
    for number in (0, 1, 2, 0, 1, 2):
        assert same(store.get(f"{number}"), features(number))
    assert len(parsed) == len(set(parsed)) == 3
