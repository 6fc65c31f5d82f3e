"""VideoChat2 equals what the released code computes: positions, vision encoder, Q-Former, training, answers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from crema_videochat2.frames import benchmark_indices, demo_indices, prepare_frames, training_indices
from crema_videochat2.model import VideoChat2
from crema_videochat2.positions import position_table
from crema_videochat2.prompts import (
    IGNORED,
    Conversation,
    Turn,
    frames_message,
    question_text,
    tokenize_conversation,
    training_text,
)
from crema_videochat2.released import lora_name, our_name
from tests.support.videochat2 import assert_forward, assert_gradient, bert_tokenizer, golden

TURNS = {
    "train_video": (
        [Turn("what moves ?", "a red ball rolls away")],
        [Turn("what happens first ?", "the ball falls"), Turn("and then ?", "it stops")],
    ),
    "train_image": ([Turn("what color is it ?", "red")], [Turn("", "a small red ball")]),
}


def parameter(model: VideoChat2, released: str) -> nn.Parameter:
    """Return the parameter of a released name."""
    if ".lora_" in released:
        own = lora_name(released, unwrap=False).replace(".weight", ".videochat2.weight")
        return model.language_model.get_parameter(own)
    own = our_name(released) or ""
    return model.trunk.get_parameter(own)


@pytest.mark.parametrize("key", sorted(golden("positions").tensors))
def test_position_tables_of_any_size_are_the_released_ones(key: str) -> None:
    kind, frames, grid, width = key.split(".")
    side = int(grid)
    trained = side if kind == "time" else 14  # "time" tables were made for their own grid
    found = position_table(int(frames), (side, side), int(width), trained_side=trained)
    assert_forward(found[None], golden("positions").tensors[key])


def test_the_published_position_table_is_the_released_one() -> None:
    probe = golden("positions").about["full_size_probe"]
    table = position_table(16, (14, 14), 1024)
    framed = table.view(16, 196, 1024)
    for frame, patch, channel, value in probe["values"]:
        assert float(framed[frame, patch, channel]) == pytest.approx(value, abs=1e-6)
    assert float(table.double().sum()) == pytest.approx(probe["sum"], rel=1e-9)
    assert float(table.double().square().sum()) == pytest.approx(probe["sum_of_squares"], rel=1e-9)


@pytest.mark.parametrize("name", golden("layernorms").about["eps"])
def test_layer_norms_have_the_released_epsilon(whole: VideoChat2, name: str) -> None:
    module = whole.trunk.get_submodule((our_name(f"{name}.weight") or "").removesuffix(".weight"))
    data = golden("layernorms").tensors
    assert_forward(module(data[f"in.{name}"]), data[f"out.{name}"])


@pytest.mark.parametrize("frames", ["01", "04", "08", "16"])
def test_the_vision_encoder_is_the_released_one(whole: VideoChat2, frames: str) -> None:
    data, vision = golden(f"vit_{frames}").tensors, whole.trunk.vision_model
    pixels = data["frames"]
    patches = vision.embeddings.patches(pixels).flatten(1, 3)
    assert_forward(patches, data["patches"])
    hidden = vision.embeddings(pixels)
    assert_forward(hidden - patches, data["positions"])
    for number, layer in enumerate(vision.encoder.layers):
        hidden = layer(hidden)
        assert_forward(hidden, data[f"block.{number}"])
    assert_forward(vision.encode(pixels), data["encoder_out"].flatten(1, 2))
    assert_forward(whole.features(pixels), data["features"])


@pytest.mark.parametrize("name", ["qformer", "qformer_cut"])
@pytest.mark.parametrize("kind", ["text", "no_text"])
def test_the_qformer_is_the_released_one(whole: VideoChat2, name: str, kind: str) -> None:
    data, trunk = golden(name).tensors, whole.trunk
    ids, mask = (data["input_ids"], data["attention_mask"]) if kind == "text" else (None, None)
    states: list[Tensor] = []
    hooks = [trunk.qformer.embeddings.register_forward_hook(lambda *call: states.append(call[2]))]
    hooks += [
        layer.register_forward_hook(lambda *call: states.append(call[2])) for layer in trunk.qformer.encoder.layer
    ]
    projected = trunk.language_projection(trunk.read(data["features"], ids, mask))
    for hook in hooks:
        hook.remove()
    for number, state in enumerate(states):
        assert_forward(state, data[f"{kind}.hidden.{number}"])
    assert_forward(projected, data[f"{kind}.projected"])
    whole.zero_grad()
    (projected * data["probe"]).sum().backward()
    for key in ("query_tokens", "extra_query_tokens", "mistral_proj.weight", "mistral_proj.bias"):
        assert_gradient(parameter(whole, key).grad, data[f"{kind}.grad.{key}"])


@pytest.mark.parametrize("name", ["qformer", "qformer_cut"])
def test_instructions_are_padded_and_cut_on_the_left(whole: VideoChat2, name: str) -> None:
    file = golden(name)
    ids, mask = whole.read_instructions(file.about["instruction_texts"])
    assert torch.equal(ids, file.tensors["input_ids"])
    assert torch.equal(mask, file.tensors["attention_mask"])


def test_an_empty_instruction_is_its_two_special_tokens(whole: VideoChat2) -> None:
    ids, mask = whole.read_instructions([""])
    special = bert_tokenizer().convert_tokens_to_ids(["[CLS]", "[SEP]"])
    assert ids.tolist() == [special]
    assert mask.tolist() == [[1, 1]]


def conversations(name: str) -> list[Conversation]:
    """Return the conversations of a golden file as its ids are; what is learned of them as its labels say."""
    data = golden(name).tensors
    found, queries = [], data["visual"].shape[1]
    for row in range(len(data["visual"])):
        before, after = (tuple(data[f"{part}_ids.{row}"].tolist()) for part in ("before", "after"))
        begin = 1 + len(before) + queries
        labels = data["labels"][row, begin : begin + len(after)].tolist()
        found.append(Conversation(before, after, tuple(labels + [IGNORED] * (len(after) - len(labels)))))
    return found


@pytest.mark.parametrize("name", ["train_video", "train_cut", "train_image"])
def test_training_is_the_released_one(whole: VideoChat2, name: str) -> None:
    file = golden(name)
    data = file.tensors
    whole.zero_grad()
    output = whole(
        data["pixels"],
        conversations(name),
        data["instruction_ids"],
        data["instruction_mask"],
        max_prompt_tokens=file.about["max_prompt_length"],
    )
    assert_forward(output.visual, data["visual"])
    assert_forward(output.prompt.embeds, data["inputs_embeds"])
    assert torch.equal(output.prompt.mask, data["attention_mask"])
    assert torch.equal(output.prompt.labels, data["labels"])
    real = data["attention_mask"].bool()
    assert_forward(output.logits[real], data["logits"][real])
    assert_forward(output.loss[None], data["loss"])
    output.loss.backward()  # type: ignore[no-untyped-call]
    gradients = [key.removeprefix("grad.") for key in data if key.startswith("grad.")]
    assert len(gradients) == 11
    for key in gradients:
        assert_gradient(parameter(whole, key).grad, data[f"grad.{key}"])


@pytest.mark.parametrize("name", ["train_video", "train_cut", "train_image"])
def test_conversations_are_written_cut_and_labelled_as_released(whole: VideoChat2, name: str) -> None:
    about: dict[str, Any] = golden(name).about
    message = golden("frame_indices").about["message"]
    kind = "image" if name == "train_image" else "video"
    for row, (text, wanted) in enumerate(
        zip(about["conversations"], conversations("train_video" if name == "train_cut" else name), strict=True)
    ):
        said = frames_message(message["indices"], message["fps"]) if "contains" in text else ""
        turns = TURNS["train_image" if kind == "image" else "train_video"][row]
        written = training_text(turns, instruction=about["instructions"][row], kind=kind, message=said)
        assert written == text
        assert tokenize_conversation(whole.tokenizer, written) == wanted


def test_the_message_about_frames_is_the_released_one() -> None:
    message = golden("frame_indices").about["message"]
    assert frames_message(message["indices"], message["fps"]) == message["text"]


def test_answers_are_the_released_ones(whole: VideoChat2) -> None:
    file = golden("generate")
    data = file.tensors
    visual = whole.visual_tokens(data["pixels"], data["instruction_ids"])
    assert_forward(visual, data["visual"])
    system, asked = file.about["prompt"].split("[INST] <Video><VideoHere></Video> [/INST] [INST] ")
    question, start = asked.split(" [/INST] ")
    pieces = question_text(question, system=system, answer_start=start)
    before, after = whole.question_ids(*pieces)
    assert before == data["before_ids"].tolist()
    assert after == data["after_ids"].tolist()
    embeds = whole.question_prompt(visual[0], before, after)
    assert_forward(embeds, data["inputs_embeds"])
    assert_forward(whole.language_model(inputs_embeds=embeds).logits, data["logits"])
    answer = whole.generate(embeds, max_new_tokens=file.about["max_new_tokens"])
    assert list(answer.ids) == data["output_ids"].tolist()
    assert answer.text == file.about["output_text"]
    assert whole.answer(visual, *pieces, max_new_tokens=file.about["max_new_tokens"]) == answer.text


def test_frames_are_chosen_by_the_released_rules() -> None:
    rules = golden("frame_indices").about["rules"]
    assert [demo_indices(case["video_frames"], case["take"]) for case in rules["demo"]] == [
        case["indices"] for case in rules["demo"]
    ]
    assert [training_indices(case["video_frames"], case["take"]) for case in rules["train_middle"]] == [
        case["indices"] for case in rules["train_middle"]
    ]
    for case in rules["benchmark"]:
        found = benchmark_indices(
            case["take"],
            last=case["max_frame"],
            first=case["first_index"],
            fps=case["fps"],
            bound_s=case["bound_seconds"],
        )
        assert found == case["indices"]


@pytest.mark.parametrize("number", [0, 1])
def test_pictures_are_prepared_as_released(number: int) -> None:
    data = golden("pictures").tensors
    frames = data[f"frames.{number}"]
    assert_forward(prepare_frames(frames, side=24), data[f"video.{number}"])
    assert_forward(prepare_frames(frames[:1], side=24, kind="image")[0], data[f"image.{number}"])


def test_training_draws_a_frame_of_every_interval_but_never_its_last() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.tensor([training_indices(40, 4, generator=generator) for _ in range(200)])
    assert drawn.amin(0).tolist() == [0, 10, 20, 30]
    assert drawn.amax(0).tolist() == [8, 18, 28, 38]
    short = training_indices(5, 4, generator=generator)
    assert sorted(set(short)) == short
    assert training_indices(3, 5, generator=generator) == [0, 1, 2, 2, 2]
