"""Every installed sense keeps the contract of `Modality`, whatever it senses."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from crema_core.errors import MediaError
from crema_core.modality import Batch, BuildContext, Features, Modality, Sample
from crema_core.plugins import registry
from crema_core.plugins.spec import ModalityOptions, ModalitySpec

PLUGIN_MODULES = ("crema_3d", "crema_audio", "crema_geometry", "crema_thermal", "crema_touch")
VISION_DIM, NUM_TOKENS, IMAGE_SIZE = 24, 5, 32


SPECS = [registry.resolve(record.name).spec for record in registry.list_modalities() if record.status == "ok"]
CASES = [(spec, options) for spec in SPECS for options in (spec.options(), *spec.test_options)]
IDS = [f"{spec.name}-{number}" for number, (spec, _) in enumerate(CASES)]


@pytest.fixture(params=CASES, ids=IDS)
def modality(request: pytest.FixtureRequest) -> Modality:
    spec, options = request.param
    return build(spec, options)


def vision(pixels: Tensor) -> Tensor:
    """A stand-in for the frozen encoder: `(M, 3, H, W)` -> `(M, 5, 24)`, every token depends on its image only."""
    mixing = torch.randn(3 * 16, NUM_TOKENS * VISION_DIM, generator=torch.Generator().manual_seed(0))
    pooled = torch.nn.functional.adaptive_avg_pool2d(pixels, 4).flatten(1)
    return (pooled @ mixing).unflatten(1, (NUM_TOKENS, VISION_DIM))


def build(spec: ModalitySpec, options: ModalityOptions) -> Modality:
    context = BuildContext(vision=vision, vision_dim=VISION_DIM, image_size=IMAGE_SIZE)
    modality: Modality = spec.load_factory()(options, context)
    return modality.eval()


def prepared(modality: Modality, seed: int) -> Sample:
    return modality.prepare(modality.example(torch.Generator().manual_seed(seed)))


def token_mask(features: Features) -> Tensor:
    mask = features.mask
    return mask if mask.dim() == 3 else mask[..., None].expand(features.values.shape[:3])


def equal(first: Sample, second: Sample) -> bool:
    return all(torch.equal(first.tensors[name], second.tensors[name]) for name in first.tensors)


def test_the_eight_senses_of_this_repository_are_installed() -> None:
    names = {spec.name for spec in SPECS}
    assert names >= {"audio", "depth", "flow", "normals", "pointcloud", "thermal", "touch", "video"}


def test_only_video_is_the_default_major_sense() -> None:
    assert [spec.name for spec in SPECS if spec.capabilities.default_major] == ["video"]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_every_option_is_described(spec: ModalitySpec) -> None:
    assert not [name for name, field in spec.options.model_fields.items() if not field.description]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_a_sense_belongs_to_its_spec(spec: ModalitySpec) -> None:
    assert spec.load_factory().spec is spec


def test_prepare_gives_cpu_tensors_with_time_first(modality: Modality) -> None:
    sample = prepared(modality, 0)
    lengths = {tensor.shape[0] for tensor in sample.tensors.values()}
    assert len(lengths) == 1
    assert all(tensor.device.type == "cpu" and not tensor.requires_grad for tensor in sample.tensors.values())
    assert all(bool(torch.isfinite(tensor).all()) for tensor in sample.tensors.values())
    if sample.times is not None:
        assert sample.times.dtype == torch.float32
        assert sample.times.shape == (lengths.pop(), 2)
        assert bool((sample.times[:, 1] > sample.times[:, 0]).all())


def test_prepare_is_deterministic_and_survives_pickling(modality: Modality) -> None:
    sample = prepared(modality, 0)
    assert equal(sample, prepared(modality, 0))
    assert equal(sample, pickle.loads(pickle.dumps(sample)))


def test_a_modality_travels_to_a_worker_without_the_backbone(modality: Modality) -> None:
    copy = pickle.loads(pickle.dumps(modality))
    assert copy.context.vision is None
    assert equal(prepared(modality, 3), prepared(copy, 3))


def test_different_sources_give_different_tensors(modality: Modality) -> None:
    assert not equal(prepared(modality, 0), prepared(modality, 1))


def test_encode_gives_the_declared_width_and_a_mask(modality: Modality) -> None:
    features = modality.encode(modality.collate([prepared(modality, 0), prepared(modality, 1)]))
    assert isinstance(features, Features)
    assert features.values.dim() == 4
    assert features.values.shape[0] == 2
    assert features.values.shape[3] == modality.feature_dim
    assert features.values.is_floating_point()
    assert features.mask.dtype == torch.bool
    assert features.mask.shape == features.values.shape[: features.mask.dim()]
    assert bool(token_mask(features).any(dim=(1, 2)).all())
    assert bool(torch.isfinite(features.values).all())


def test_encode_is_deterministic(modality: Modality) -> None:
    batch = modality.collate([prepared(modality, 0)])
    assert torch.equal(modality.encode(batch).values, modality.encode(batch).values)


def test_features_do_not_depend_on_the_other_samples(modality: Modality) -> None:
    """A sample alone and the same sample beside others (longer ones too) give the same real tokens."""
    samples = [prepared(modality, seed) for seed in range(3)]
    longest = Sample({name: torch.cat([t, t]) for name, t in samples[2].tensors.items()}, repeated(samples[2].times))
    together = modality.encode(modality.collate([samples[0], samples[1], longest]))
    for row, sample in enumerate(samples[:2]):
        alone = modality.encode(modality.collate([sample]))
        torch.testing.assert_close(
            together.values[row][token_mask(together)[row]], alone.values[0][token_mask(alone)[0]], rtol=1e-5, atol=1e-5
        )


def repeated(times: Tensor | None) -> Tensor | None:
    return None if times is None else torch.cat([times, times])


def test_a_batch_keeps_the_clock_of_sources_that_have_one(modality: Modality) -> None:
    sample = prepared(modality, 0)
    features = modality.encode(modality.collate([sample]))
    if sample.times is not None:
        assert modality.spec.capabilities.timestamps
        assert features.times is not None
        torch.testing.assert_close(features.times[0], sample.times)


def test_encoders_have_nothing_to_train(modality: Modality) -> None:
    assert not list(modality.parameters())
    assert not modality.train().training


def test_padding_is_masked(modality: Modality) -> None:
    sample = prepared(modality, 0)
    doubled = Sample({name: torch.cat([t, t]) for name, t in sample.tensors.items()}, repeated(sample.times))
    batch: Batch = modality.collate([sample, doubled])
    features = modality.encode(batch)
    steps = next(iter(sample.tensors.values())).shape[0]
    assert not bool(token_mask(features)[0, steps:].any())


@pytest.mark.parametrize("source", [None, 3, {"x": 1}, "no/such/file.mp4"], ids=["None", "int", "dict", "absent"])
def test_a_wrong_source_is_refused_with_our_error(modality: Modality, source: object) -> None:
    with pytest.raises(MediaError):
        modality.prepare(source)


def test_a_sense_draws_what_it_makes_of_a_source(modality: Modality) -> None:
    picture = modality.show(modality.example(torch.Generator().manual_seed(0)))
    assert picture.dtype == torch.uint8
    assert picture.dim() == 3
    assert picture.shape[2] == 3
    assert len(torch.unique(picture.flatten(0, 1), dim=0)) > 10
    with pytest.raises(MediaError):
        modality.show("no/such/file.mp4")


def test_declarations_import_no_torch() -> None:
    modules = ["crema_core.video.plugin", *(f"{package}.plugin" for package in PLUGIN_MODULES)]
    code = (
        f"import sys, {', '.join(modules)}; print([m for m in ('torch', 'numpy', 'av', 'trimesh') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
