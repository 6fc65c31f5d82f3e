"""One modality's adapter around the shared Q-Former."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import Blip2ForConditionalGeneration

from crema_core.api.build import build
from crema_core.api.requests import ModalityRequest
from crema_core.errors import OptionsError
from crema_core.features.feature_cache import prepare_batch
from crema_core.modality import Features
from crema_core.model.backbone import Backbone
from crema_core.model.load_backbone import load_backbone
from crema_core.model.mmqa import MMQA, Interpolate, chosen_start, input_projection
from crema_core.plugins import registry
from crema_core.plugins.spec import MMQASpec, OutputStart
from crema_core.tokens import ModalityFeatures
from tests.support.checkpoints import Published
from tests.support.modalities import frames_spec, points_spec, wave_spec

QUERIES, ENCODER, HIDDEN, LANGUAGE = 5, 16, 12, 24


@pytest.fixture
def backbone(t5_folder: Path) -> Backbone:
    return load_backbone(t5_folder)


def adapter_of(backbone: Backbone, name: str = "touch", *, feature_dim: int = 10, **sizes: object) -> MMQA:
    spec = MMQASpec.model_validate({"num_queries": QUERIES, "lora_rank": 2, **sizes})
    assert backbone.qformer is not None
    torch.manual_seed(1)
    adapter = MMQA(name, spec, backbone.qformer, feature_dim=feature_dim, output_dim=LANGUAGE)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_()
    return adapter.eval()


def features_of(mask: list[list[bool]] | torch.Tensor, *, width: int = 10, tokens: int = 3) -> ModalityFeatures:
    mask = torch.as_tensor(mask)
    generator = torch.Generator().manual_seed(2)
    values = torch.randn(*mask.shape[:2], tokens, width, generator=generator)
    times = torch.rand(*mask.shape[:2], 2, generator=generator)
    return ModalityFeatures(Features(values, mask, times), torch.arange(mask.shape[0]) * 2)


# Where it starts


def test_a_modality_of_the_backbones_vision_encoder_starts_as_the_backbone_sees(t5_folder: Path) -> None:
    model = build([frames_spec("main")], backbone=t5_folder)
    reference = Blip2ForConditionalGeneration.from_pretrained(t5_folder).eval()
    adapter = model.branch("main").adapter
    assert isinstance(adapter, MMQA)
    norm = reference.vision_model.post_layernorm
    for own, theirs in ((adapter.norm, norm), (adapter.output, reference.language_projection)):
        for part in ("weight", "bias"):
            expected = getattr(theirs, part)
            assert torch.equal(getattr(own, part), expected)
            assert not torch.allclose(expected, torch.full_like(expected, part == "weight"), atol=0.05), "not as new"
    assert torch.equal(adapter.queries, reference.query_tokens)
    pixels = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        seen = reference.vision_model(pixels).last_hidden_state
        read = reference.qformer(
            query_embeds=reference.query_tokens.expand(2, -1, -1), encoder_hidden_states=seen
        ).last_hidden_state
        expected = reference.language_projection(read)
        tokens = adapter(model.encode(prepare_batch(model, [{"main": pixels}]))["main"])
    torch.testing.assert_close(tokens.values[0], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["blip2-flan-t5", "blip2-opt", "instructblip-vicuna"])
def test_a_modality_of_another_encoder_starts_with_a_norm_of_its_own(
    kind: Published, published: Callable[[Published], Path]
) -> None:
    backbone = load_backbone(published(kind))
    model = build([wave_spec(), points_spec(feature_dim=ENCODER), frames_spec("main")], backbone=backbone)
    for name in ("wave", "points", "main"):
        adapter = model.branch(name).adapter
        assert isinstance(adapter, MMQA)
        assert torch.equal(adapter.queries, backbone.query_tokens)
        assert torch.equal(adapter.output.weight, backbone.language_projection.weight)
        assert torch.equal(adapter.output.bias, backbone.language_projection.bias)
        fresh = bool((adapter.norm.weight == 1).all()) and bool((adapter.norm.bias == 0).all())
        assert fresh == (name != "main")


@pytest.mark.parametrize(
    ("asked", "has_one", "expected"),
    [
        ("auto", True, "copied"),
        ("auto", False, "fresh"),
        ("copied", True, "copied"),
        ("fresh", True, "fresh"),
        ("zero", True, "zero"),
        ("zero", False, "zero"),
    ],
)
@pytest.mark.parametrize("sees", [False, True])
def test_an_output_projection_starts_as_asked(asked: OutputStart, has_one: bool, expected: str, sees: bool) -> None:
    backbones = nn.Linear(HIDDEN, LANGUAGE) if has_one else None
    for major in (False, True):
        assert chosen_start(MMQASpec(output_start=asked), backbones, major=major, sees=sees) == expected


def test_auto_gives_the_major_modality_the_backbones_projection_whatever_the_others_start_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("crema_core.model.mmqa.AUTO_START", {True: "zero", False: "fresh"})
    own = nn.Linear(HIDDEN, LANGUAGE)
    found = [chosen_start(MMQASpec(), own, major=major, sees=sees) for major in (True, False) for sees in (True, False)]
    assert found == ["copied", "copied", "zero", "fresh"]


def test_a_copy_of_nothing_is_refused() -> None:
    with pytest.raises(OptionsError) as caught:
        chosen_start(MMQASpec(output_start="copied"), None, major=False, sees=True)
    assert str(caught.value) == (
        "output_start='copied' starts from the backbone's own output projection, and this one has none into its "
        "language model. Accepted here: 'fresh', 'zero', 'auto'. Leave output_start out."
    )


def test_the_common_start_is_that_of_supporting_modalities_and_each_may_have_its_own(t5_folder: Path) -> None:
    def starts(modalities: list[ModalityRequest], **mmqa: str) -> tuple[str, ...]:
        model = build(modalities, backbone=t5_folder, mmqa=mmqa)
        own = model.backbone.language_projection
        assert own is not None
        found = []
        for name in model.names:
            adapter = model.branch(name).adapter
            assert isinstance(adapter, MMQA)
            copied = torch.equal(adapter.output.weight, own.weight) and torch.equal(adapter.output.bias, own.bias)
            found.append("zero" if adapter.is_zero else "copied" if copied else "fresh")
        return tuple(found)

    main, wave, points = ({"name": "main"}, {"name": "wave"}, {"name": "points"})
    for spec in (frames_spec("main"), wave_spec(), points_spec()):
        registry.register(spec)
    assert starts([main, wave, points]) == ("copied", "copied", "copied")
    assert starts([main, wave, points], output_start="fresh") == ("copied", "fresh", "fresh")
    assert starts([main, wave, {**points, "mmqa": {"output_start": "zero"}}]) == ("copied", "copied", "zero")
    assert starts([{**main, "mmqa": {"output_start": "zero"}}, wave], output_start="fresh") == ("zero", "fresh")


@pytest.mark.slow
def test_a_fresh_projection_is_drawn_by_the_modalitys_seed_and_moves_nothing_else(t5_folder: Path) -> None:
    def weights(seed: int, start: str) -> dict[str, torch.Tensor]:
        model = build([frames_spec("main"), wave_spec()], backbone=t5_folder, mmqa={"output_start": start}, seed=seed)
        return {key: own.detach().clone() for key, own in model.trainable_parameters().items()}

    copied, fresh, again, other, zero = (
        weights(seed, start) for seed, start in ((0, "copied"), (0, "fresh"), (0, "fresh"), (1, "fresh"), (0, "zero"))
    )
    output = {f"modalities.wave.mmqa.output.{part}" for part in ("weight", "bias")}
    for found in (fresh, zero):
        assert {key for key in copied if not torch.equal(copied[key], found[key])} == output
    assert all(torch.equal(fresh[key], again[key]) for key in fresh)
    assert not any(torch.equal(fresh[key], other[key]) for key in output)
    bound = HIDDEN**-0.5  # as nn.Linear draws
    for key in output:
        assert 0.5 * bound < float(fresh[key].abs().max()) <= bound
        assert not bool(zero[key].any())


@pytest.mark.slow
def test_only_what_has_the_backbones_shape_is_copied(backbone: Backbone) -> None:
    adapter = adapter_of(backbone, num_queries=3)
    before = copy.deepcopy(adapter.state_dict())
    adapter.start_from(
        queries=torch.ones(1, QUERIES, HIDDEN), output=nn.Linear(HIDDEN, LANGUAGE + 1), norm=nn.LayerNorm(ENCODER + 1)
    )
    adapter.start_from(queries=torch.ones(1, QUERIES, HIDDEN), output=None, norm=None)
    assert all(torch.equal(value, before[key]) for key, value in adapter.state_dict().items())
    bare = adapter_of(backbone, "bare", norm=False)
    assert isinstance(bare.norm, nn.Identity)
    norm, output = nn.LayerNorm(ENCODER), nn.Linear(HIDDEN, LANGUAGE)
    bare.start_from(queries=torch.full((1, QUERIES, HIDDEN), 2.0), output=output, norm=norm)
    assert bool((bare.queries == 2).all())
    assert torch.equal(bare.output.weight, output.weight)
    assert torch.equal(bare.output.bias, output.bias)
    assert all(parameter.requires_grad for parameter in bare.parameters()), "copying makes no graph"


def test_fresh_queries_are_small_and_differ(backbone: Backbone) -> None:
    assert backbone.qformer is not None
    spec = MMQASpec(num_queries=400)
    adapter = MMQA("touch", spec, backbone.qformer, feature_dim=10, output_dim=LANGUAGE)
    assert adapter.queries.shape == (1, 400, HIDDEN)
    assert float(adapter.queries.detach().std()) == pytest.approx(0.02, rel=0.1)
    assert float(adapter.queries.detach().mean()) == pytest.approx(0.0, abs=0.002)
    assert (adapter.num_tokens, adapter.width) == (400, LANGUAGE)


# How it reads


@pytest.mark.parametrize("projected", [True, False])
def test_features_are_projected_then_normed_then_read_then_mapped(backbone: Backbone, projected: bool) -> None:
    width = 10 if projected else ENCODER
    adapter = adapter_of(backbone, feature_dim=width)
    features = features_of([[True, True], [True, True]], width=width)
    keys = features.features.values.flatten(0, 1)
    if projected:
        assert isinstance(adapter.projection, nn.Linear)
        keys = keys @ adapter.projection.weight.T + adapter.projection.bias
    keys = nn.functional.layer_norm(keys, (ENCODER,), adapter.norm.weight, adapter.norm.bias)
    read = adapter.qformer("touch", adapter.queries, keys)
    expected = (read @ adapter.output.weight.T + adapter.output.bias).unflatten(0, (2, 2))
    tokens = adapter(features)
    torch.testing.assert_close(tokens.values, expected)
    assert tokens.values.shape == (2, 2, QUERIES, LANGUAGE)
    assert torch.equal(tokens.rows, features.rows)
    assert torch.equal(tokens.mask, features.features.mask)
    assert tokens.times is features.features.times


def test_features_of_another_number_format_are_read_in_the_adapters(backbone: Backbone) -> None:
    adapter = adapter_of(backbone)
    features = features_of([[True]])
    half = features._replace(features=features.features._replace(values=features.features.values.bfloat16()))
    assert adapter(half).values.dtype == torch.float32


def test_padded_steps_are_zero_and_do_not_pass_the_qformer(backbone: Backbone) -> None:
    adapter = adapter_of(backbone)
    mask = [[True, False, False], [True, True, True], [False, True, False]]
    features = features_of(mask)
    features.features.values[~features.features.mask] = torch.nan
    passed: list[int] = []
    adapter.qformer.register_forward_pre_hook(lambda _, given: passed.append(len(given[2])))
    tokens = adapter(features)
    assert passed == [5]
    assert bool((tokens.values[~features.features.mask] == 0).all())
    for row, step in features.features.mask.nonzero().tolist():
        alone = features.features.values[row : row + 1, step : step + 1]
        one = ModalityFeatures(Features(alone, torch.tensor([[True]])), torch.tensor([0]))
        torch.testing.assert_close(tokens.values[row, step], adapter(one).values[0, 0])


def test_padded_tokens_inside_a_step_are_not_read(backbone: Backbone) -> None:
    adapter = adapter_of(backbone)
    mask = torch.tensor([[[True, True, False], [False] * 3], [[True] * 3, [True, False, False]]])
    features = features_of(mask)
    tokens = adapter(features)
    assert tokens.mask.tolist() == [[True, False], [True, True]]
    assert bool((tokens.values[0, 1] == 0).all())
    for row, step, count in ((0, 0, 2), (1, 0, 3), (1, 1, 1)):
        alone = features.features.values[row : row + 1, step : step + 1, :count]
        one = ModalityFeatures(Features(alone, torch.tensor([[True]])), torch.tensor([0]))
        torch.testing.assert_close(tokens.values[row, step], adapter(one).values[0, 0])


def test_a_token_mask_without_gaps_is_not_handed_on(backbone: Backbone) -> None:
    adapter = adapter_of(backbone)
    handed: list[torch.Tensor | None] = []
    adapter.qformer.register_forward_pre_hook(lambda _, given: handed.append(given[3]))
    whole = features_of(torch.ones(2, 2, 3, dtype=torch.bool))
    plain = whole._replace(features=whole.features._replace(mask=torch.ones(2, 2, dtype=torch.bool)))
    assert torch.equal(adapter(whole).values, adapter(plain).values)
    assert handed == [None, None]


# Its parts


@pytest.mark.parametrize(
    ("kind", "feature_dim", "found"),
    [
        ("auto", ENCODER, nn.Identity),
        ("auto", 10, nn.Linear),
        ("always", ENCODER, nn.Linear),
        ("always", 10, nn.Linear),
        ("never", ENCODER, nn.Identity),
        ("interpolate", 10, Interpolate),
        ("interpolate", ENCODER, nn.Identity),
    ],
)
def test_features_are_brought_to_the_qformers_width_as_asked(kind: str, feature_dim: int, found: type) -> None:
    projection = input_projection(feature_dim, ENCODER, kind)
    assert type(projection) is found
    assert projection(torch.zeros(4, 3, feature_dim)).shape == (4, 3, ENCODER)


def test_interpolation_keeps_the_ends() -> None:
    assert Interpolate(5)(torch.tensor([[[0.0, 2.0, 4.0]]])).tolist() == [[[0.0, 1.0, 2.0, 3.0, 4.0]]]


def test_features_of_another_width_are_refused_where_nothing_may_project_them() -> None:
    with pytest.raises(OptionsError) as caught:
        input_projection(10, ENCODER, "never")
    assert str(caught.value) == (
        "projection='never' needs features as wide as the Q-Former expects: they are 10 wide, it expects 16. Use "
        "projection='auto' or 'interpolate'."
    )


def test_what_is_trained_is_named_by_part_for_each_modality_alone(backbone: Backbone) -> None:
    touch, left = adapter_of(backbone, "touch"), adapter_of(backbone, "touch_left")
    own = [
        "queries",
        "projection.weight",
        "projection.bias",
        "norm.weight",
        "norm.bias",
        "output.weight",
        "output.bias",
    ]
    lora = [f"lora.{layer}.{part}.{side}" for layer in (0, 1) for part in ("query", "value") for side in "AB"]
    assert sorted(touch.trained()) == sorted([*(f"mmqa.{key}" for key in own), *lora]) == sorted(left.trained())
    shared = {id(value) for value in touch.trained().values()} & {id(value) for value in left.trained().values()}
    assert shared == set()
    assert {key: value is touch.trained()[f"lora.{key}"] for key, value in touch.lora().items()} == dict.fromkeys(
        [key.removeprefix("lora.") for key in lora], True
    )


def test_the_counted_maps_are_its_own(backbone: Backbone) -> None:
    touch, _ = adapter_of(backbone, "touch"), adapter_of(backbone, "touch_left")
    counted = list(touch.counted())
    assert counted[:3] == [touch.projection, touch.norm, touch.output]
    weights = {id(parameter) for parameter in touch.lora().values()}
    assert {id(module.weight) for module in counted[3:]} == weights
    assert len(counted) == 3 + len(weights)


@pytest.mark.parametrize(("kind", "reads"), [("blip2-opt", False), ("instructblip-vicuna", True)])
def test_an_adapter_reads_text_where_its_qformer_does(
    kind: Published, reads: bool, published: Callable[[Published], Path]
) -> None:
    assert adapter_of(load_backbone(published(kind))).reads_text == reads
