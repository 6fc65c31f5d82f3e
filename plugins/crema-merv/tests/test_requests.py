"""Encoders asked for where nothing mixes them, and mixers without encoders: refused before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crema_core.api.build import build
from crema_core.errors import BuildError
from crema_core.plugins import registry
from tests.support.checkpoints import Language
from tests.support.modalities import frames_spec, wave_spec

MANY = [{"name": "siglip", "weights": "nowhere"}, {"name": "vivit", "weights": "nowhere"}]
NOT_MIXED = (
    "'video' has several encoders (siglip, vivit), and fusion 'merv' does not mix them. Accepted: a fusion that "
    "mixes several encoders, with this modality as the major one, or one encoder. Choose such a fusion, or leave the "
    "encoders out."
)
NO_OPTION = (
    "video: unknown option 'encoders'. Accepted: encoder, encoder_layer, end_s, fps, num_frames, own_tokens, revision, "
    "start_s, weights. Did you mean 'encoder'?"
)
NOTHING = (
    "fusion 'merv' mixes several encoders of the major modality, and 'video' has none to mix. Accepted: a major "
    "modality that sees through several. Write build(..., encoders=['dinov2', 'siglip'])."
)
CASES: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "another strategy": (
        ["video"],
        {"encoders": MANY, "fusion": "concat"},
        "encoders came, and the major modality 'video' takes one alone with fusion 'concat'. Accepted: a fusion that "
        "mixes several encoders, and a major modality that sees through encoders of its choice. Choose both, or leave "
        "encoders out.",
    ),
    "as an option": ([{"name": "video", "encoders": MANY}], {"fusion": "concat"}, NO_OPTION),
    "of a supporting modality": (
        [frames_spec("main"), {"name": "video", "encoders": MANY}],
        {"fusion": "merv", "major": "main"},
        NOT_MIXED,
    ),
    "nothing to mix": (["video"], {"fusion": "merv"}, NOTHING),
    "twice": (
        [{"name": "video", "encoders": MANY}],
        {"fusion": "merv", "encoders": MANY},
        "encoders came twice, as an argument of build and as the option 'encoders' of 'video'. Accepted: one of both. "
        "Leave the option out.",
    ),
    "a modality without encoders": (
        [wave_spec()],
        {"fusion": "merv", "encoders": MANY},
        "encoders came, and the major modality 'wave' takes one alone with fusion 'merv'. Accepted: a fusion that "
        "mixes several encoders, and a major modality that sees through encoders of its choice. Choose both, or leave "
        "encoders out.",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_encoders_out_of_place_are_refused(case: str) -> None:
    modalities, options, told = CASES[case]
    with pytest.raises(BuildError) as caught:
        build(modalities, language_model="nowhere", **options)
    assert str(caught.value) == told


def test_a_modality_whose_options_say_nothing_of_encoders_has_none(languages: Callable[[Language], Path]) -> None:
    with pytest.raises(BuildError) as caught:
        build([wave_spec()], fusion="merv", language_model=languages("llama"))
    assert str(caught.value) == NOTHING.replace("'video'", "'wave'")


def test_a_modality_with_encoders_cannot_be_added(t5_folder: Path) -> None:
    model = build([frames_spec("main")], backbone=t5_folder, fusion="concat")
    with pytest.raises(BuildError) as caught:
        model.add_modality({"name": "video", "encoders": MANY})
    assert str(caught.value) == NO_OPTION
    assert model.names == ("main",)


@pytest.mark.slow
def test_other_modalities_need_a_backbone_with_a_q_former(
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
            f"'self-gated' is not an installed fusion. Installed: {', '.join(registry.installed_names('fusion'))}. Did "
            "you mean 'self_gated'?",
        ),
        (
            {"supporting": {"append": False}},
            "{'append': False} names no fusion. Accepted: a name, or a mapping with 'name' and options. Write "
            "{'name': ..., 'option': value}.",
        ),
        (
            {"supporting": "merv"},
            "supporting='merv' cannot fuse what is beside the encoders of 'merv': it takes tokens of the major "
            "modality that are its own. Accepted: a fusion that takes those of a Q-Former. Leave supporting out for "
            "'self_gated'.",
        ),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(BuildError) as caught:
        build(["video"], encoders=MANY, fusion={"name": "merv", **options}, language_model="nowhere")
    assert str(caught.value) == told
