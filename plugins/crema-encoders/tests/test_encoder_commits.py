"""Encoders that are not transformers' own read all their files from one commit of the hub, and it is recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from crema_core.errors import AssetError
from crema_core.model.revisions import pinned, recording
from crema_core.video.vision_encoder import VisionEncoder
from crema_encoders.languagebind import LanguageBindEncoder
from crema_encoders.timm import TimmEncoder
from tests.support import vision_encoders
from tests.support.hub import COMMIT, advance, downloaded, hub

__all__ = ["hub"]


@pytest.mark.parametrize("kind", [LanguageBindEncoder, TimmEncoder])
def test_configuration_and_weights_come_from_the_recorded_commit(
    kind: type[VisionEncoder], hub: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    save = vision_encoders.save_languagebind if kind is LanguageBindEncoder else vision_encoders.save_timm
    downloaded(hub, "some/encoder", save(tmp_path / "encoder"), revision="main")
    with recording() as found:
        width = kind("some/encoder").feature_dim
    assert found == {"some/encoder": {"main": COMMIT}}
    later = advance(hub, "some/encoder")
    later.unlink()
    later.mkdir()
    (later / "config.json").write_text("{}")  # what the branch has now is no encoder at all
    with pinned(found):
        encoder = kind("some/encoder")
        assert encoder.feature_dim == width
        encoder.load()
    with pytest.raises(AssetError, match=r"^'some/encoder' holds no "):
        _ = kind("some/encoder").feature_dim


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"patch_size": 0}, "patch_size is '0', not a number of 1 to 100,000"),
        ({"num_frames": None}, "num_frames is 'None', not a number of 1 to 100,000"),
        ({"image_size": []}, "the size of pictures is '[]', not a number of 1 to 100,000"),
        ({"image_size": 10**50}, f"the size of pictures is '{str(10**50)[:40]}', not a number of 1 to 100,000"),
    ],
)
def test_sizes_nothing_can_have_are_refused(values: dict[str, object], said: str, tmp_path: Path) -> None:
    folder = vision_encoders.save_languagebind(tmp_path / "encoder")
    settings = json.loads((folder / "config.json").read_text())
    settings["vision_config"] |= values
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(AssetError) as caught:
        _ = LanguageBindEncoder(str(folder)).grid
    assert str(caught.value).startswith(f"'{folder}' holds no encoder of clips of LanguageBind: {said}. Accepted: ")
