"""Which number formats the frozen parts may have, whatever a checkpoint's own configuration gives."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from crema_core.api.build import build
from crema_core.api.load import load
from crema_core.api.model import CremaModel
from crema_core.errors import PrecisionError
from crema_core.model.load_backbone import load_backbone
from crema_core.model.precision import chosen_precision, computing_in
from crema_core.train.fit import fit
from tests.support.checkpoints import Language, Published, save_language
from tests.support.modalities import four_modalities, register_modalities, wave_spec
from tests.support.steps import SOURCES, train_a_little

Published_ = Callable[[Published], Path]
Languages = Callable[[Language], Path]


def test_fp16_is_refused_for_t5_with_the_reason(t5_folder: Path) -> None:
    with pytest.raises(PrecisionError) as caught:
        load_backbone(t5_folder, precision="fp16")
    assert str(caught.value) == (
        "fp16 overflows in FlanT5 feed-forward layers (values above 65504), so training would become NaN. "
        'Use precision="bf16", or "fp32" where the GPU has no bf16.'
    )


def test_fp16_is_refused_for_a_language_model_trained_in_bfloat16(t5_folder: Path, tmp_path: Path) -> None:
    language = save_language(tmp_path / "llama", "llama", dtype="bfloat16")
    with pytest.raises(PrecisionError) as caught:
        build([wave_spec()], backbone=t5_folder, language_model=language, precision="fp16")
    assert str(caught.value) == (
        "This llama language model was trained in bfloat16, whose values may lie outside fp16 (above 65504) and would "
        'become infinite. Use precision="bf16", or "fp32" where the GPU has no bf16.'
    )


@pytest.mark.parametrize("kind", ["blip2-opt", "instructblip-vicuna"])
def test_opt_and_vicuna_answer_in_fp16(kind: Published, published: Published_, tmp_path: Path) -> None:
    register_modalities()
    model = build(four_modalities(), backbone=published(kind), precision="fp16")
    assert model.backbone.language_model.dtype == model.backbone.vision_model.dtype == torch.float16
    scores = model.answer("What is it?", ["red", "blue"], **SOURCES).scores
    full = build(four_modalities(), backbone=published(kind)).answer("What is it?", ["red", "blue"], **SOURCES).scores
    assert scores == pytest.approx(full, abs=0.05)
    model.save_pretrained(tmp_path / "saved")
    assert load(tmp_path / "saved").backbone.language_model.dtype == torch.float16


def test_training_through_fp16_is_refused_with_the_reason(published: Published_, tmp_path: Path) -> None:
    model = build([wave_spec()], backbone=published("blip2-opt"), precision="fp16")
    with pytest.raises(PrecisionError) as caught:
        fit(model, [], out=tmp_path / "run")
    assert str(caught.value) == (
        "This model's frozen parts are in fp16, in which gradients below 6e-8 become zero on their way to the "
        "adapters. "
        'fp16 is for answering. Build the model with precision="bf16", or "fp32" where the GPU has no bf16.'
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["blip2-flan-t5", "blip2-opt", "instructblip-vicuna"])
def test_bf16_keeps_adapters_in_float32_and_trains(kind: Published, published: Published_) -> None:
    model = build(four_modalities(), backbone=published(kind), precision="bf16")
    assert {parameter.dtype for parameter in model.trainable_parameters().values()} == {torch.float32}
    assert {parameter.dtype for parameter in model.backbone.qformer.parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in model.backbone.language_model.parameters()} == {torch.bfloat16}
    losses = train_a_little(model, num_steps=4)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("written", ["float16", "bfloat16", "float32"])
def test_the_precision_asked_for_overrides_what_configuration_and_files_say(
    written: str, published: Published_, tmp_path: Path
) -> None:
    folder = shutil.copytree(published("blip2-opt"), tmp_path / "other")
    config = json.loads((folder / "config.json").read_text())
    config["torch_dtype"] = config["text_config"]["torch_dtype"] = written
    (folder / "config.json").write_text(json.dumps(config))
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        backbone = load_backbone(folder, precision=precision)
        assert {parameter.dtype for parameter in backbone.language_model.parameters()} == {dtype}
        assert {parameter.dtype for parameter in backbone.vision_model.parameters()} == {dtype}


@pytest.mark.parametrize("kind", ["mistral", "qwen2", "t5"])
def test_a_language_model_in_place_of_its_own_has_the_precision_asked_for(
    kind: Language, languages: Languages, published: Published_
) -> None:
    model = build(
        four_modalities(), backbone=published("blip2-flan-t5"), language_model=languages(kind), precision="bf16"
    )
    assert {parameter.dtype for parameter in model.backbone.language_model.parameters()} == {torch.bfloat16}
    losses = train_a_little(model, num_steps=4)
    assert losses[-1] < losses[0]


def test_an_identity_is_the_same_in_every_precision(published: Published_, languages: Languages) -> None:
    folders = {"backbone": published("blip2-opt"), "language_model": languages("mistral")}
    full, half = (load_backbone(**folders, precision=precision) for precision in ("fp32", "bf16"))
    assert full.identity() == half.identity()
    assert full.language_identity() == half.language_identity()


@pytest.mark.parametrize(
    ("units", "advice"),
    [(True, '"bf16" as well, for which it has matrix units'), (False, '"fp32", as it has no matrix units for bf16')],
)
def test_an_unknown_precision_is_refused_with_the_nearest_name_and_the_one_for_this_machine(
    units: bool, advice: str, t5_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": units})
    with pytest.raises(PrecisionError) as caught:
        load_backbone(t5_folder, precision="bfp16")
    assert str(caught.value) == (
        "'bfp16' is not a precision. Accepted: fp32, bf16, fp16. Did you mean 'fp16'? "
        f'Use precision="bf16" on a GPU, and on this CPU {advice}.'
    )


def _formats(model: CremaModel, ask: Callable[[], object]) -> set[torch.dtype]:
    """Return the number formats that an adapter's product with features comes out in while something is asked."""
    found: set[torch.dtype] = set()
    layer = model.branch("wave").adapter.projection
    handle = layer.register_forward_hook(lambda module, given, out: found.add(out.dtype))
    try:
        ask()
    finally:
        handle.remove()
    return found


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_everything_computes_in_the_models_own_precision_unless_somebody_chose(
    published: Published_, precision: str
) -> None:
    register_modalities()
    model = build(four_modalities(), backbone=published("blip2-flan-t5"), precision=precision)
    own = {torch.float32 if precision == "fp32" else torch.bfloat16}
    wave = {"question": "What is it?", "wave": SOURCES["wave"]}

    def answer() -> object:
        return model.answer_many([wave, wave | {"choices": ["red", "blue"]}])

    assert _formats(model, answer) == own
    with chosen_precision():
        assert _formats(model, answer) == {torch.float32}
    with computing_in("bf16", model.device):
        assert _formats(model, answer) == {torch.bfloat16}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert _formats(model, answer) == {torch.bfloat16}
