"""The shared Q-Former with one LoRA per modality."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft.tuners.lora import LoraLayer
from torch import nn

from crema_core.model.load_backbone import load_backbone
from crema_core.model.qformer import QFormer, QFormerText
from crema_core.plugins.spec import MMQASpec
from tests.support.checkpoints import Published

LAYERS, RANK = 2, 2
QUERIES, KEYS = 5, 7


@pytest.fixture
def qformer(t5_folder: Path) -> QFormer:
    found = load_backbone(t5_folder).qformer
    assert found is not None
    return found.eval()


@pytest.fixture
def reading(published: Callable[[Published], Path]) -> QFormer:
    """InstructBLIP's, which reads text too."""
    found = load_backbone(published("instructblip-vicuna")).qformer
    assert found is not None
    return found.eval()


def inputs(qformer: QFormer, *, samples: int = 2, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    queries = torch.randn(1, QUERIES, qformer.hidden_size, generator=generator)
    return queries, torch.randn(samples, KEYS, qformer.encoder_width, generator=generator)


def lora_layers(qformer: QFormer) -> dict[str, LoraLayer]:
    return {path: module for path, module in qformer.model.named_modules() if isinstance(module, LoraLayer)}


def draw(qformer: QFormer, modality: str) -> None:
    """Give a modality's LoRA an influence."""
    with torch.no_grad():
        for parameter in qformer.lora_parameters(modality).values():
            parameter.normal_()


def test_a_lora_sits_on_query_and_value_of_self_attention_alone(qformer: QFormer) -> None:
    qformer.add_lora("touch", MMQASpec(lora_rank=RANK))
    assert sorted(lora_layers(qformer)) == [
        f"encoder.layer.{layer}.attention.attention.{part}" for layer in range(LAYERS) for part in ("query", "value")
    ]
    found = qformer.lora_parameters("touch")
    assert {key: tuple(value.shape) for key, value in found.items()} == {
        f"{layer}.{part}.{side}": (RANK, 12) if side == "A" else (12, RANK)
        for layer in range(LAYERS)
        for part in ("query", "value")
        for side in "AB"
    }
    for layer in range(LAYERS):
        for part in ("query", "value"):
            own = qformer.model.get_submodule(f"encoder.layer.{layer}.attention.attention.{part}")
            assert found[f"{layer}.{part}.A"] is own.lora_A["m_touch"].weight
            assert found[f"{layer}.{part}.B"] is own.lora_B["m_touch"].weight
    assert not any(parameter.requires_grad for parameter in qformer.parameters())


@pytest.mark.parametrize(
    ("spec", "scale", "dropout"),
    [
        (MMQASpec(lora_rank=RANK), 1.0, 0.1),
        (MMQASpec(lora_rank=RANK, lora_alpha=5.0, lora_dropout=0.25), 2.5, 0.25),
        (MMQASpec(lora_rank=RANK, lora_dropout=0.0), 1.0, 0.0),
    ],
    ids=["defaults", "own", "without dropout"],
)
def test_rank_scale_and_dropout_of_a_lora_are_the_asked_ones(
    qformer: QFormer, spec: MMQASpec, scale: float, dropout: float
) -> None:
    qformer.add_lora("touch", spec)
    for layer in lora_layers(qformer).values():
        assert layer.r["m_touch"] == RANK
        assert layer.scaling["m_touch"] == scale
        own = layer.lora_dropout["m_touch"]
        assert (own.p if isinstance(own, nn.Dropout) else 0.0) == dropout
        assert not layer.lora_bias["m_touch"]


def test_dropout_acts_in_train_mode_alone(qformer: QFormer) -> None:
    qformer.add_lora("touch", MMQASpec(lora_rank=RANK, lora_dropout=0.5))
    draw(qformer, "touch")
    qformer.train_lora(False)
    queries, keys = inputs(qformer)
    settled = [qformer("touch", queries, keys) for _ in range(2)]
    assert torch.equal(*settled)
    qformer.eval()
    qformer.train_lora(True)
    training = {name for name, module in qformer.named_modules() if module.training}
    assert training
    assert all("lora_dropout" in name for name in training)
    dropped = [qformer("touch", queries, keys) for _ in range(2)]
    assert not torch.allclose(*dropped)
    qformer.train_lora(False)
    assert torch.equal(qformer("touch", queries, keys), settled[0])


def test_a_new_lora_changes_nothing(qformer: QFormer) -> None:
    queries, keys = inputs(qformer)
    plain = copy.deepcopy(qformer.model)
    qformer.add_lora("touch", MMQASpec(lora_rank=RANK))
    found = qformer.lora_parameters("touch")
    assert all(float(value.abs().max()) == 0 for key, value in found.items() if key.endswith("B"))
    assert all(float(value.abs().max()) > 0 for key, value in found.items() if key.endswith("A"))
    expected = plain(query_embeds=queries.expand(2, -1, -1), encoder_hidden_states=keys).last_hidden_state
    torch.testing.assert_close(qformer("touch", queries, keys), expected)


def test_a_modality_without_lora_passes_the_qformer_as_it_is(qformer: QFormer) -> None:
    queries, keys = inputs(qformer)
    plain = copy.deepcopy(qformer.model)
    expected = plain(query_embeds=queries.expand(2, -1, -1), encoder_hidden_states=keys).last_hidden_state
    qformer.add_lora("bare", MMQASpec(lora_rank=0))
    assert not qformer.has_lora
    assert torch.equal(qformer("bare", queries, keys), expected)
    # As "rgb-skip" of the released code: another modality's LoRA beside it takes no part, whoever passed last.
    qformer.add_lora("touch", MMQASpec(lora_rank=RANK, lora_dropout=0.0))
    draw(qformer, "touch")
    read = qformer("touch", queries, keys)
    assert not torch.allclose(read, expected)
    assert torch.equal(qformer("bare", queries, keys), expected)
    assert torch.equal(qformer("touch", queries, keys), read)
    assert qformer.lora_parameters("bare") == {}
    assert len(qformer.lora_parameters("touch")) == 4 * LAYERS


def test_a_copy_for_one_modality_is_trained_whole_and_apart(qformer: QFormer) -> None:
    queries, keys = inputs(qformer)
    own = qformer.individual("touch")
    expected = qformer("touch", queries, keys)
    assert torch.equal(own("touch", queries, keys), expected)
    assert own.own_parameters().keys() == qformer.own_parameters().keys()
    assert (own.owner, own.fresh, qformer.owner, qformer.fresh) == ("touch", True, None, False)
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.add_(0.1)
    assert torch.equal(qformer("touch", queries, keys), expected)


def test_a_lora_adds_its_scaled_product_to_the_weights(qformer: QFormer) -> None:
    plain = copy.deepcopy(qformer.model)
    qformer.add_lora("touch", MMQASpec(lora_rank=RANK, lora_alpha=3.0, lora_dropout=0.0))
    draw(qformer, "touch")
    with torch.no_grad():
        found = qformer.lora_parameters("touch")
        for layer in range(LAYERS):
            for part in ("query", "value"):
                weight = plain.get_submodule(f"encoder.layer.{layer}.attention.attention.{part}").weight
                weight += 1.5 * found[f"{layer}.{part}.B"] @ found[f"{layer}.{part}.A"]
    queries, keys = inputs(qformer)
    expected = plain(query_embeds=queries.expand(2, -1, -1), encoder_hidden_states=keys).last_hidden_state
    torch.testing.assert_close(qformer("touch", queries, keys), expected, atol=1e-5, rtol=1e-4)


def test_modalities_of_which_one_name_begins_the_other_have_loras_of_their_own(qformer: QFormer) -> None:
    queries, keys = inputs(qformer)
    qformer.add_lora("touch", MMQASpec(lora_rank=RANK))
    before = qformer("touch", queries, keys)
    qformer.add_lora("touch_left", MMQASpec(lora_rank=3))
    assert {value.shape[0] for key, value in qformer.lora_parameters("touch").items() if key.endswith("A")} == {RANK}
    assert {value.shape[0] for key, value in qformer.lora_parameters("touch_left").items() if key.endswith("A")} == {3}
    draw(qformer, "touch_left")
    assert torch.equal(qformer("touch", queries, keys), before)
    assert not torch.allclose(qformer("touch_left", queries, keys), before)
    assert torch.equal(qformer("touch", queries, keys), before), "it is switched back"
    assert qformer.lora_parameters("touc") == {}
    assert not any(parameter.requires_grad for parameter in qformer.parameters())


def test_a_name_that_is_a_modules_own_is_a_legal_modality(qformer: QFormer) -> None:
    for name in ("train", "keys", "weight"):
        qformer.add_lora(name, MMQASpec(lora_rank=RANK))
        assert len(qformer.lora_parameters(name)) == 4 * LAYERS


def test_adding_a_lora_beside_others_warns_of_nothing(qformer: QFormer) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("touch", "touch_left"):
            qformer.add_lora(name, MMQASpec(lora_rank=RANK))


def test_every_step_reads_its_own_features_and_no_padded_ones(qformer: QFormer) -> None:
    qformer.add_lora("touch", MMQASpec(lora_rank=RANK))
    queries, keys = inputs(qformer)
    mask = torch.ones(2, KEYS, dtype=torch.bool)
    mask[1, 4:] = False
    together = qformer("touch", queries, keys, mask)
    assert together.shape == (2, QUERIES, qformer.hidden_size)
    torch.testing.assert_close(together[:1], qformer("touch", queries, keys[:1]))
    torch.testing.assert_close(together[1:], qformer("touch", queries, keys[1:, :4]))
    assert not torch.allclose(together[1:], qformer("touch", queries, keys[1:]), atol=1e-4)


def test_text_takes_part_and_its_padding_does_not(reading: QFormer) -> None:
    reading.add_lora("touch", MMQASpec(lora_rank=RANK))
    queries, keys = inputs(reading)
    text = reading.read(["red", "is it red or blue ?"])
    assert text.ids.dtype == torch.int64
    assert text.mask.dtype == torch.bool
    lengths = [len(reading.tokenizer(words)["input_ids"]) for words in ("red", "is it red or blue ?")]
    assert text.mask.sum(1).tolist() == lengths
    assert lengths[0] < lengths[1] == text.ids.shape[1]
    assert text.ids[0, : lengths[0]].tolist() == reading.tokenizer("red")["input_ids"]
    together = reading("touch", queries, keys, None, text)
    assert together.shape == (2, QUERIES, reading.hidden_size)
    for row in (0, 1):
        one = QFormerText(text.ids[row : row + 1, : lengths[row]], text.mask[row : row + 1, : lengths[row]])
        torch.testing.assert_close(together[row : row + 1], reading("touch", queries, keys[row : row + 1], None, one))
    silent = reading("touch", queries, keys)
    assert not torch.allclose(together, silent, atol=1e-3)
    expected = reading.model(
        input_ids=None, query_embeds=queries.expand(2, -1, -1), encoder_hidden_states=keys
    ).last_hidden_state
    torch.testing.assert_close(silent, expected)


def test_questions_are_chosen_by_row() -> None:
    text = QFormerText(torch.tensor([[1, 2], [3, 0]]), torch.tensor([[True, True], [True, False]]))
    chosen = text.rows(torch.tensor([1, 0, 1]))
    assert chosen.ids.tolist() == [[3, 0], [1, 2], [3, 0]]
    assert chosen.mask.tolist() == [[True, False], [True, True], [True, False]]


def test_a_question_as_long_as_the_positions_is_read_whole(reading: QFormer) -> None:
    most = int(reading.model.config.max_position_embeddings)
    framing = len(reading.tokenizer("")["input_ids"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert reading.read(["red " * (most - framing)]).ids.shape == (1, most)
    with pytest.warns(UserWarning, match=f"has {most + 1} tokens"):
        text = reading.read(["red", "red " * (most + 1 - framing)])
    assert text.mask.sum(1).tolist() == [1 + framing, most]
