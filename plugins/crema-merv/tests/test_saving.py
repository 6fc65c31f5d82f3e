"""What is saved of a model that mixes encoders: its card, and the start of another training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.errors import CheckpointError
from crema_core.report.card import model_card
from crema_core.saving.bundle import init_from
from tests.support.checkpoints import Language


def test_encoders_in_another_order_are_refused_although_shapes_agree(
    t5_folder: Path, encoders: list[dict[str, str]], tmp_path: Path
) -> None:
    def mixed(order: list[dict[str, str]]) -> CremaModel:
        return build([{"name": "video", "num_frames": 2}], encoders=order, backbone=t5_folder, fusion="merv")

    two = encoders[:2]  # equally wide
    mixed(two).save_pretrained(tmp_path / "saved")
    init_from(mixed(two), tmp_path / "saved")
    with pytest.raises(CheckpointError) as caught:
        init_from(mixed(two[::-1]), tmp_path / "saved")
    assert str(caught.value).splitlines()[1] == (
        "  encoders of video: siglip layer -1 + vivit layer -1, the model's are vivit layer -1 + siglip layer -1"
    )


def test_a_language_model_alone_is_named_and_what_was_trained_of_it(
    encoders: list[dict[str, str]], languages: Callable[[Language], Path]
) -> None:
    place = languages("llama")
    options: dict[str, Any] = {"language_model": place, "encoders": encoders, "fusion": "merv"}
    frozen = model_card(build(["video"], **options), name="mine")
    assert f"Adapters for the frozen language model `{place}`, written by crema-core" in frozen
    assert "The language model is not contained.\n" in frozen
    trained = model_card(build(["video"], tuning="full", **options), name="mine")
    assert f"Adapters for the language model `{place}`, written by" in trained
    assert "What was trained of the language model is contained." in trained
    assert "- tuning: `full`" in trained
