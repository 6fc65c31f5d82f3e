"""What a family of another package gets from its base class, and what it must bring."""

from __future__ import annotations

import pytest
from transformers import LlamaConfig, T5Config

from crema_core.errors import CheckpointError, OptionsError, PrecisionError
from crema_core.model.backbone import Backbone
from crema_core.model.backbone_family import BackboneFamily, BackboneRequest
from crema_core.model.settings import BackboneSettings


class Loads(BackboneFamily):
    def load(self, config: object, request: BackboneRequest) -> Backbone:
        raise AssertionError("nothing is loaded here")


def request(**settings: object) -> BackboneRequest:
    return BackboneRequest(BackboneSettings.model_validate({"backbone": "some/model", **settings}), "some/model")


def test_a_family_that_cannot_load_cannot_be_made() -> None:
    class Incomplete(BackboneFamily):
        pass

    with pytest.raises(TypeError, match=r"abstract method '?load'?"):
        Incomplete()  # type: ignore[abstract]


def test_a_family_that_says_no_more_recognises_nothing_and_has_no_shapes() -> None:
    assert not Loads().recognises(LlamaConfig())
    with pytest.raises(CheckpointError) as caught:
        Loads().shape(LlamaConfig(), request())
    assert str(caught.value) == (
        "'some/model' cannot be counted without its weights: Loads has no shapes. Accepted: a folder or hub id with "
        "weights. Name one as backbone."
    )


def test_only_the_size_of_the_pictures_that_a_checkpoint_was_trained_on_is_taken() -> None:
    for asked in (None, 224):
        request(image_size=asked).refuse_image_size(224)
    with pytest.raises(
        OptionsError, match=r"^image_size=448 was given, and 'some/model' was trained on pictures of 224"
    ):
        request(image_size=448).refuse_image_size(224)


def test_the_precision_is_held_against_the_language_model_that_runs() -> None:
    asked = request(precision="fp16")
    with pytest.raises(PrecisionError):
        asked.dtype(T5Config())
    assert BackboneRequest(asked.settings, asked.place, LlamaConfig()).dtype(T5Config()) == asked.dtype(LlamaConfig())
    assert request().quantized(LlamaConfig()) is None
