"""One loader for backbones, language models and encoders: every refusal has the class and the words of its caller."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers as hf
from transformers.utils import logging

from crema_core.errors import AssetError, CheckpointError, CremaError, first_line
from crema_core.model.checkpoint import (
    image_statistics,
    own_template,
    read_config,
    read_json,
    read_weights,
)
from crema_core.model.load_backbone import load_backbone
from tests.support import vision_encoders

CLASSES: tuple[type[CremaError], ...] = (AssetError, CheckpointError)


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vision_encoders.save_siglip(tmp_path_factory.mktemp("loading") / "siglip")


@pytest.mark.parametrize("error", CLASSES)
def test_a_place_without_checkpoint_is_refused_in_the_words_of_the_caller(
    tmp_path: Path, error: type[CremaError]
) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(error) as caught:
        read_config(tmp_path, None, error=error, what="tree", accepted="an oak", try_next="Plant one.")
    text = str(caught.value)
    assert text.startswith(f"No tree was found at '{tmp_path}': Unrecognized model in {tmp_path}. ")
    assert text.endswith(". Accepted: an oak. Plant one.")


def test_a_folder_that_does_not_exist_is_named_as_one(tmp_path: Path) -> None:
    place = tmp_path / "nowhere"
    with pytest.raises(AssetError) as caught:
        read_config(place, None, error=AssetError, what="tree", accepted="an oak", try_next="Plant one.")
    assert str(caught.value) == (
        f"No tree was found at '{place}': there is no such folder. Accepted: an oak. Plant one."
    )


@pytest.mark.parametrize("error", CLASSES)
def test_weights_that_are_not_there_are_refused(tmp_path: Path, error: type[CremaError]) -> None:
    hf.SiglipVisionConfig(**vision_encoders.SIZES).save_pretrained(tmp_path)
    with pytest.raises(error) as caught:
        read_weights(hf.SiglipVisionModel, tmp_path, revision=None, error=error, dtype=torch.float32)
    text = str(caught.value)
    assert text.startswith(f"The weights of '{tmp_path}' cannot be read: ")
    assert text.endswith(". Accepted: a complete checkpoint in safetensors format. Download or copy it again.")


def test_weights_of_another_depth_and_width_are_named(siglip: Path) -> None:
    """The caller decides; an encoder of images may lack a head that is never run."""
    config = hf.SiglipVisionConfig(
        **{**vision_encoders.SIZES, "patch_size": 8, "num_hidden_layers": 3, "image_size": 24}
    )
    read = read_weights(
        hf.SiglipVisionModel, siglip, revision=None, error=AssetError, dtype=torch.bfloat16, config=config,
        ignore_mismatched_sizes=True,
    )  # fmt: skip
    assert len(read.absent) == 16
    assert all(".layers.2." in name for name in read.absent)
    assert ["embeddings.position_embedding.weight" in name for name in read.misfit] == [True]
    assert {parameter.dtype for parameter in read.model.parameters()} == {torch.bfloat16}


def test_verbosity_and_loading_bar_are_put_back(siglip: Path) -> None:
    before = (logging.get_verbosity(), logging.is_progress_bar_enabled())
    read_weights(hf.SiglipVisionModel, siglip, revision=None, error=AssetError, dtype=torch.float32)
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


@pytest.mark.parametrize("error", CLASSES)
def test_settings_are_read_where_they_are(tmp_path: Path, error: type[CremaError]) -> None:
    assert read_json(tmp_path, "settings.json", revision=None, error=error) is None
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"size": 3}))
    assert read_json(tmp_path, "settings.json", revision=None, error=error) == {"size": 3}
    file.write_text("{")
    with pytest.raises(error) as caught:
        read_json(tmp_path, "settings.json", revision=None, error=error)
    assert str(caught.value) == (
        f"'{file}' is not JSON (Expecting property name enclosed in double quotes at column 2). It must be "
        "the file the checkpoint came with. Download it again."
    )


@pytest.mark.parametrize(("name", "read"), [
    ("crema_template.json", own_template), ("preprocessor_config.json", image_statistics),
])  # fmt: skip
def test_damaged_settings_of_a_backbone_are_refused(tmp_path: Path, name: str, read: object) -> None:
    (tmp_path / name).write_text("[")
    assert callable(read)
    with pytest.raises(CheckpointError, match=rf"{name}' is not JSON .* Download it again\.$"):
        read(str(tmp_path), None)


@pytest.mark.parametrize(("error", "expected"), [
    (OSError("No such file.\nTry again."), "No such file"), (ValueError("  \n "), "ValueError"),
    (KeyError("model"), "'model'"), (RuntimeError(), "RuntimeError"),
])  # fmt: skip
def test_what_a_library_said_becomes_a_part_of_a_sentence(error: Exception, expected: str) -> None:
    assert first_line(error) == expected


def test_a_file_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "stage3.pth"
    file.write_bytes(b"weights")
    with pytest.raises(CheckpointError) as caught:
        load_backbone(file)
    assert str(caught.value) == (
        f"'{file}' is a file. Accepted: a folder or hub id with config.json beside its weights. Name the folder; "
        "released files of other code are converted first, by a verb that crema --help lists."
    )
