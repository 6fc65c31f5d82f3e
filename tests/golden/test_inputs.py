"""What goes into the encoders equals the released code: filter banks, point coordinates, chosen frames."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from crema_core.data.sampling import middle_indices
from crema_core.model.template import PromptTemplate
from tests.support.golden import DATA
from tests.support.numeric import assert_close_to_scale

coordinate_table = pytest.importorskip("crema_3d.encoding").coordinate_table
encode_coordinates = pytest.importorskip("crema_3d.encoding").encode_coordinates
normalized_fbank = pytest.importorskip("crema_audio.fbank").normalized_fbank

SOUND = load_file(DATA / "audio_frontend.safetensors")
POINTS = load_file(DATA / "coord_encoding_3d.safetensors")
SCHEDULE = json.loads((DATA / "schedule_text_sampling.json").read_text())
SAMPLING, QUESTIONS = SCHEDULE["frame_sampling_uniform"], SCHEDULE["question_processor"]


def test_the_whole_normalised_filter_bank_of_a_stereo_sound() -> None:
    # The released code dithers with 0 and averages channels; 1e-4 is float32 noise of values scaled by 2^15.
    fbank = normalized_fbank(SOUND["stereo.waveform"].mean(0))
    torch.testing.assert_close(fbank, SOUND["stereo.fbank_normalised"], atol=1e-4, rtol=0)


def test_clips_are_cut_from_the_beginning_and_padded_with_zeros_after_normalising() -> None:
    fbank = normalized_fbank(SOUND["mono_short.waveform"].mean(0))
    clips = SOUND["mono_short.clips"].flatten(0, 1)
    torch.testing.assert_close(fbank, clips[: len(fbank)], atol=1e-4, rtol=0)
    assert clips[len(fbank) :].abs().max() == 0


@pytest.mark.parametrize("width", [34, 1408])
def test_what_is_added_to_point_features(width: int) -> None:
    added = 0.01 * encode_coordinates(POINTS["coords"].long(), width)
    # An angle is as large as its coordinate, and its rounding as large as its sine's error.
    largest = 0.01 * float(POINTS["coords"].max())
    assert_close_to_scale(added, POINTS[f"d{width}.interleaved.added"], scale=largest, ulps=8)


def test_the_table_of_one_axis_and_the_resulting_features() -> None:
    table = POINTS["d34.interleaved.table"]
    assert_close_to_scale(coordinate_table(11), table, scale=len(table), ulps=8)
    out = POINTS["d34.feat_in"] + 0.01 * encode_coordinates(POINTS["coords"].long(), 34)
    assert_close_to_scale(out, POINTS["d34.feat_out_reference"], ulps=16)


WHOLE_CLIPS = [case for case in SAMPLING if case["clip"] is None]


@pytest.mark.parametrize("case", WHOLE_CLIPS, ids=lambda case: str(case["files"]))
def test_frames_are_the_middles_of_equal_segments(case: dict[str, object]) -> None:
    # The released loader never uses the last file of a folder, since flow has one frame less.
    usable = int(str(case["files"])) - 1
    assert middle_indices(usable, int(str(case["n_frms"]))) == case["uniform_indices"]


@pytest.mark.parametrize("case", QUESTIONS, ids=lambda case: case["out"][:30])
def test_questions_as_the_released_text_processor_leaves_them(case: dict[str, str]) -> None:
    assert PromptTemplate(question_text="released").render(case["in"]) == case["out"]
    assert PromptTemplate().render(case["in"]) == case["in"]
