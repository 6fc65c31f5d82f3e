"""Names that mean something to a strategy mean nothing on a modality that does not declare them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import Field, ValidationError

from crema_core.api.build import build
from crema_core.errors import BuildError
from crema_core.modality import FeaturePart
from crema_core.plugins.spec import Capabilities, ModalityOptions, ModalitySpec
from tests.support.modalities import WaveModality, wave_spec


class StaffOptions(ModalityOptions):
    encoders: int = Field(default=2, description="rotary encoders of the machine")


class StaffModality(WaveModality):
    """Its layout and its encoders are those of a machine."""

    layout = "two rows of knobs"


class PartsModality(WaveModality):
    """Features in two parts, as declared."""

    @property
    def feature_parts(self) -> tuple[FeaturePart, ...]:
        return FeaturePart("left", 1, 1, 1, 4), FeaturePart("right", 1, 1, 1, 6)


def spec_of(name: str, factory: type[WaveModality], **changes: Any) -> ModalitySpec:
    values = wave_spec().model_dump() | {"name": name, "factory": factory, "test_options": ()} | changes
    return ModalitySpec(**values)


def test_a_modality_may_have_a_layout_and_an_option_encoders(t5_folder: Path) -> None:
    spec = spec_of("staff", StaffModality, options=StaffOptions)
    for fusion in ("self_gated", "concat"):
        model = build([spec, wave_spec()], backbone=t5_folder, fusion=fusion)
        answer = model.answer("what ?", ["red", "blue"], staff=torch.randn(4, 3, 10))
        assert answer.used == ("staff",)
    model = build([wave_spec()], backbone=t5_folder)
    model.add_modality({"name": spec, "encoders": 3})
    assert model.branch("staff").modality.options.encoders == 3


def test_encoders_of_build_are_for_a_modality_that_declares_an_option(t5_folder: Path) -> None:
    with pytest.raises(BuildError) as caught:
        build([spec_of("staff", StaffModality, options=StaffOptions)], backbone=t5_folder, encoders=["dinov2"])
    assert str(caught.value) == (
        "encoders came, and the major modality 'staff' takes one alone with fusion 'self_gated'. Accepted: a fusion "
        "that mixes several encoders, and a major modality that sees through encoders of its choice. Choose both, or "
        "leave encoders out."
    )


def test_declared_parts_are_refused_where_nothing_mixes_them(t5_folder: Path) -> None:
    with pytest.raises(BuildError) as caught:
        build([spec_of("parts", PartsModality)], backbone=t5_folder)
    assert str(caught.value) == (
        "'parts' has several encoders (left, right), and fusion 'self_gated' does not mix them. Accepted: a fusion "
        "that mixes several encoders, with this modality as the major one, or one encoder. Choose such a fusion, or "
        "leave the encoders out."
    )


def test_the_declared_option_must_exist() -> None:
    with pytest.raises(ValidationError, match=r"capabilities\.several_encoders names 'encoder', which is none of"):
        spec_of("staff", StaffModality, options=StaffOptions, capabilities=Capabilities(several_encoders="encoder"))
