"""The model card states what is needed, what differs from the defaults, and how it did."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from crema_core.api.build import build
from crema_core.api.describe import Description
from crema_core.api.model import CremaModel
from crema_core.report.card import model_card, write_card
from tests.support.modalities import four_modalities
from tests.support.pages import FOREIGN, Structure


@pytest.mark.slow
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


BAD = (
    "`<script>alert(1)</script>`",
    "``` <img src=x onerror=alert(1)>",
    "a | b\n\n# c\n\n```\n<b>",
    "![x](javascript:alert(1)) *b* [y](http://a.b) <http://a.b>",
    "<!-- a",
    "\\` <i>",
    *FOREIGN,
)


class Said:
    """A description that is no more than a text; making a whole one runs the model."""

    def __init__(self, model: CremaModel, text: str) -> None:
        self.components = [SimpleNamespace(name=name, trainable=1) for name in model.names]
        self.text = text

    def __str__(self) -> str:
        return self.text


@pytest.mark.parametrize("bad", BAD)
def test_texts_of_others_stay_texts_in_a_card(model: CremaModel, bad: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def rendered(text: str) -> Structure:
        monkeypatch.setitem(model.config["modalities"][0], "prefix", text)
        card = model_card(model, name=text, metrics={text: 0.5}, description=cast(Description, Said(model, text)))
        assert f"crema_core.load({json.dumps(text)})" in card
        markdown = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table")
        return Structure(markdown.render(card))

    plain, attacked = rendered("plain"), rendered(bad)
    assert attacked.tags == plain.tags
    assert attacked.others == plain.others == []
    assert attacked.text.count(" ".join(bad.split())) >= 3
