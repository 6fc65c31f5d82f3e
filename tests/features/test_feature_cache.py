"""Kept features are the encoders' features, whatever batch they came in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crema_core.api.model import CremaModel
from crema_core.data.dataset import Key, ModalityDataset, load_batches
from crema_core.errors import TrainingError
from crema_core.features.encode import cacheable, encode_batch, fill_cache
from crema_core.features.feature_cache import FeatureCache
from crema_core.modality import Features
from crema_core.plugins.spec import Capabilities
from tests.train.conftest import MakeModel
from tests.train.file_modalities import write_records


def datasets(model: CremaModel, folder: Path, cached: bool) -> ModalityDataset:
    modalities = {name: model.branch(name).modality for name in model.names}
    records = write_records(folder, 6)
    return ModalityDataset(records, modalities, major=model.major, cached=model.names if cached else ())


@pytest.fixture
def filled(new_model: MakeModel, tmp_path: Path) -> tuple[CremaModel, FeatureCache, ModalityDataset, ModalityDataset]:
    """A model, its cache, a data set that prepares sources and one that leaves them to the cache."""
    model = new_model()
    cache = FeatureCache(model)
    direct, cached = (datasets(model, tmp_path / "data", kept) for kept in (False, True))
    fill_cache(cache, cached.records, names=model.names, batch_size=4)
    return model, cache, direct, cached


@pytest.mark.slow
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=4))
def test_tokens_from_kept_features_are_those_from_the_encoders(
    filled: tuple[CremaModel, FeatureCache, ModalityDataset, ModalityDataset], indices: list[int]
) -> None:
    model, cache, direct, cached = filled
    keys = [[Key(0, index) for index in indices]]
    (online,) = load_batches(direct, keys)
    (kept,) = load_batches(cached, keys)
    assert kept.modalities == {}
    with torch.no_grad():
        first, second = encode_batch(model, None, online), encode_batch(model, cache, kept)
        assert list(first) == list(second)
        for name in first:
            expected, got = (model.modality_tokens(name, features[name]) for features in (first, second))
            assert torch.equal(expected.rows, got.rows)
            assert torch.equal(expected.mask, got.mask)
            torch.testing.assert_close(got.values, expected.values, atol=1e-5, rtol=1e-5)
            if expected.times is not None and got.times is not None:
                assert torch.equal(expected.times[expected.mask], got.times[got.mask])


def test_each_file_is_encoded_once(new_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = new_model()
    records = write_records(tmp_path / "data", 4)
    encoded: list[tuple[str, int]] = []
    encode = model.encode

    def counted(batches):  # type: ignore[no-untyped-def]
        encoded.extend((name, len(batch.rows)) for name, batch in batches.items())
        return encode(batches)

    monkeypatch.setattr(model, "encode", counted)
    cache = FeatureCache(model)
    for _ in range(2):
        fill_cache(cache, records * 3, names=["main", "wave"], batch_size=3)
    assert encoded == [("main", 3), ("main", 1), ("wave", 3)]
    assert len(cache) == 7


def test_features_too_large_for_the_limit_are_refused_early(new_model: MakeModel, tmp_path: Path) -> None:
    model = new_model()
    cache = FeatureCache(model, limit_bytes=20e3)
    with pytest.raises(TrainingError) as error:
        fill_cache(cache, write_records(tmp_path / "data", 100), names=["main"], batch_size=5)
    assert len(cache) == 5
    assert str(error.value) == (
        "The features of 100 sources of 'main' need about 6.58e-05 GB of memory together with those already kept, more "
        'than cache_limit_gb=2e-05. Raise cache_limit_gb, pass cache_precision="bf16" for half of it, '
        'cache="FOLDER" to keep them on disk, or cache="none" to encode every minibatch.'
    )


def test_bf16_halves_the_memory_and_is_handed_out_as_encoded(new_model: MakeModel, tmp_path: Path) -> None:
    model = new_model()
    records = write_records(tmp_path / "data", 4)
    exact, rounded = FeatureCache(model), FeatureCache(model, dtype=torch.bfloat16)
    for cache in (exact, rounded):
        fill_cache(cache, records, names=["main"], batch_size=4)
    sources = [record.sources["main"] for record in records]
    first, second = exact.gather("main", sources), rounded.gather("main", sources)
    assert second.values.dtype == first.values.dtype == torch.float32
    torch.testing.assert_close(second.values, first.values, rtol=1e-2, atol=1e-2)
    assert rounded.num_bytes < 0.6 * exact.num_bytes


def test_sources_with_different_numbers_of_tokens_get_a_mask_of_tokens(new_model: MakeModel) -> None:
    cache = FeatureCache(new_model(num=1))
    cache.put("wave", ["a"], Features(torch.ones(1, 2, 3, 4), torch.ones(1, 2, dtype=torch.bool)))
    cache.put("wave", ["b"], Features(torch.ones(1, 1, 5, 4), torch.ones(1, 1, dtype=torch.bool)))
    features = cache.gather("wave", ["a", "b"])
    assert features.values.shape == (2, 2, 5, 4)
    assert features.mask.tolist() == [[[True] * 3 + [False] * 2] * 2, [[True] * 5, [False] * 5]]


def test_a_modality_that_is_not_deterministic_is_not_kept(new_model: MakeModel) -> None:
    model = new_model()
    modality = type(model.branch("wave").modality)
    spec = modality.spec.model_copy(update={"capabilities": Capabilities(deterministic=False)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modality, "spec", spec)
        assert cacheable(model, model.names) == ("main", "other", "points")
