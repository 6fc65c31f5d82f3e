"""Bytes changed at random: a source is read, or refused with our error; nothing else ever escapes."""

from __future__ import annotations

import random
import warnings
from pathlib import Path

import pytest
import torch

from crema_core.errors import MediaError
from crema_core.modality import BuildContext, Modality
from crema_core.plugins import registry

world = pytest.importorskip("crema_world.generate")
SUFFIX_OF_MODALITY = pytest.importorskip("crema_world.files").SUFFIX_OF_MODALITY


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("worlds") / "world"
    world.make_world(out, num_clips=2, seed=0, split="train")
    return out / "clips"


def damage(raw: bytes, generator: random.Random) -> bytes:
    """Cut the file, or overwrite bytes: a few anywhere, or some near its beginning."""
    if generator.random() < 0.3:
        return raw[: generator.randrange(1, len(raw))]
    changed = bytearray(raw)
    reach = generator.choice((len(raw), min(len(raw), 400)))
    for _ in range(generator.choice((1, 5, 40))):
        changed[generator.randrange(reach)] = generator.randrange(256)
    return bytes(changed)


@pytest.mark.parametrize("name", SUFFIX_OF_MODALITY)
def test_damaged_files_are_read_or_refused(clips: Path, tmp_path: Path, name: str) -> None:
    spec = registry.resolve(name).spec
    modality: Modality = spec.load_factory()(spec.options(), BuildContext(image_size=32))
    raw = (clips / f"000001{SUFFIX_OF_MODALITY[name]}").read_bytes()
    generator = random.Random(0)
    path = tmp_path / f"damaged{SUFFIX_OF_MODALITY[name]}"
    refusals: list[str] = []
    for _ in range(60):
        path.write_bytes(damage(raw, generator))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                sample = modality.prepare(path)
        except MediaError as error:
            refusals.append(str(error))
        else:
            assert all(bool(torch.isfinite(tensor).all()) for tensor in sample.tensors.values())
    assert refusals
    assert not [text for text in refusals if str(path) not in text]


@pytest.mark.parametrize("name", SUFFIX_OF_MODALITY)
def test_a_file_that_is_whole_is_read(clips: Path, name: str) -> None:
    spec = registry.resolve(name).spec
    modality: Modality = spec.load_factory()(spec.options(), BuildContext(image_size=32))
    assert modality.prepare(str(clips / f"000000{SUFFIX_OF_MODALITY[name]}")).tensors
