"""The options that name several encoders."""

from __future__ import annotations

import json
from typing import Any

import pytest

from crema_core.errors import OptionsError
from crema_core.modality import BuildContext
from crema_merv.video import EncodersVideo
from crema_merv.video_options import EncodersVideoOptions


def test_options_name_encoders_in_three_ways() -> None:
    names = EncodersVideoOptions(encoders="clip+vivit").encoders
    assert names == EncodersVideoOptions(encoders=["clip", {"name": "vivit"}]).encoders
    assert EncodersVideo.spec.parse_options({"encoders": ["clip"]}).model_dump(mode="json")["encoders"] == [
        {"name": "clip", "weights": None, "revision": None, "layer": -1, "num_frames": None, "image_size": None,
         "resize": "trained"},
    ]  # fmt: skip


def test_options_come_back_from_a_saved_model_as_they_were() -> None:
    options = EncodersVideo.spec.parse_options({"encoders": ["clip", {"name": "timm", "weights": "a", "layer": -2}]})
    assert EncodersVideo.spec.parse_options(json.loads(options.model_dump_json())) == options
    assert EncodersVideo.spec.parse_options(options.model_dump()) == options


@pytest.mark.parametrize(("options", "told"), [
    ({"encoders": []}, "encoders is empty; name one or more, or leave it out"),
    ({"encoders": ["clip"], "encoder": "siglip", "weights": "a"},
     "encoders was given together with encoder, weights; every encoder has its own"),
    ({"encoders": ["clip"], "fps": 2.0},
     "fps (2) was given with encoders, which see fixed numbers of frames; leave it out"),
    ({"encoders": ["backbone"]},
     "the backbone's encoder is none of several; name a vision encoder such as clip, or leave it out"),
])  # fmt: skip
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(OptionsError) as caught:
        EncodersVideo.spec.parse_options(options)
    assert f": {told}, got " in str(caught.value)
    assert str(caught.value).endswith("Give another value, for example the default.")


def test_an_encoder_that_is_not_there_is_refused() -> None:
    with pytest.raises(OptionsError, match=r"^'siglib' is no vision encoder\. Accepted: .* Did you mean 'siglip'\?"):
        EncodersVideo(EncodersVideoOptions(encoders=["siglib"]), BuildContext())
