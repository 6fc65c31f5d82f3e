"""The table of parameters and cost: every number against one counted another way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from crema_core.api.build import build
from crema_core.api.describe import cost_of, describe_model
from crema_core.api.model import CremaModel
from crema_core.errors import UnknownModalityError
from crema_core.features.feature_cache import prepare_batch
from tests.support.modalities import four_modalities


def test_every_parameter_is_counted_once(model: CremaModel) -> None:
    trainable = sum(parameter.numel() for parameter in model.trainable_parameters().values())
    every = sum(parameter.numel() for parameter in model.parameters())
    total = describe_model(model).total
    assert (total.frozen, total.trainable) == (every - trainable, trainable)
    assert total.megabytes == pytest.approx(4 * every / 1e6)


def test_an_adapter_is_counted_by_hand(model: CremaModel) -> None:
    (wave,) = [row for row in describe_model(model).components if row.name == "wave"]
    projection, norm, queries, output = 10 * 16 + 16, 2 * 16, 5 * 12, 12 * 24 + 24
    lora = 2 * 2 * (2 * 12 + 12 * 2)  # layers x (query, value) x (A and B of rank 2)
    assert (wave.frozen, wave.trainable) == (0, projection + norm + queries + output + lora)


def test_an_adapters_cost_is_counted_by_hand(model: CremaModel) -> None:
    (wave,) = [row for row in describe_model(model).components if row.name == "wave"]
    steps, tokens, num_queries = 4, 3, 5
    projection = 2 * steps * tokens * 10 * 16
    output = 2 * steps * num_queries * 12 * 24
    lora = 2 * 2 * 2 * steps * num_queries * (12 * 2 + 2 * 12)
    assert wave.gflops * 1e9 == pytest.approx(projection + output + lora)


def test_the_total_cost_equals_that_of_torchs_counter(model: CremaModel) -> None:
    generator = torch.Generator().manual_seed(0)
    sources = {name: model.branch(name).modality.example(generator) for name in model.names}
    batches = prepare_batch(model, [sources])
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        features = model.encode(batches)
        tokens = {name: model.modality_tokens(name, own) for name, own in features.items()}
        model.language.logits(model.prompt(tokens, ["What is it?"]), torch.zeros(1, 5, dtype=torch.int64))
    assert cost_of(model, model.names).total_gflops * 1e9 == pytest.approx(counter.get_total_flops())


def test_the_cost_of_a_subset_leaves_out_what_is_absent(model: CremaModel) -> None:
    alone = cost_of(model, ["main"])
    assert alone.gflops.keys() == {"vision encoder", "Q-Former", "language model", "main"}
    question = cost_of(model, [])
    assert question.gflops.keys() == {"language model"}
    assert question.num_tokens == 5  # "What is it ?" and the end
    assert alone.num_tokens == 3 * (3 + 5) + 5  # three frames: "Frame 1 :" and five queries
    assert cost_of(model, model.names).num_tokens == 2 * 3 * (3 + 5) + 5


def test_a_longer_answer_costs_more(model: CremaModel) -> None:
    short, long = (cost_of(model, [], num_answer_tokens=count).total_gflops for count in (1, 10))
    assert long > short


def test_the_sources_of_a_real_sample_can_be_given(model: CremaModel) -> None:
    frames = torch.randn(1, 3, 16, 16)
    assert cost_of(model, ["main"], sources={"main": frames}).num_tokens == 1 * (3 + 5) + 5


def test_nothing_of_the_model_changes(model: CremaModel) -> None:
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.train()
    describe_model(model)
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_an_unknown_modality_is_refused(model: CremaModel) -> None:
    with pytest.raises(UnknownModalityError) as caught:
        cost_of(model, ["wavs"])
    assert str(caught.value) == (
        "This model has no modality 'wavs'. It has: main, other, wave, points. Did you mean 'wave'? Add one with "
        "model.add_modality('wavs')."
    )


def test_the_text_is_an_aligned_table(model: CremaModel) -> None:
    lines = str(model.describe()).splitlines()
    assert lines[0].split() == ["component", "frozen", "trainable", "MB", "GFLOPs", "per", "answer"]
    assert [line.split("  ")[0] for line in lines[1:9]] == [
        "vision encoder", "Q-Former", "language model", "main", "other", "wave", "points", "fusion",
    ]  # fmt: skip
    assert lines[9].startswith("total")
    assert len({len(line) for line in lines[:10]}) == 1
    assert lines[11] == "53 tokens into the language model per answer with all modalities, question included."


def test_the_data_can_be_written_as_json(model: CremaModel) -> None:
    data = json.loads(json.dumps(model.describe().to_dict()))
    assert data["total"]["trainable"] == sum(row["trainable"] for row in data["components"])
    assert data["cost"]["modalities"] == ["main", "other", "wave", "points"]


def test_a_decoder_only_language_model_is_counted_too(opt_folder: Path) -> None:
    description = describe_model(build(four_modalities(), backbone=opt_folder))
    assert description.total.gflops == pytest.approx(sum(row.gflops for row in description.components))


def test_products_of_the_frozen_parts_are_not_computed(model: CremaModel) -> None:
    seen = []
    model.language.model.lm_head.register_forward_hook(lambda module, arguments, output: seen.append(output))
    cost_of(model, ["main"])
    assert not seen[0].any()
