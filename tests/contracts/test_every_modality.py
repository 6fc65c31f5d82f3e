"""What holds for the modalities of this repository together; each one's conformance is tested in its own package."""

from __future__ import annotations

import pytest
import torch

from crema_core.errors import MediaError
from crema_core.modality import BuildContext, Modality
from crema_core.plugins import registry
from crema_core.plugins.spec import ModalitySpec
from crema_core.testing.fixtures import IMAGE_SIZE, VISION_DIM, vision
from tests.support.packages import needs_names

EIGHT = ("audio", "depth", "flow", "normals", "pointcloud", "thermal", "touch", "video")
SPECS = [registry.resolve(record.name).spec for record in registry.list_modalities() if record.status == "ok"]


@pytest.mark.parametrize("name", [pytest.param(own, marks=needs_names("modality", own)) for own in EIGHT])
def test_the_eight_modalities_of_this_repository_are_installed(name: str) -> None:
    assert name in {spec.name for spec in SPECS}


def test_only_video_is_the_default_major_modality() -> None:
    assert [spec.name for spec in SPECS if spec.capabilities.default_major] == ["video"]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_a_modality_belongs_to_its_spec(spec: ModalitySpec) -> None:
    assert spec.load_factory().spec is spec


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_the_default_encoder_has_nothing_to_train(spec: ModalitySpec) -> None:
    context = BuildContext(vision=vision, vision_dim=VISION_DIM, image_size=IMAGE_SIZE)
    modality: Modality = spec.load_factory()(spec.options(), context)
    assert not list(modality.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_a_modality_draws_what_it_makes_of_a_source(spec: ModalitySpec) -> None:
    context = BuildContext(vision=vision, vision_dim=VISION_DIM, image_size=IMAGE_SIZE)
    modality: Modality = spec.load_factory()(spec.options(), context)
    picture = modality.show(modality.example(torch.Generator().manual_seed(0)))
    assert picture.dtype == torch.uint8
    assert picture.dim() == 3
    assert picture.shape[2] == 3
    assert len(torch.unique(picture.flatten(0, 1), dim=0)) > 10
    with pytest.raises(MediaError):
        modality.show("no/such/file.mp4")
