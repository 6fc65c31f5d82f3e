"""A pinned revision of the hub is the one that everything is read from: weights, tokenizer, settings, encoder."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from transformers import AutoImageProcessor, SiglipVisionModel

from crema_core.api.build import build
from crema_core.api.load import load
from crema_core.errors import AssetError, CheckpointError, RevisionWarning
from crema_core.model.backbone import ALONE
from crema_core.model.load_backbone import load_backbone
from crema_core.model.pretrained import load_frozen, read_processor
from crema_core.model.revisions import moved, pinned, recording, revision_of
from tests.support import vision_encoders
from tests.support.checkpoints import save_language, save_published
from tests.support.hub import COMMIT, LATER, advance, downloaded, hub

__all__ = ["hub"]


def test_a_backbone_is_read_from_its_revision(hub: Path, tmp_path: Path) -> None:
    folder = save_published(tmp_path / "folder", "instructblip-flan-t5")
    statistics = {"image_mean": [0.1, 0.2, 0.3], "image_std": [1.0, 2.0, 3.0]}
    (folder / "preprocessor_config.json").write_text(json.dumps(statistics))
    (folder / "crema_template.json").write_text(json.dumps({"choice_scoring": "released"}))
    downloaded(hub, "some/backbone", folder, revision="v2")
    backbone = load_backbone("some/backbone", revision="v2")
    assert (backbone.image_mean, backbone.image_std) == ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))
    assert backbone.template == {"choice_scoring": "released"}
    for other in (None, "v3"):
        with pytest.raises(CheckpointError, match=r"^No backbone was found at 'some/backbone': "):
            load_backbone("some/backbone", revision=other)


@pytest.mark.parametrize(
    ("weights", "advice"),
    [
        ("Qwen/Qwen3-VL-4B-Instruct", "To count without weights (crema describe, crema plan): backbone='qwen3-vl-4b'."),
        ("qwen/qwen2.5-omni-7b", "To count without weights (crema describe, crema plan): backbone='qwen2.5-omni-7b'."),
        (
            "Salesforce/blip2-opt-2.7b",
            "To count without weights (crema describe, crema plan): backbone='blip2-opt-2.7b'.",
        ),
        ("qwen3-vl-4", "Did you mean 'qwen3-vl-4b'?"),
        ("some/backbone", "Try backbone='Salesforce/blip2-flan-t5-xl' where the hub is reachable."),
    ],
)
def test_weights_that_cannot_be_fetched_are_counted_by_the_name_of_their_shape(
    weights: str, advice: str, hub: Path
) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_backbone(weights)
    message = str(caught.value)
    assert message.startswith(f"No backbone was found at '{weights}': ")
    assert message.endswith(advice)
    if "count" in advice:
        shape = advice.split("'")[1]
        assert load_backbone(shape).shape_only


def test_a_language_model_is_read_from_its_own_revision(hub: Path, tmp_path: Path) -> None:
    downloaded(hub, "some/backbone", save_published(tmp_path / "folder", "blip2-opt"), revision="v2")
    downloaded(hub, "some/language", save_language(tmp_path / "language", "llama"), revision="v7")
    backbone = load_backbone("some/backbone", revision="v2", language_model="some/language", language_revision="v7")
    assert backbone.language_model.config.model_type == "llama"
    for alone in ("some/backbone", ALONE):
        with pytest.raises(CheckpointError, match=r"^No language model was found at 'some/language': "):
            load_backbone(alone, revision="v7", language_model="some/language", language_revision="v2")
    alone = load_backbone(ALONE, language_model="some/language", language_revision="v7")
    assert alone.language_model.config.model_type == "llama"


def test_an_encoder_and_its_preprocessing_are_read_from_their_revision(hub: Path, tmp_path: Path) -> None:
    folder = vision_encoders.save_siglip(tmp_path / "siglip")
    expected = load_frozen(SiglipVisionModel, folder).state_dict()
    downloaded(hub, "some/siglip", folder, revision="v2")
    found = load_frozen(SiglipVisionModel, "some/siglip", revision="v2").state_dict()
    assert all(torch.equal(own, expected[key]) for key, own in found.items())
    processor = read_processor(AutoImageProcessor, "some/siglip", revision="v2", needed="It is needed.")
    assert processor.size["height"] == 16
    with pytest.raises(AssetError, match=r"^No encoder was found at 'some/siglip': "):
        load_frozen(SiglipVisionModel, "some/siglip")
    with pytest.raises(AssetError, match=r"^'some/siglip' has weights but no preprocessor_config.json\. It is needed"):
        read_processor(AutoImageProcessor, "some/siglip", needed="It is needed.")


def test_the_commit_of_a_branch_is_recorded_with_the_model_read_again_and_named_when_the_branch_has_moved(
    hub: Path, tmp_path: Path
) -> None:
    downloaded(hub, "some/backbone", save_published(tmp_path / "folder", "blip2-opt"), revision="main")
    model = build(["video"], backbone="some/backbone")
    pins = {"some/backbone": {"main": COMMIT}}
    assert model.config["revisions"] == pins
    model.save_pretrained(tmp_path / "model")
    assert json.loads((tmp_path / "model" / "crema.json").read_text())["revisions"] == pins
    assert json.loads((tmp_path / "model" / "video" / "adapter.json").read_text())["revisions"] == pins
    later = LATER
    advance(hub, "some/backbone")
    with pytest.warns(RevisionWarning) as caught:
        again = load(tmp_path / "model")
    assert str(caught[0].message) == (
        f"'{tmp_path / 'model'}': 'main' of 'some/backbone' has moved from {COMMIT[:12]} to {later[:12]} since it was "
        "saved. The recorded commit is read, so that its answers stay the same. To use what is there now, build a "
        "model and train it."
    )
    assert again.config["revisions"] == pins
    with warnings.catch_warnings():
        warnings.simplefilter("error", RevisionWarning)
        newer = load(tmp_path / "model", backbone="some/backbone")  # named again: as it is now
    assert newer.config["revisions"] == {"some/backbone": {"main": later}}


def test_what_a_folder_or_a_commit_names_is_not_resolved(hub: Path, tmp_path: Path) -> None:
    with recording() as found:
        assert revision_of(tmp_path, None) is None
        assert revision_of("some/backbone", COMMIT) == COMMIT
        assert revision_of("some/backbone", "main") == "main"  # nobody knows it here; whoever reads it says so
    assert found == {}


def test_all_files_of_one_reading_come_from_one_commit(hub: Path, tmp_path: Path) -> None:
    downloaded(hub, "some/siglip", vision_encoders.save_siglip(tmp_path / "siglip"), revision="main")
    with recording() as found:
        assert revision_of("some/siglip", None) == COMMIT
        advance(hub, "some/siglip")
        assert revision_of("some/siglip", None) == COMMIT
    assert found == {"some/siglip": {"main": COMMIT}}
    with pinned(found):
        assert revision_of("some/siglip", "main") == COMMIT
    assert revision_of("some/siglip", "main") == "f" * 40
    assert moved(found) == [f"'main' of 'some/siglip' has moved from {COMMIT[:12]} to {'f' * 12}"]


def test_a_repository_of_data_without_a_configuration_has_a_commit_too(hub: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    name = "datasets/some/weights"
    downloaded(hub, name, tmp_path / "folder", revision="main")
    with recording() as found:
        assert revision_of(name, None) == COMMIT
        advance(hub, name)
        assert revision_of(name, None) == COMMIT
    assert found == {name: {"main": COMMIT}}
    assert moved(found) == [f"'main' of '{name}' has moved from {COMMIT[:12]} to {LATER[:12]}"]


def test_only_a_commit_in_the_notes_of_the_cache_is_one(hub: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    downloaded(hub, "some/weights", tmp_path / "folder", revision="main")
    note = hub / "models--some--weights" / "refs" / "main"
    for text in ("", "main", "0" * 39, "../../etc"):
        note.write_text(text)
        assert revision_of("some/weights", None) is None
