"""What can be chosen about a vision-language model: language model trained, quantised, checkpointed; ways to answer.

Each kind with the family's own processor and random weights, as in `test_against_transformers`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig

from crema_core.api.build import build
from crema_core.api.describe import cost_of
from crema_core.api.load import load
from crema_core.api.model import CremaModel
from crema_core.errors import ProcessingWarning
from crema_core.features.feature_cache import prepare_batch
from crema_core.model import quantization
from crema_core.model.kernels import activation_checkpointing
from crema_core.model.load_backbone import load_backbone
from crema_core.model.vlm.backbone import decoder_names, encoder_names
from crema_core.model.vlm.family import auto_class, beside_decoder_of
from crema_core.train.distributed import Distributed, leave_processes
from crema_core.train.steps import share_language_model
from tests.model.vlm.test_against_transformers import BEAMLESS, OTHERS, REFUSED, SMALL, SOUND, kind_of, source
from tests.support.launch import together
from tests.support.numeric import MODEL_ULPS, assert_close_to_scale
from tests.support.vlm import KINDS, save_vlm

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
LORA = {"rank": 2, "alpha": 4, "dropout": 0.0}
QUESTIONS, ANSWERS = ("What is it?", "Who?", "Is it now?"), ("red", "a cat", "b")
CHOICES = ("red", "blue", "the green one")
QUICK = ("qwen3_vl_moe",)
MIXTURES = (
    *("aria", "ernie4_5_vl_moe", "glm4v_moe", "llama4", "qwen3_5_moe", "qwen3_omni_moe_thinker", "qwen3_vl_moe"),
    "qwen4_exp",
)
UNMOVED = ("indexer.index_qk_proj",)
"""Layers that only choose what is attended to, which no gradient passes."""
OURS = [
    pytest.param(kind, marks=() if kind in QUICK else pytest.mark.slow)
    for kind in KINDS
    if kind not in (*OTHERS, *REFUSED)
]


@pytest.fixture(scope="module", params=OURS)
def tuned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CremaModel]:
    """A model with sound and a LoRA, both moved away from where they start."""
    folder = save_vlm(tmp_path_factory.mktemp(str(request.param)), str(request.param))
    model = build(["video", SOUND], backbone=folder, qformer=SMALL, tuning=LORA)
    move(model)
    return model


@torch.no_grad()
def move(model: CremaModel) -> None:
    draws = torch.Generator().manual_seed(0)
    for own in model.trainable_parameters().values():
        own.add_(0.05 * torch.randn(own.shape, generator=draws))


def samples(model: CremaModel) -> list[dict[str, Any]]:
    reader: Any = model.branch("video").modality.context.reader
    frames = source("video" if reader.takes_clips else "image")
    sound = torch.randn(16000, generator=torch.Generator().manual_seed(0))
    return [{"video": frames, "audio": sound}, {"video": frames[:2]}, {"audio": sound[:8000]}]


def gradients(model: CremaModel, *, checkpointing: bool) -> tuple[dict[str, Tensor | None], int]:
    """Return the gradient of everything trained, and how often the first layer with a LoRA ran."""
    features = model.encode(prepare_batch(model, samples(model)))
    first = next(module for module in model.backbone.language_model.modules() if isinstance(module, LoraLayer))
    calls: list[int] = []
    handle = first.register_forward_hook(lambda *_: calls.append(1))
    trained = model.trainable_parameters()
    for own in trained.values():
        own.requires_grad_()
    try:
        with activation_checkpointing(model.backbone.language_model, enabled=checkpointing):
            model.loss(model.tokens(features, QUESTIONS), QUESTIONS, ANSWERS).backward()
        return {name: None if own.grad is None else own.grad.clone() for name, own in trained.items()}, len(calls)
    finally:
        handle.remove()
        for own in trained.values():
            own.requires_grad_(False)
            own.grad = None


def test_a_lora_is_on_every_layer_and_expert_of_the_language_model_and_on_nothing_else(tuned: CremaModel) -> None:
    whole: Any = tuned.backbone.language_model
    config = AutoConfig.from_pretrained(tuned.backbone.source)
    with torch.device("meta"):
        plain: Any = auto_class(config).from_config(config)
    blocks = {
        name: module
        for name, module in plain.named_modules()
        if name.startswith(decoder_names(plain)) and any(part.isdigit() for part in name.split("."))
        if not name.startswith(encoder_names(plain))
    }
    wanted = {name for name, module in blocks.items() if type(module) is nn.Linear}
    experts = {
        f"{name}.{own}"
        for name, module in blocks.items()
        for own, weight in module.named_parameters(recurse=False)
        if "experts" in name and weight.dim() == 3
    }
    assert bool(experts) == (kind_of(tuned) in MIXTURES)
    found = {name.removeprefix("language.").rpartition(".")[0] for name in tuned.trainable_parameters() if "." in name}
    found = {name for name in found if name.startswith(decoder_names(whole))}
    assert found == wanted | experts
    vision = whole if (seen := whole.get_encoder(modality="image")) is whole else seen
    if vision is not whole:
        assert not [module for module in vision.modules() if isinstance(module, LoraLayer)]


def test_gradients_are_the_same_when_layers_are_computed_again(tuned: CremaModel) -> None:
    (plain, once), (again, twice) = (gradients(tuned, checkpointing=on) for on in (False, True))
    assert (once, twice) == (1, 2)
    silent = [name for name, own in plain.items() if own is None or not bool(own.isfinite().all())]
    assert [name for name in silent if not any(part in name for part in UNMOVED)] == []
    still = [name for name, own in plain.items() if own is not None and name.endswith(".B") and not bool(own.any())]
    experts = [name for name in still if ".experts." in name]  # of experts that no token was sent to
    assert len(still) == len(experts)
    for name, own in plain.items():
        if own is not None:
            assert_close_to_scale(again[name], own, ulps=MODEL_ULPS, name=name)  # type: ignore[arg-type]


def test_several_questions_are_answered_as_each_alone(tuned: CremaModel) -> None:
    items = [{"question": question, **own} for question, own in zip(QUESTIONS, samples(tuned), strict=True)]
    together = tuned.answer_many(items)
    assert [answer.text for answer in together] == [tuned.answer_many([item])[0].text for item in items]


@pytest.mark.parametrize("scoring", ["letters", "likelihood"])
def test_choices_are_scored_as_each_question_alone(tuned: CremaModel, scoring: str) -> None:
    template = tuned.template
    tuned.template = template.model_copy(update={"choice_scoring": scoring})
    try:
        asked = zip(QUESTIONS, samples(tuned), strict=True)
        items = [{"question": question, "choices": CHOICES, **own} for question, own in asked]
        together = tuned.answer_many(items)
        for item, answer in zip(items, together, strict=True):
            alone = tuned.answer_many([item])[0]
            assert answer.text in CHOICES
            scores = [torch.tensor(list(own.scores.values())) for own in (answer, alone)]  # type: ignore[union-attr]
            assert_close_to_scale(scores[0], scores[1], ulps=MODEL_ULPS)
    finally:
        tuned.template = template


def test_beams_of_a_mixed_batch_are_those_of_its_samples(tuned: CremaModel) -> None:
    if kind_of(tuned) in BEAMLESS:
        pytest.skip("its own beams raise")
    features = tuned.encode(prepare_batch(tuned, samples(tuned)))
    with torch.no_grad():
        prompt = tuned.prompt(tuned.tokens(features, QUESTIONS), QUESTIONS)
        together = tuned.language.generate(prompt, max_new_tokens=4, num_beams=3)
        for row, own in enumerate(samples(tuned)):
            asked = QUESTIONS[row : row + 1]
            alone = tuned.prompt(tuned.tokens(tuned.encode(prepare_batch(tuned, [own])), asked), asked)
            assert tuned.language.generate(alone, max_new_tokens=4, num_beams=3) == together[row : row + 1]


def test_the_frozen_model_is_never_in_train_mode(tuned: CremaModel) -> None:
    buffers = {name: own.clone() for name, own in tuned.backbone.named_buffers()}
    tuned.train()
    try:
        gradients(tuned, checkpointing=False)
        dropouts = {part for module in tuned.modules() if isinstance(module, LoraLayer) for part in module.modules()}
        frozen = [module for module in tuned.backbone.language_model.modules() if module not in dropouts]
        assert not [type(module).__name__ for module in frozen if module.training]
        assert all(torch.equal(own, buffers[name]) for name, own in tuned.backbone.named_buffers())
    finally:
        tuned.eval()


def test_our_tokens_stand_at_an_ordinary_id_without_a_kind(tuned: CremaModel) -> None:
    backbone: Any = tuned.backbone
    assert 0 <= backbone.soft_token < tuned.language.embedding.num_embeddings  # type: ignore[operator]
    assert backbone.soft_token not in backbone.placeholders
    features = tuned.encode(prepare_batch(tuned, samples(tuned)))
    with torch.no_grad():
        prompt = tuned.prompt(tuned.tokens(features, QUESTIONS), QUESTIONS)
    assert prompt.ids is not None
    ours = prompt.ids.placed & ~prompt.ids.own
    assert ours.any(1).tolist() == [True, False, True]
    assert set(prompt.ids.ids[ours].tolist()) == {backbone.soft_token}
    assert bool(prompt.mask[ours].all())
    assert all(not bool(kind[ours].any()) for kind in prompt.ids.kinds.values())


def test_what_a_call_is_given_is_as_before_afterwards(tuned: CremaModel) -> None:
    """Forward passes and beams of some families change dictionaries and positions they keep."""
    batches = prepare_batch(tuned, samples(tuned)[:1])
    asked, answer = QUESTIONS[:1], torch.tensor([[70, 71]])
    with torch.no_grad():
        features = tuned.encode(batches)
        prompt = tuned.prompt(tuned.tokens(features, asked), asked)
        before = tuned.language.logits(prompt, answer)
        tuned.language.generate(prompt, max_new_tokens=3, num_beams=1)
        assert torch.equal(tuned.language.logits(prompt, answer), before)
        again = tuned.encode(batches)
    assert torch.equal(again["video"].features.values, features["video"].features.values)


def test_its_arithmetic_is_that_of_torchs_own_counter(tuned: CremaModel) -> None:
    grouped = {
        torch.ops.aten._grouped_mm: products_of_experts,
        torch.ops.transformers.grouped_mm_fallback: products_of_experts,
    }
    sources = {name: tuned.branch(name).modality.example(torch.Generator().manual_seed(0)) for name in tuned.names}
    batches = prepare_batch(tuned, [sources])
    counter = FlopCounterMode(display=False, custom_mapping=grouped)
    with sdpa_kernel(SDPBackend.MATH), torch.no_grad(), counter:
        features = tuned.encode(batches)
        prompt = tuned.prompt(tuned.tokens(features, QUESTIONS[:1]), QUESTIONS[:1])
        tuned.language.logits(prompt, torch.zeros(1, 5, dtype=torch.int64))
    cost = cost_of(tuned, tuned.names, sources=sources, question=QUESTIONS[0])
    assert cost.num_tokens == int(prompt.mask.sum())
    assert cost.total_gflops * 1e9 == pytest.approx(counter.get_total_flops(), rel=1e-6)


def products_of_experts(rows: Any, weights: Any, *_: Any, **__: Any) -> int:
    return int(2 * rows[0] * rows[1] * weights[2])


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=() if kind == "qwen3_vl" else pytest.mark.slow)
        for kind in ("qwen3_vl", "aria", "lfm3_vl", "llama4", "gemma3n")
    ],
)
def test_frozen_parts_in_bf16_read_pictures_and_our_tokens_in_fp32(kind: str, tmp_path: Path) -> None:
    model = build(["video", SOUND], backbone=save_vlm(tmp_path, kind), qformer=SMALL, precision="bf16", tuning=LORA)
    assert {own.dtype for own in model.trainable_parameters().values()} == {torch.float32}
    found, _ = gradients(model, checkpointing=False)
    assert all(own is not None and bool(own.isfinite().all()) for own in found.values())


@pytest.mark.slow
def test_phi4_looks_both_ways_at_a_picture_whatever_the_attention(tmp_path: Path) -> None:
    model = build(["video"], backbone=save_vlm(tmp_path, "phi4_multimodal"))
    batches = prepare_batch(model, [{"video": source("image")}])
    fused = model.encode(batches)["video"].features.values
    for module in model.backbone.language_model.modules():
        if type(module).__name__ == "Phi4MultimodalVisionAttention":
            module.config._attn_implementation = "eager"  # type: ignore[union-attr]
    assert_close_to_scale(model.encode(batches)["video"].features.values, fused, ulps=512)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["qwen2_5_omni_thinker", "qwen3_omni_moe_thinker", "qwen2_5_vl"])
def test_the_clock_of_a_clip_reaches_the_positions(kind: str, tmp_path: Path) -> None:
    model = build(["video"], backbone=save_vlm(tmp_path, kind))
    reader: Any = model.branch("video").modality.context.reader
    frames, name = source("video"), "video_second_per_grid" if "omni" in kind else "second_per_grid_ts"
    seconds = []
    for step in (0.5, 2.0):
        starts = step * torch.arange(len(frames))
        sample = reader.prepare(frames, torch.stack([starts, starts + step], 1))
        seconds.append(float(sample.tensors[name]))
    assert seconds == pytest.approx([1.0, 4.0]), "seconds of a pair of frames"


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=() if kind == "llama4" else pytest.mark.slow)
        for kind in ("llama4", "phi4_multimodal", "qwen3_vl", "internvl", "gemma4", "smolvlm")
    ],
)
def test_only_the_language_model_is_to_be_quantised(kind: str, tmp_path: Path) -> None:
    folder = save_vlm(tmp_path, kind)
    config = AutoConfig.from_pretrained(folder)
    kept = beside_decoder_of(config)
    with torch.device("meta"):
        model: Any = auto_class(config).from_config(config)
    decoder, encoders, head = decoder_names(model), encoder_names(model), model.get_output_embeddings()
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            outside = not name.startswith(decoder) or name.startswith(encoders) or module is head
            assert outside == any(name == own or name.startswith(f"{own}.") for own in kept), name


def test_what_is_kept_whole_is_named_to_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def read(*arguments: Any, **named: Any) -> Any:
        seen.update(named)
        raise KeyboardInterrupt

    monkeypatch.setattr(
        quantization, "find_spec", lambda name: ModuleSpec(name, None) if name == "bitsandbytes" else None
    )
    monkeypatch.setattr("crema_core.model.vlm.family.read_model", read)
    with pytest.raises(KeyboardInterrupt):
        load_backbone(save_vlm(tmp_path, "qwen3_vl"), quantization="8bit")
    assert {"model.visual", "lm_head"} <= set(seen["quantized"].llm_int8_skip_modules)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("torchao") is None, reason="quantises on CPUs")
@pytest.mark.parametrize("kind", ["qwen3_vl", "internvl", "gemma4", "phi4_multimodal"])
def test_a_quantised_language_model_answers_nearly_alike_and_trains_a_modality(kind: str, tmp_path: Path) -> None:
    folder = save_vlm(tmp_path / "backbone", kind)
    whole, model = (build(["video", SOUND], backbone=folder, qformer=SMALL, quantization=own) for own in (None, "8bit"))
    for own in (whole, model):
        move(own)
    sample = samples(model)[0]
    with torch.no_grad():
        first, second = (
            own.language.logits(own.prompt(own.tokens(features, ("?",)), ("?",)), torch.tensor([[70]]))
            for own, features in ((one, one.encode(prepare_batch(one, [sample]))) for one in (whole, model))
        )
    assert 0 < float((first - second).abs().max()) < 0.2 * float(first.std()) * 5
    encoded = [one.encode(prepare_batch(one, [sample]))["video"].features.values for one in (whole, model)]
    assert torch.equal(*encoded), "the vision encoder is whole"
    found, _ = gradients_of_sound(model)
    assert all(bool(own.isfinite().all()) for own in found)
    model.save_pretrained(tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.answer("?", CHOICES, **sample).scores == model.answer("?", CHOICES, **sample).scores


def gradients_of_sound(model: CremaModel) -> tuple[list[Tensor], float]:
    features = model.encode(prepare_batch(model, samples(model)[:1]))
    trained = model.trainable_parameters()
    for own in trained.values():
        own.requires_grad_()
    loss = model.loss(model.tokens(features, QUESTIONS[:1]), QUESTIONS[:1], ANSWERS[:1])
    loss.backward()
    return [own.grad for own in trained.values() if own.grad is not None], float(loss)


def scores_and_part(folder: Path, place: Path) -> tuple[list[float], list[float], float]:
    """Answer and train in one of two processes: the first is given a picture, the second sound alone."""
    model = build(["video", SOUND], backbone=folder, qformer=SMALL, tuning=LORA)
    move(model)
    whole = sum(own.numel() for own in model.backbone.language_model.parameters())
    distributed = Distributed(precision="fp32", folder=place)
    share_language_model(model, distributed)
    here = sum(getattr(own, "_local_tensor", own).numel() for own in model.backbone.language_model.parameters())
    scores, gradient = of_sample(model, distributed.processes.rank)
    leave_processes()
    return scores, gradient, here / whole


def of_sample(model: CremaModel, number: int) -> tuple[list[float], list[float]]:
    """Return logits of a sample, and the gradient of sound's adapter from it."""
    own, asked = samples(model)[number * 2], QUESTIONS[:1]  # the first has a picture, the third sound alone
    features = model.encode(prepare_batch(model, [own]))
    weight = model.trainable_parameters()["modalities.audio.mmqa.output.weight"].requires_grad_()
    prompt = model.prompt(model.tokens(features, asked), asked)
    logits = model.language.logits(prompt, torch.tensor([[70, 71]]))
    logits.log_softmax(-1)[..., 70].sum().backward()
    assert weight.grad is not None
    return logits.detach().flatten().tolist(), weight.grad.flatten().tolist()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["qwen3_vl", "gemma3"])
def test_a_shared_out_language_model_gives_the_numbers_of_a_whole_one(kind: str, tmp_path: Path) -> None:
    """Vision layers are not shared out: a process whose samples have no picture does not run them."""
    folder = save_vlm(tmp_path / "backbone", kind)
    model = build(["video", SOUND], backbone=folder, qformer=SMALL, tuning=LORA)
    move(model)
    for number, (scores, gradient, share) in enumerate(together(scores_and_part, folder, tmp_path)):
        model.zero_grad()
        wanted, slope = of_sample(model, number)
        assert_close_to_scale(torch.tensor(scores), torch.tensor(wanted), ulps=MODEL_ULPS)
        assert_close_to_scale(torch.tensor(gradient), torch.tensor(slope), ulps=MODEL_ULPS)
        assert share < 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["qwen3_vl", "gemma3"])
def test_full_tuning_trains_the_language_model_alone(kind: str, tmp_path: Path) -> None:
    model = build(["video", SOUND], backbone=save_vlm(tmp_path, kind), qformer=SMALL, tuning="full")
    whole: Any = model.backbone.language_model
    names = {name for name in model.trainable_parameters() if name.startswith("language.")}
    inside = {f"language.{name}" for name, _ in whole.named_parameters() if name.startswith(decoder_names(whole))}
    assert names == inside


def saved_with(place: Path, **changes: str) -> Path:
    """Rewrite what a saved model says about its processor."""
    file = place / "crema.json"
    config = json.loads(file.read_text())
    config["processing"] |= changes
    file.write_text(json.dumps(config))
    return place


def test_a_saved_model_states_processor_and_transformers_and_says_what_differs(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    import transformers

    model = build(["video", SOUND], backbone=save_vlm(tmp_path / "backbone", "qwen3_vl"), qformer=SMALL)
    model.save_pretrained(tmp_path / "model")
    model.save_adapter("audio", tmp_path / "adapter")
    written: Mapping[str, str] = json.loads((tmp_path / "model" / "crema.json").read_text())["processing"]
    assert written["class"] == "Qwen3VLProcessor"
    assert written["transformers"] == transformers.__version__
    assert json.loads((tmp_path / "adapter" / "adapter.json").read_text())["processing"] == written
    load(tmp_path / "model").load_adapter(tmp_path / "adapter")
    assert not [warning for warning in recwarn if warning.category is ProcessingWarning]
    saved_with(tmp_path / "model", transformers="5.0.0")
    with pytest.warns(ProcessingWarning, match=rf"with transformers 5\.0\.0, and {transformers.__version__} is insta"):
        load(tmp_path / "model")
    saved_with(tmp_path / "model", transformers=transformers.__version__)
    settings = json.loads((tmp_path / "backbone" / "processor_config.json").read_text())
    settings["image_processor"]["size"] = {"longest_edge": 4096, "shortest_edge": 64}
    (tmp_path / "backbone" / "processor_config.json").write_text(json.dumps(settings))
    with pytest.warns(ProcessingWarning, match="with other settings of the Qwen3VLProcessor than the backbone's"):
        load(tmp_path / "model")


@pytest.mark.parametrize("kind", [pytest.param("qwen3_vl"), pytest.param("gemma3", marks=pytest.mark.slow)])
def test_video_passes_the_qformer_too_where_that_is_asked_for(kind: str, tmp_path: Path) -> None:
    """The paper's scheme: everything the language model reads of a clip comes from the Q-Former."""
    video = {"name": "video", "own_tokens": False, "num_frames": 2}
    model = build([video, SOUND], backbone=save_vlm(tmp_path / "backbone", kind), qformer=SMALL)
    assert any(name.startswith("modalities.video.mmqa.") for name in model.trainable_parameters())
    sound = torch.randn(16000, generator=torch.Generator().manual_seed(0))
    frames = source("video")[:2]
    with torch.no_grad():
        features = model.encode(prepare_batch(model, [{"video": frames, "audio": sound}]))
        prompt = model.prompt(model.tokens(features, QUESTIONS[:1]), QUESTIONS[:1])
    assert prompt.ids is not None
    assert not prompt.ids.own.any()
    assert int(prompt.ids.placed.sum()) == 2 * 2 * SMALL["num_queries"], "frames and fused tokens of two frames"
    length = float(prompt.embeds[prompt.ids.placed].square().mean().sqrt())
    assert length > 0
    model.save_pretrained(tmp_path / "model")
    asked = {"question": "What?", "choices": CHOICES, "video": frames, "audio": sound}
    assert load(tmp_path / "model").answer_many([asked])[0].scores == model.answer_many([asked])[0].scores


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=() if kind == "qwen3_vl" else pytest.mark.slow)
        for kind in ("qwen3_vl", "gemma3", "internvl", "llava_onevision", "smolvlm", "gemma4")
    ],
)
def test_depth_and_flow_are_seen_by_the_models_own_vision_encoder(kind: str, tmp_path: Path) -> None:
    model = build(["video", "depth", "flow"], backbone=save_vlm(tmp_path, kind), qformer=SMALL)
    backbone: Any = model.backbone
    draws = torch.Generator().manual_seed(0)
    example = {name: model.branch(name).modality.example(draws) for name in ("depth", "flow")}
    batches = prepare_batch(model, [example])
    encoder = backbone.vision_parts()[0]
    calls: list[int] = []
    handle = encoder.register_forward_hook(lambda *_: calls.append(1))
    features = model.encode(batches)
    handle.remove()
    assert calls, "the vision encoder ran"
    for name, own in features.items():
        frames = batches[name].batch["frames"]
        assert frames.shape[-2:] == (backbone.image_size, backbone.image_size)
        assert own.features.values.shape[3] == backbone.language_dim
        alone = backbone.encode_images(frames[0, :1])
        assert_close_to_scale(own.features.values[0, :1], alone, ulps=512)
        assert float(own.features.values.std()) > 0
