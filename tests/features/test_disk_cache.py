"""A folder of features changes how often encoders run, and no number."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from crema_core.api.answer import answer_many
from crema_core.api.model import CremaModel
from crema_core.common.progress import StatusLine
from crema_core.data.dataset import Key, ModalityDataset, load_batches
from crema_core.errors import CacheError, CacheWarning, MediaError, OptionsError
from crema_core.evaluation.run import evaluate
from crema_core.features.cache import keys
from crema_core.features.cache.folder import summarize
from crema_core.features.cache.keys import code_digest, encoder_identity, folder_name
from crema_core.features.cache.store import DiskCache, MappedShard
from crema_core.features.encode import Shard, fill_cache, read_ahead
from crema_core.features.feature_cache import FeatureCache
from crema_core.modality import Modality
from crema_core.model.precision import computing_in
from crema_core.plugins.hooks import Hooks
from crema_core.train.fit import fit
from crema_core.train.settings import train_settings
from tests.train.conftest import MakeModel
from tests.train.file_modalities import write_data, write_records


class Counted:
    """How many sources were prepared and encoded since the last look."""

    def __init__(self) -> None:
        self.prepared = self.encoded = 0

    def since(self) -> tuple[int, int]:
        found = (self.prepared, self.encoded)
        self.prepared = self.encoded = 0
        return found


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """Counts every source that is decoded or passes an encoder, in any model."""
    counts = Counted()
    encode = CremaModel.encode

    def counting(self: CremaModel, batches: Any) -> Any:
        counts.encoded += sum(len(batch.rows) for batch in batches.values())
        return encode(self, batches)

    def counted_prepare(prepare: Any) -> Any:
        def run(self: Modality, source: Any) -> Any:
            # Fingerprints are taken of examples, which are tensors, not files.
            counts.prepared += not isinstance(source, torch.Tensor)
            return prepare(self, source)

        return run

    from tests.train import file_modalities

    monkeypatch.setattr(CremaModel, "encode", counting)
    monkeypatch.setattr(file_modalities._FromFile, "prepare", counted_prepare(file_modalities._FromFile.prepare))
    return counts


def train(model: CremaModel, data: Path, out: Path, **settings: Any) -> dict[str, torch.Tensor]:
    quiet = StatusLine(io.StringIO(), enabled=False)
    chosen = {"epochs": 2, "batch_size": 2, "lr": 1e-2, "seed": 3, "status": quiet, **settings}
    fit(model, data, data, out=out, hooks=Hooks(strict=True), **chosen)
    return model.adapter_state_dict()


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[key], second[key]) for key in first)


def disk_cache(model: CremaModel, folder: Path, **options: Any) -> FeatureCache:
    return FeatureCache(model, disk=DiskCache(folder, **options))


@pytest.mark.slow
def test_training_with_and_without_a_cache_gives_the_same_parameters_bit_for_bit(
    new_model: MakeModel, tmp_path: Path, counted: Counted
) -> None:
    data, folder = write_data(tmp_path / "data", 6), str(tmp_path / "cache")
    without = train(new_model(dropout=0.1), data, tmp_path / "none", cache="none")
    assert counted.since()[1] > 40  # every source in every minibatch
    cold = train(new_model(dropout=0.1), data, tmp_path / "cold", cache=folder)
    assert counted.since() == (21, 21)  # every source once
    warm = train(new_model(dropout=0.1), data, tmp_path / "warm", cache=folder)
    assert counted.since() == (0, 0)
    assert equal(without, cold)
    assert equal(without, warm)
    assert equal(without, train(new_model(dropout=0.1), data, tmp_path / "memory", cache="memory"))


@pytest.mark.slow
def test_a_run_says_what_came_from_the_cache(new_model: MakeModel, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", 3, modalities="m")
    told = []
    for number in range(2):
        stream = io.StringIO()
        train(
            new_model(num=1), data, tmp_path / f"{number}", cache=str(tmp_path / "cache"), status=StatusLine(stream),
        )  # fmt: skip
        told.append(next(line for line in stream.getvalue().splitlines() if line.startswith("features:")))
    assert told == [
        "features: 3 sources encoded, 0.0 MB written, 0 from the cache",
        "features: 0 sources encoded, 3 from the cache",
    ]


@pytest.mark.slow
def test_evaluation_and_answers_need_no_encoder_once_the_folder_is_filled(
    new_model: MakeModel, tmp_path: Path, counted: Counted
) -> None:
    data, folder = write_data(tmp_path / "data", 4), tmp_path / "cache"
    plain = evaluate(new_model(), data)
    counted.since()
    first = evaluate(new_model(), data, cache=folder)
    assert counted.since() == (14, 14)
    again = evaluate(new_model(), data, cache=folder)
    assert counted.since() == (0, 0)
    assert plain.by_type == first.by_type == again.by_type
    items = [{"question": "what ?", **record.sources} for record in write_records(tmp_path / "data", 4)]
    model = new_model()
    answers = answer_many(model, items, cache=folder)
    assert counted.since() == (0, 0)
    assert answers == answer_many(model, items)


def test_arrays_are_encoded_and_files_beside_them_are_kept(
    new_model: MakeModel, tmp_path: Path, counted: Counted
) -> None:
    model = new_model()
    (record,) = write_records(tmp_path / "data", 1)
    cache = disk_cache(model, tmp_path / "cache")
    points = torch.randn(3, 6).numpy()
    item = {"question": "what ?", "main": Path(str(record.sources["main"])), "points": io.BytesIO()}

    def with_points() -> dict[str, Any]:
        stream = io.BytesIO()
        np.save(stream, points)
        stream.seek(0)
        return {**item, "points": stream}

    first = answer_many(model, [with_points()], cache=cache)
    assert counted.since() == (2, 2)
    assert answer_many(model, [with_points()], cache=cache) == first
    assert counted.since() == (1, 1)  # the stream alone
    assert answer_many(model, [with_points()]) == first


def test_sources_of_equal_content_are_encoded_once(new_model: MakeModel, tmp_path: Path, counted: Counted) -> None:
    model = new_model()
    records = write_records(tmp_path / "data", 2, modalities="m")
    shutil.copy(str(records[0].sources["main"]), str(records[1].sources["main"]))
    filled = fill_cache(disk_cache(model, tmp_path / "cache"), records, names=["main"], batch_size=4)
    assert counted.since() == (1, 1)
    assert (filled.encoded, filled.found) == ({"main": 1}, {"main": 1})


def test_changed_content_under_the_same_path_is_encoded_anew(
    new_model: MakeModel, tmp_path: Path, counted: Counted
) -> None:
    model = new_model()
    records = write_records(tmp_path / "data", 2, modalities="m")
    fill_cache(disk_cache(model, tmp_path / "cache"), records, names=["main"], batch_size=4)
    write_records(tmp_path / "data", 2, modalities="m", seed=9)
    counted.since()
    cache = disk_cache(model, tmp_path / "cache")
    fill_cache(cache, records, names=["main"], batch_size=4)
    assert counted.since() == (2, 2)
    fresh = FeatureCache(model)
    fill_cache(fresh, records, names=["main"], batch_size=4)
    sources = [record.sources["main"] for record in records]
    assert torch.equal(cache.gather("main", sources).values, fresh.gather("main", sources).values)


def test_bf16_is_rounded_on_disk_handed_out_as_encoded_and_never_mixed_with_exact_features(
    new_model: MakeModel, tmp_path: Path
) -> None:
    model = new_model()
    records = write_records(tmp_path / "data", 4, modalities="m")
    caches = [FeatureCache(model, dtype=d, disk=DiskCache(tmp_path / "cache")) for d in (None, torch.bfloat16)]
    for cache in caches:
        assert fill_cache(cache, records, names=["main"], batch_size=4).encoded == {"main": 4}
    sources = [record.sources["main"] for record in records]
    exact, rounded = (cache.gather("main", sources).values for cache in caches)
    assert rounded.dtype == exact.dtype == torch.float32
    assert torch.equal(rounded, exact.bfloat16().float())
    assert not torch.equal(rounded, exact)
    sizes = {own.kept_in: own.num_bytes for own in summarize(tmp_path / "cache").modalities}
    assert sizes["bfloat16"] < 0.75 * sizes["as encoded"]


@pytest.mark.slow
def test_features_encoded_ahead_in_bf16_are_those_training_in_bf16_looks_for(
    new_model: MakeModel, tmp_path: Path, counted: Counted
) -> None:
    data, folder = write_data(tmp_path / "data", 4), tmp_path / "cache"
    cache = disk_cache(new_model(), folder)
    with computing_in("bf16", cache.model.device):
        fill_cache(cache, write_records(tmp_path / "data", 4), names=cache.model.names, batch_size=4)
    counted.since()
    train(new_model(), data, tmp_path / "bf16", cache=str(folder), precision="bf16", epochs=1)
    assert counted.since() == (0, 0)
    train(new_model(), data, tmp_path / "fp32", cache=str(folder), epochs=1)
    assert counted.since() == (14, 14)


@pytest.mark.slow
def test_damage_found_while_training_is_rebuilt_with_the_same_numbers(
    new_model: MakeModel, tmp_path: Path, counted: Counted
) -> None:
    data, folder = write_data(tmp_path / "data", 5), tmp_path / "cache"
    whole = train(new_model(), data, tmp_path / "whole", cache=str(folder))
    for path in folder.glob("features/main-*/*.safetensors"):
        content = bytearray(path.read_bytes())
        content[len(content) * 3 // 4] ^= 4
        path.write_bytes(content)
    (truncated, *_) = folder.glob("features/wave-*/*.safetensors")
    truncated.write_bytes(truncated.read_bytes()[:-7])
    counted.since()
    with pytest.warns(CacheWarning) as warned:
        mended = train(new_model(), data, tmp_path / "mended", cache=str(folder))
    texts = [str(entry.message) for entry in warned if entry.category is CacheWarning]
    assert len(texts) == 2
    assert texts[0].startswith(f"The shard '{truncated.name}' of the feature cache is damaged: it should have ")
    assert texts[1].startswith("Kept features of one source in '")
    assert counted.since() == (5, 5)  # four waves, one of the main modality
    assert equal(whole, mended)
    with warnings.catch_warnings():
        warnings.simplefilter("error", CacheWarning)
        train(new_model(), data, tmp_path / "after", cache=str(folder))
    assert counted.since() == (0, 0)


@pytest.mark.slow
def test_a_full_cache_stops_writing_says_so_deletes_nothing_and_training_goes_on(
    new_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a slow machine the files would be old enough for a note of their digests, which is no feature.
    monkeypatch.setattr("crema_core.features.cache.keys.SETTLED_NS", 10**18)
    data, folder = write_data(tmp_path / "data", 5), tmp_path / "cache"
    expected = train(new_model(), data, tmp_path / "none", cache="none")
    fill_cache(disk_cache(new_model(), folder), write_records(tmp_path / "data", 5)[:1], names=["main"], batch_size=1)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.warns(CacheWarning) as warned:
        found = train(new_model(), data, tmp_path / "full", cache=str(folder), cache_disk_limit_gb=1e-6)
    texts = [str(entry.message) for entry in warned if entry.category is CacheWarning]
    size = sum(map(len, before.values()))
    assert texts == [
        f"The feature cache '{folder}' is full: it holds {size / 1e9:.3g} GB of the 1e-06 GB allowed. Nothing more is "
        f"written to it and nothing is deleted. Allow more, or make room with: crema cache evict {folder} --older-than "
        "30d"
    ]
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert equal(found, expected)


def test_encoding_alone_stops_where_a_full_cache_would_only_fill_memory(new_model: MakeModel, tmp_path: Path) -> None:
    records = write_records(tmp_path / "data", 6, modalities="m")
    cache = disk_cache(new_model(), tmp_path / "cache", limit_bytes=3000)
    cache._store("main")._shard_bytes = 1
    with pytest.warns(CacheWarning), pytest.raises(CacheError) as caught:
        fill_cache(cache, records, names=["main"], batch_size=1, disk_only=True)
    assert str(caught.value).startswith("The feature cache has no room for ")
    assert str(caught.value).endswith(
        " of 6 sources of 'main'. Nothing was deleted. Allow more, or make room with crema cache evict, and run this "
        "again."
    )
    assert len(disk_cache(cache.model, tmp_path / "cache")._store("main")) > 0


def test_a_cache_that_cannot_be_written_is_used_and_its_rest_stays_in_memory(
    new_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, entries: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("crema_core.features.cache.store.write_shard", refuse)
    cache = disk_cache(new_model(), tmp_path / "cache")
    records = write_records(tmp_path / "data", 2, modalities="m")
    with pytest.warns(CacheWarning) as warned:
        fill_cache(cache, records, names=["main"], batch_size=1)
    assert [str(entry.message) for entry in warned] == [
        f"The feature cache '{tmp_path / 'cache'}' cannot be written: No space left on device. What it holds is used, "
        "and nothing more is written to it. Make room or make it writable, or name another cache folder."
    ]
    assert cache.gather("main", [record.sources["main"] for record in records]).values.shape[0] == 2
    assert cache.num_bytes > 0


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(CacheError) as caught:
        DiskCache(tmp_path)
    assert str(caught.value) == (
        f"'{tmp_path}' exists and is no feature cache (there is no crema-cache.json in it). Accepted: a new or empty "
        "folder, or one made by this package. Name another folder. Nothing was changed."
    )
    (tmp_path / "crema-cache.json").write_text('{"format": 99}')
    with pytest.raises(CacheError) as caught:
        DiskCache(tmp_path)
    assert str(caught.value) == (
        f"The feature cache '{tmp_path}' has another format than 1. This version reads and writes format 1 only. Name "
        "another folder. Nothing was changed."
    )
    with pytest.raises(CacheError) as caught:
        DiskCache(tmp_path / "thesis.tex" / "cache")
    assert str(caught.value) == (
        f"The feature cache '{tmp_path / 'thesis.tex' / 'cache'}' cannot be made: a part of its path is a file. A "
        "cache needs a folder that can be written. Name another folder."
    )


def test_a_misspelt_kind_of_cache_is_no_folder() -> None:
    assert train_settings(None, {"cache": "./memry"}).cache == "./memry"
    with pytest.raises(OptionsError) as caught:
        train_settings(None, {"cache": "memry"})
    assert str(caught.value) == (
        "fit.cache: as a folder this is easily misread; write ./memry if you mean one. Did you mean "
        "'memory'?, got 'memry'. Give another value, for example the default."
    )


def test_parts_cover_every_source_once() -> None:
    sources = [f"/clips/{number}.mp4" for number in range(300)]  # fixed: which part has one is a hash of its path
    parts = [{source for source in sources if Shard(index, 3).has(source)} for index in range(3)]
    assert set().union(*parts) == set(sources)
    assert sum(map(len, parts)) == len(sources)
    assert min(map(len, parts)) > 70


def test_whatever_features_depend_on_is_in_their_folders_name(
    new_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def name(model: CremaModel, modality: str = "main", kept: torch.dtype | None = None) -> str:
        return folder_name(encoder_identity(model, modality, kept=kept))

    model = new_model()
    first = name(model)
    assert first == name(new_model())
    assert first.startswith("main-")
    others = {name(model, "other"), name(model, kept=torch.bfloat16)}
    with computing_in("bf16", model.device):
        others.add(name(model))
    with monkeypatch.context() as patch:
        patch.setattr(keys, "code_digest", lambda _: "edited")
        others.add(name(model))
    modality = model.branch("main").modality
    with monkeypatch.context() as patch:
        patch.setattr(modality, "options", modality.options.model_copy(update={"frames": 7}))
        others.add(name(model))
    modality.register_buffer("window", torch.ones(2), persistent=False)
    others.add(name(model))
    with torch.no_grad():
        next(model.backbone.vision_model.parameters()).add_(1)
    others.add(name(model))
    wave = name(model, "wave")
    with torch.no_grad():
        next(model.backbone.vision_model.parameters()).add_(1)
    assert wave == name(model, "wave")  # a modality with an encoder of its own does not see the backbone's
    assert len(others - {first}) == 7


def test_editing_a_modalities_code_changes_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "crema_edited"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "modality.py").write_text(
        "from tests.support.modalities import WaveModality\nclass Edited(WaveModality):\n    pass\n"
    )
    (package / "helper.py").write_text("SCALE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    from crema_edited.modality import Edited  # type: ignore[import-not-found]

    first = code_digest(Edited)
    assert first == code_digest(Edited)
    (package / "helper.py").write_text("SCALE = 2\n")
    assert code_digest(Edited) != first


def test_a_class_without_a_file_cannot_be_kept() -> None:
    namespace: dict[str, Any] = {"__name__": "nowhere"}
    exec("from tests.support.modalities import WaveModality\nclass Typed(WaveModality): pass", namespace)
    with pytest.raises(CacheError) as caught:
        code_digest(namespace["Typed"])
    assert str(caught.value) == (
        "The code of 'Typed' cannot be found, so nobody can tell later whether kept features are still its own. A "
        "modality kept on disk is defined in a file. Move the class into a module, or pass cache='memory'."
    )


def test_the_next_batch_is_read_ahead_of_the_current_ones_work(
    new_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = new_model(num=1)
    records = write_records(tmp_path / "data", 3, modalities="m")
    cache = disk_cache(model, tmp_path / "cache")
    fill_cache(cache, records, names=["main"], batch_size=2)
    asked: list[str] = []
    monkeypatch.setattr(MappedShard, "will_need", lambda self, digest: asked.append(digest))
    modalities = {"main": model.branch("main").modality}
    dataset = ModalityDataset(records, modalities, major="main", cached=("main",))
    assert cache.disk is not None
    digests = [cache.disk.files.of(record.sources["main"]) for record in records]
    seen = []
    for batch in read_ahead(load_batches(dataset, [[Key(0, 2)], [Key(0, 0)], [Key(0, 1)]]), cache):
        seen.append((batch.ids, list(asked)))
    two, nought, one = digests[2], digests[0], digests[1]
    assert seen == [
        (("s2",), [two, nought]),
        (("s0",), [two, nought, one]),
        (("s1",), [two, nought, one]),
    ]


def test_what_was_encoded_before_an_error_is_kept(new_model: MakeModel, tmp_path: Path) -> None:
    records = write_records(tmp_path / "data", 4, modalities="m")
    Path(str(records[2].sources["main"])).write_bytes(b"no array")
    cache = disk_cache(new_model(), tmp_path / "cache")
    with pytest.raises(MediaError):
        fill_cache(cache, records, names=["main"], batch_size=1)
    assert len(disk_cache(cache.model, tmp_path / "cache")._store("main")) == 2


KILLED = """
import sys, time
from pathlib import Path
from tests.train.file_modalities import file_modalities, write_records
from crema_core.features.cache.store import DiskCache
from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.features.feature_cache import FeatureCache
from crema_core.features.encode import fill_cache

folder, backbone = Path(sys.argv[1]), sys.argv[2]
encode = CremaModel.encode

def slow(self, batches):
    time.sleep(0.05)
    return encode(self, batches)

CremaModel.encode = slow
model = build(file_modalities(num=1), backbone=backbone)
cache = FeatureCache(model, disk=DiskCache(folder / "cache"))
cache._store("main")._shard_bytes = 1
fill_cache(cache, write_records(folder / "data", 200, modalities="m"), names=["main"], batch_size=1)
"""


@pytest.mark.slow
def test_a_killed_encode_leaves_whole_shards_and_goes_on_where_it_was(
    t5_folder: Path, tmp_path: Path, counted: Counted
) -> None:
    records = write_records(tmp_path / "data", 200, modalities="m")
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(t5_folder)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], env=os.environ | {"PYTHONPATH": "."})
    shards = tmp_path / "cache"
    deadline = time.monotonic() + 120
    while len(list(shards.glob("features/*/*.safetensors"))) < 5:
        assert process.poll() is None, "it ended by itself"
        assert time.monotonic() < deadline, "nothing was written"
        time.sleep(0.02)
    process.kill()
    process.wait()
    from crema_core.api.build import build
    from tests.train.file_modalities import file_modalities

    model = build(file_modalities(num=1), backbone=t5_folder)
    cache = disk_cache(model, shards)
    done = len(cache._store("main"))
    assert 5 <= done < 200
    with warnings.catch_warnings():
        warnings.simplefilter("error", CacheWarning)
        filled = fill_cache(cache, records, names=["main"], batch_size=8)
    assert (filled.encoded, filled.found) == ({"main": 200 - done}, {"main": done})
    assert counted.since() == (200 - done, 200 - done)
    fresh = FeatureCache(model)
    fill_cache(fresh, records, names=["main"], batch_size=8)
    sources = [record.sources["main"] for record in records]
    torch.testing.assert_close(cache.gather("main", sources).values, fresh.gather("main", sources).values)
