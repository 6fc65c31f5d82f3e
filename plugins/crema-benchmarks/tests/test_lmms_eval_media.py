"""Media of evaluation programs as sources of modalities."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from crema_benchmarks.lmms_eval_media import Routes, as_sources, routes
from crema_core.errors import MediaError, OptionsError
from tests.train.conftest import MakeModel

HEARING = Routes("main", "main", "wave", False)


def test_pictures_and_clips_go_to_the_major_modality_and_sounds_to_the_one_that_hears(new_model: MakeModel) -> None:
    model = new_model()
    assert routes(model) == Routes("main", "main", None, False)
    assert routes(model, clip="other", sound="wave") == Routes("main", "other", "wave", True)


def test_a_sound_track_is_heard_only_when_asked_for() -> None:
    assert as_sources(["a.mp4"], HEARING) == {"main": "a.mp4"}
    assert as_sources(["a.mp4"], Routes("main", "main", "wave", True)) == {"main": "a.mp4", "wave": "a.mp4"}
    assert as_sources(["a.mp4", "b.wav"], HEARING) == {"main": "a.mp4", "wave": "b.wav"}


def test_pictures_become_frames_of_the_first_ones_size() -> None:
    frames = as_sources([Image.new("L", (6, 4), 9), Image.new("RGB", (12, 8), (7, 7, 7))], HEARING)["main"]
    assert frames.shape == (2, 4, 6, 3)
    assert frames[0].unique().tolist() == [9]
    assert frames[1].unique().tolist() == [7]


MISTAKES = {
    "dict is no kind of media this adapter knows. Accepted: PIL images, paths of files, and sounds as {'array': ..., "
    "'sampling_rate': ...}. Use a task that gives these.": (MediaError, [{"array": np.zeros(3)}], HEARING),
    "The task has a sound, and no modality of this model declares that it reads waveforms. Accepted: models with a "
    "modality for sound. Name one with sound_modality=..., or use another task.": (
        OptionsError,
        ["a.wav"],
        Routes("main", "main", None, False),
    ),
    "The task gives one question several sources for 'main'. Accepted: one clip, one sound, or pictures that become "
    "one clip. Use a task with one, or send kinds of media to different modalities.": (
        OptionsError,
        ["a.mp4", "b.mp4"],
        HEARING,
    ),
}


@pytest.mark.parametrize("text", MISTAKES)
def test_media_that_cannot_be_used_are_named(text: str) -> None:
    kind, media, to = MISTAKES[text]
    with pytest.raises(kind) as error:
        as_sources(media, to)
    assert str(error.value) == text
