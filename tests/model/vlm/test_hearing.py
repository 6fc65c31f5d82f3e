"""Sound through a model's own ears: the tokens are those its language model is given of the same sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoProcessor

from crema_core.api.build import build
from crema_core.errors import OptionsError
from crema_core.features.cache.keys import encoder_identity
from crema_core.features.feature_cache import prepare_batch
from crema_core.model.vlm.backbone import forward_arguments
from crema_core.model.vlm.hooks import placed
from tests.support.numeric import assert_close_to_scale
from tests.support.vlm import KINDS, VLMS, inputs, save_vlm, sound

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
HEARING = [
    pytest.param(kind, marks=() if kind == "gemma4" else pytest.mark.slow) for kind in KINDS if VLMS[kind].takes_audio
]
OWN_EARS = {"name": "audio", "encoder": "backbone", "window_s": 2.0, "num_windows": 1}
SMALL = {"layers": 1, "width": 64, "num_queries": 3}
POSITIONS = ("feature_attention_mask",)
"""What some count the positions of sound from; the features themselves come from us."""


@pytest.mark.parametrize("kind", HEARING)
def test_the_models_own_answer_to_a_sound_follows_from_these_tokens(kind: str, tmp_path: Path) -> None:
    folder = save_vlm(tmp_path, kind)
    model = build(["video", OWN_EARS], backbone=folder, qformer=SMALL)
    heard = model.encode(prepare_batch(model, [{"audio": torch.from_numpy(sound())}]))["audio"].features
    assert heard.values.shape[:2] == (1, 1)
    tokens = heard.values[0, 0][heard.mask[0, 0]]
    backbone: Any = model.backbone
    given = inputs(AutoProcessor.from_pretrained(folder), kind, "audio")
    given = {key: own for key, own in given.items() if key in forward_arguments(backbone.language_model)}
    ids = given["input_ids"]
    own = torch.isin(ids, torch.tensor(backbone._sound_ids()))
    assert int(own.sum()) == len(tokens)
    embeds = torch.zeros(*ids.shape, tokens.shape[1])
    embeds[own] = tokens
    kept = {"input_ids", "attention_mask", *backbone.kinds, *POSITIONS}
    with torch.no_grad():
        wanted = backbone.language_model(**given, use_cache=False).logits
        with placed(backbone.language_model, embeds, own, own_BS=own, deep_BKSL=None):
            found = backbone.language_model(
                **{key: value for key, value in given.items() if key in kept}, use_cache=False
            ).logits
    assert_close_to_scale(found, wanted, ulps=512)


def test_kept_sounds_belong_to_the_weights_that_heard_them(tmp_path: Path) -> None:
    first, other = (
        build(["video", OWN_EARS], backbone=save_vlm(tmp_path / str(seed), "gemma4", seed=seed), qformer=SMALL)
        for seed in (0, 1)
    )
    assert encoder_identity(first, "audio", kept=None) != encoder_identity(other, "audio", kept=None)


def test_a_backbone_without_ears_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match=r"this backbone hears nothing\. Accepted: .* Use such a backbone"):
        build(["video", OWN_EARS], backbone=save_vlm(tmp_path, "qwen3_vl"), qformer=SMALL)
