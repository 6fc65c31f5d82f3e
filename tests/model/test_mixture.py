"""Table 8's mixture of experts: adapters as experts of one pass through the Q-Former."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.errors import BuildError, OptionsError
from crema_core.evaluation.run import chosen_fusion
from crema_core.features.feature_cache import prepare_batch
from crema_core.fusion.base import FusionSizes, ModalitySet
from crema_core.fusion.connector import VisualLayout
from crema_core.model.mixture import MixtureFusion
from crema_core.model.mmqa import MMQA
from crema_core.plugins import registry
from crema_core.tokens import ModalityTokens, Segment
from tests.support.checkpoints import Published
from tests.support.fusions import make_fusion
from tests.support.modalities import frames_spec, points_spec, touch_specs, wave_spec

NAMES = ("main", "wave", "points")
QUESTION = "what color is a ?"


def moved(model: CremaModel, seed: int = 0) -> CremaModel:
    """Give everything trained a value of its own: experts start alike."""
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for own in model.trainable_parameters().values():
            own.add_(torch.randn(own.shape, generator=draws) * 0.1)
    return model


def new_model(folder: Path, names: tuple[str, ...] = NAMES, **options: Any) -> CremaModel:
    specs = {"main": frames_spec("main"), "wave": wave_spec(), "points": points_spec()}
    return build([specs[name] for name in names], backbone=folder, fusion={"name": "mixture", **options})


@pytest.fixture
def model(t5_folder: Path) -> CremaModel:
    return moved(new_model(t5_folder))


def sample(model: CremaModel, *names: str, seed: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    return {name: model.branch(name).modality.example(generator) for name in names}


def tokens_of(model: CremaModel, *samples: dict[str, Any]) -> dict[str, ModalityTokens]:
    return model.tokens(model.encode(prepare_batch(model, samples)), [QUESTION] * len(samples))


def segments_of(model: CremaModel, *samples: dict[str, Any]) -> list[Segment]:
    with torch.no_grad():
        segments: list[Segment] = model.fusion(modalities_of(model, *samples))
    return segments


def modalities_of(model: CremaModel, *samples: dict[str, Any]) -> ModalitySet:
    connectors = {name: model.branch(name).adapter for name in model.names}
    prefixes = {name: model.branch(name).prefix for name in model.names}
    tokens = tokens_of(model, *samples)
    ordered = {name: tokens[name] for name in model.names if name in tokens}
    return ModalitySet(ordered, "main", len(samples), prefixes, frozenset({"main"}), connectors=connectors)


def expert(model: CremaModel, name: str) -> MMQA:
    adapter = model.branch(name).adapter
    assert isinstance(adapter, MMQA)
    return adapter


@torch.no_grad()
def test_the_mixture_is_one_pass_of_weighed_queries_loras_features_and_projections(model: CremaModel) -> None:
    own = sample(model, *NAMES)
    (mixed,) = segments_of(model, own)
    features = model.encode(prepare_batch(model, [own]))
    experts = {name: expert(model, name) for name in NAMES}
    keys = {}
    for name, one in features.items():
        values, mask = one.features.values[0], one.features.mask[0]
        real = mask if mask.dim() == 2 else mask[:, None].expand(values.shape[:2])
        keys[name] = experts[name].inputs(values)[real]  # (S, E)
    scores = [torch.zeros(1)] + [model.fusion.blocks[name](keys[name].mean(0)) for name in ("wave", "points")]
    weights = dict(zip(NAMES, torch.cat(scores).softmax(0), strict=True))
    queries = model.fusion.places + sum(weights[name] * experts[name].queries[0].repeat(3, 1) for name in NAMES)
    read = torch.cat([3 * weights[name] * keys[name] for name in NAMES])
    qformer = experts["main"].qformer
    before = {place: layer.base_layer.weight.clone() for place, layer in qformer._lora_layers().items()}
    for place, layer in qformer._lora_layers().items():
        for name in NAMES:
            lora = qformer.lora_parameters(name)
            scaling = layer.scaling[f"m_{name}"]
            layer.base_layer.weight += weights[name] * scaling * lora[f"{place}.B"] @ lora[f"{place}.A"]
    hidden = qformer("nobody", queries[None], read[None])[0]
    for place, layer in qformer._lora_layers().items():
        layer.base_layer.weight.copy_(before[place])
    expected = sum(weights[name] * experts[name].output(hidden) for name in NAMES)
    torch.testing.assert_close(mixed.values[0, 0], expected, rtol=1e-4, atol=1e-5)
    assert (mixed.prefix, mixed.mask.tolist()) == ("Frame: ", [[True]])


def test_a_fixed_number_of_tokens_is_read_however_many_modalities_and_steps_there_are(t5_folder: Path) -> None:
    model = new_model(t5_folder)
    assert isinstance(model.fusion, MixtureFusion)
    assert model.fusion.num_tokens == 3 * 5
    for chosen in (("main", "wave"), ("points",), NAMES):
        (mixed,) = segments_of(model, sample(model, *chosen))
        assert tuple(mixed.values.shape[:3]) == (1, 1, 15)
    assert segments_of(new_model(t5_folder, num_tokens=7), sample(model, "main", "wave"))[0].values.shape[2] == 7


def test_the_major_modality_alone_passes_the_qformer_frame_by_frame(model: CremaModel, t5_folder: Path) -> None:
    alone = build([frames_spec("main")], backbone=t5_folder)
    state = model.adapter_state_dict()
    alone.load_adapter_state_dict({key: state[key] for key in alone.adapter_state_dict()})
    own = sample(model, "main")
    main, _ = segments_of(model, own, sample(model, *NAMES))
    with torch.no_grad():
        expected = alone.tokens(alone.encode(prepare_batch(alone, [own])), [QUESTION])["main"]
    torch.testing.assert_close(main.values[0], expected.values[0])
    assert main.mask.tolist() == [[True] * 3, [False] * 3]
    mine, theirs = (one.answer(QUESTION, ["red", "blue"], **own).scores for one in (model, alone))
    assert list(mine.values()) == pytest.approx(list(theirs.values()), abs=1e-5)


def test_a_sample_is_mixed_the_same_beside_others_and_with_what_it_lacks_left_out(model: CremaModel) -> None:
    samples = [
        sample(model, *chosen, seed=seed)
        for seed, chosen in enumerate([("main", "wave"), ("points",), ("main",), NAMES, ("wave", "points")])
    ]
    samples[3]["main"] = torch.randn(5, 3, 16, 16)
    together = segments_of(model, *samples)
    for row, own in enumerate(samples):
        alone = segments_of(model, own)
        kept = [one for one in together if bool(one.mask[row].any())]
        assert [one.prefix for one in kept] == [one.prefix for one in alone]
        for one, other in zip(kept, alone, strict=True):
            torch.testing.assert_close(one.values[row][one.mask[row]], other.values[0][other.mask[0]])


def test_an_expert_that_was_trained_comes_with_its_adapter(model: CremaModel, t5_folder: Path, tmp_path: Path) -> None:
    model.save_adapter("wave", tmp_path / "wave")
    other = moved(new_model(t5_folder, ("main", "points")), seed=1)
    before = other.answer(QUESTION, ["red", "blue"], **sample(model, "main", "points")).scores
    with registry.temporary_registrations():
        registry.register(wave_spec())
        other.load_adapter(tmp_path / "wave")
    for key, value in other.adapter_parameters("wave").items():
        assert torch.equal(value, model.adapter_parameters("wave")[key])
    for key, value in other.fusion_parameters(["wave"]).items():
        assert torch.equal(value, model.fusion_parameters(["wave"])[key])
    assert other.answer(QUESTION, ["red", "blue"], **sample(model, "main", "points")).scores == before


def test_the_router_starts_a_modality_added_later_at_the_major_ones_score(model: CremaModel) -> None:
    model.add_modality(touch_specs()[0])
    assert all(not bool(own.any()) for own in model.fusion_parameters(["touch"]).values())


def test_each_trained_weight_learns_and_what_a_sample_lacks_does_not(model: CremaModel) -> None:
    for own in model.trainable_parameters().values():
        own.requires_grad_(True)
    model.loss(tokens_of(model, sample(model, "main", "wave")), [QUESTION], ["red"]).backward()
    reached = {name for name, own in model.trainable_parameters().items() if own.grad is not None and own.grad.any()}
    assert not any("points" in name for name in reached)
    for part in ("queries", "output.weight", "norm.weight"):
        assert {f"modalities.main.mmqa.{part}", f"modalities.wave.mmqa.{part}"} <= reached
    for name in ("main", "wave"):
        lora = {f"modalities.{name}.lora.{key}" for key in model.lora_parameters(name)}
        assert lora <= reached
    assert {"fusion.places", "fusion.blocks.wave.weight", "fusion.blocks.wave.bias"} <= reached


def test_the_scale_of_every_lora_is_as_before_when_a_pass_has_ended(model: CremaModel) -> None:
    qformer = expert(model, "main").qformer
    before = [dict(layer.scaling) for layer in qformer._lora_layers().values()]
    segments_of(model, sample(model, *NAMES))
    with pytest.raises(RuntimeError, match="inside"), qformer.mixing({"wave": torch.ones(1), "main": torch.ones(1)}):
        raise RuntimeError("inside")
    assert [dict(layer.scaling) for layer in qformer._lora_layers().values()] == before
    assert qformer._mixed == ()


def test_concatenation_of_a_model_with_a_mixture_is_that_of_its_adapters(model: CremaModel, t5_folder: Path) -> None:
    plain = build([frames_spec("main"), wave_spec(), points_spec()], backbone=t5_folder, fusion="concat")
    state = model.adapter_state_dict()
    plain.load_adapter_state_dict({key: state[key] for key in plain.adapter_state_dict()})
    samples = [sample(model, *NAMES), sample(model, "wave", seed=1)]
    questions = [QUESTION] * 2
    with torch.no_grad():
        ours = model.prompt(tokens_of(model, *samples), questions, fusion=chosen_fusion(model, "concat"))
        theirs = plain.prompt(tokens_of(plain, *samples), questions)
    torch.testing.assert_close(ours.embeds, theirs.embeds)
    assert torch.equal(ours.mask, theirs.mask)


@pytest.mark.parametrize("kind", ["instructblip-flan-t5"])
def test_the_mixture_reads_the_question_of_each_sample(published: Callable[[Published], Path], kind: Published) -> None:
    model = moved(new_model(published(kind), ("main", "wave")))
    samples = [sample(model, "wave"), sample(model, "main", "wave", seed=1)]

    def mixed(*questions: str) -> Tensor:
        chosen = samples[-len(questions) :]
        with torch.no_grad():
            tokens = model.tokens(model.encode(prepare_batch(model, chosen)), questions)
            modalities = replace(
                modalities_of(model, *chosen), tokens={n: tokens[n] for n in model.names if n in tokens}
            )
            (segment,) = model.fusion(modalities)
        values: Tensor = segment.values
        return values

    both = mixed("what ?", "what color is a ?")
    torch.testing.assert_close(both[1:], mixed("what color is a ?"))
    assert not torch.allclose(both[1:], mixed("what ?"))


def test_a_mixture_is_refused_where_a_models_own_visual_tokens_pass_no_qformer() -> None:
    with pytest.raises(OptionsError) as caught:
        make_fusion("mixture", ["one"], FusionSizes(8, 5, visual=VisualLayout(8), qformer=(6, 4)))
    assert str(caught.value) == (
        "mixture lets all modalities pass one Q-Former together, and a vision-language model's own visual tokens pass "
        "none. Accepted: a backbone in BLIP-2 or InstructBLIP format. Use fusion='token_mixture', which mixes the "
        "tokens of supporting modalities behind the Q-Former."
    )


def test_less_than_one_token_is_refused(t5_folder: Path) -> None:
    with pytest.raises((OptionsError, BuildError), match="num_tokens=0 leaves the language model nothing to read"):
        new_model(t5_folder, num_tokens=0)
