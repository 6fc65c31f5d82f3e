"""Encoders asked for where nothing mixes them, and mixers without encoders: refused before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crema_core.api.build import build
from crema_core.errors import BuildError
from tests.support.checkpoints import Language
from tests.support.senses import frames_spec, wave_spec

MANY = [{"name": "siglip", "weights": "nowhere"}, {"name": "vivit", "weights": "nowhere"}]
NOT_MIXED = (
    "'video' has several encoders (siglip, vivit), and nothing here mixes them. Accepted: fusion='merv' with this "
    "sense as the major one, or one encoder. Use fusion='merv', or leave its option encoders out."
)
NOTHING = (
    "fusion='merv' mixes several encoders of the major sense, and 'video' has none to mix. Accepted: a sense with the "
    "option encoders. Write build(..., encoders=['dinov2', 'siglip'])."
)
CASES: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "another strategy": (["video"], {"encoders": MANY}, NOT_MIXED),
    "as an option": ([{"name": "video", "encoders": MANY}], {"fusion": "concat"}, NOT_MIXED),
    "of a supporting sense": (
        [frames_spec("main"), {"name": "video", "encoders": MANY}],
        {"fusion": "concat", "major": "main"},
        NOT_MIXED,
    ),
    "nothing to mix": (["video"], {"fusion": "merv"}, NOTHING),
    "twice": (
        [{"name": "video", "encoders": MANY}],
        {"fusion": "merv", "encoders": MANY},
        "encoders came twice, as an argument of build and as an option of 'video'. Accepted: one of both. Leave the "
        "option out.",
    ),
    "a sense without encoders": (
        [wave_spec()],
        {"fusion": "merv", "encoders": MANY},
        "encoders came, and the major sense 'wave' has no such option. Accepted: a major sense that sees through "
        "encoders of its choice. Make one major, or leave encoders out.",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_encoders_out_of_place_are_refused(case: str) -> None:
    modalities, options, told = CASES[case]
    with pytest.raises(BuildError) as caught:
        build(modalities, language_model="nowhere", **options)
    assert str(caught.value) == told


def test_a_sense_whose_options_say_nothing_of_encoders_has_none(languages: Callable[[Language], Path]) -> None:
    with pytest.raises(BuildError) as caught:
        build([wave_spec()], fusion="merv", language_model=languages("llama"))
    assert str(caught.value) == NOTHING.replace("'video'", "'wave'")


def test_a_sense_with_encoders_cannot_be_added(t5_folder: Path) -> None:
    model = build([frames_spec("main")], backbone=t5_folder)
    with pytest.raises(BuildError) as caught:
        model.add_modality({"name": "video", "encoders": MANY})
    assert str(caught.value) == NOT_MIXED
    assert model.names == ("main",)


def test_other_senses_need_a_backbone_with_a_q_former(
    encoders: list[dict[str, str]], languages: Callable[[Language], Path]
) -> None:
    with pytest.raises(BuildError) as caught:
        build(["video", wave_spec()], encoders=encoders, fusion="merv", backbone="language model alone",
              language_model=languages("llama"))  # fmt: skip
    assert str(caught.value) == (
        "'wave' is to pass a Q-Former, and the backbone 'language model alone' has none. Accepted: backbones in BLIP-2 "
        "or InstructBLIP format. Use backbone='crema-tiny' or 'Salesforce/blip2-flan-t5-xl'."
    )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"projecter": "conv"},
            "fusion 'merv': unknown option 'projecter'. Accepted: map_kind, mixer, num_blocks, num_heads, num_steps, "
            "projector, rule, supporting, token_grid. Did you mean 'projector'?",
        ),
        (
            {"mixer": "cross"},
            "fusion 'merv'.mixer: input should be 'cross_attention', 'released', 'scalar', 'average', 'channel', "
            "'channel_norm' or 'concat', got 'cross'. Give another value, for example the default.",
        ),
        (
            {"supporting": "self-gated"},
            "supporting='self-gated' cannot fuse what stands beside the encoders of 'merv'. Accepted: self_gated, "
            "concat, linear, cross_attention, mixture. Did you mean 'self_gated'? Leave supporting out for "
            "'self_gated'.",
        ),
        (
            {"supporting": {"append": False}},
            "supporting=None cannot fuse what stands beside the encoders of 'merv'. Accepted: self_gated, concat, "
            "linear, cross_attention, mixture. Leave supporting out for 'self_gated'.",
        ),
        (
            {"supporting": "merv"},
            "supporting='merv' cannot fuse what stands beside the encoders of 'merv'. Accepted: self_gated, concat, "
            "linear, cross_attention, mixture. Leave supporting out for 'self_gated'.",
        ),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(BuildError) as caught:
        build(["video"], encoders=MANY, fusion={"name": "merv", **options}, language_model="nowhere")
    assert str(caught.value) == told
