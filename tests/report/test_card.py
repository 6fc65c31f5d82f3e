"""The model card states what is needed, what differs from the defaults, and how it did."""

from __future__ import annotations

from pathlib import Path

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.report.card import model_card, write_card
from tests.support.modalities import four_modalities


def test_a_card_names_packages_and_leaves_out_defaults(tiny_folder: Path, tmp_path: Path) -> None:
    model = build(["video", {"name": "depth", "num_frames": 1}], backbone=tiny_folder)
    text = write_card(tmp_path, model, metrics={"validation accuracy": 0.915}).read_text(encoding="utf-8")
    assert f"# {tmp_path.name}\n" in text
    assert "| video | crema-core | " in text
    assert "| depth | crema-geometry | " in text
    assert "pip install crema-core crema-geometry" in text
    assert f'model = crema_core.load("{tmp_path.name}")' in text
    assert "## Settings that are not the default\n\n- depth.num_frames: `1`\n\n## Results" in text
    assert "- validation accuracy: 91.5%" in text
    assert str(model.describe()) in text


def test_what_all_modalities_share_is_said_once(tiny_folder: Path) -> None:
    model = build(["video", "depth"], backbone=tiny_folder, mmqa={"lora_rank": 4}, fusion="concat")
    text = model_card(model, name="m")
    assert "- fusion: `{'name': 'concat'}`\n- every modality: mmqa.lora_rank: `4`\n" in text
    assert text.count("lora_rank") == 1


def test_a_card_without_changes_and_results_has_neither_section(model: CremaModel) -> None:
    text = model_card(model, name="m")
    assert "## Settings" not in text
    assert "## Results" not in text


def test_a_modality_given_by_hand_has_no_package(t5_folder: Path) -> None:
    text = model_card(build(four_modalities()[:1], backbone=t5_folder), name="m")
    assert "| main | given as a ModalitySpec | - | " in text
    assert "pip install crema-core\n" in text
