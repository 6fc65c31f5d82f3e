"""Released files to a backbone's folder: every key has a place, is known to be unused, or is refused."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import MistralForCausalLM

from crema_core.cli.main import main
from crema_core.errors import CheckpointError, OptionsError
from crema_core.model.revisions import pinned, recording
from crema_videochat2.checkpoint import attach_lora, config_of, trunk_of, write_checkpoint
from crema_videochat2.model import VideoChat2
from crema_videochat2.released import convert_state, read_file
from tests.support.hub import COMMIT, advance, downloaded, hub
from tests.support.videochat2 import (
    SIZES,
    bert_tokenizer,
    golden,
    language_config,
    load_videochat2,
    released_state,
    save_language_model,
    save_released,
    stage_2_state,
)

__all__ = ["hub"]

OPTIONS = (
    "--vision-heads 3 --qformer-heads 4 --image-size 24 --trained-image-size 24 --max-instruction-tokens 16".split()
)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The language model and the Q-Former's tokenizer."""
    place = tmp_path_factory.mktemp("places")
    save_language_model(place / "mistral")
    bert_tokenizer().save_pretrained(place / "bert")
    return str(place / "mistral"), str(place / "bert")


def stage_1_state() -> dict[str, Tensor]:
    """Return a stage-1 file: all of stage 3 but what came later, and what only stage 1 uses."""
    later = ("extra_query_tokens", "mistral_")
    state = {key: value for key, value in released_state().items() if not key.startswith(later)}
    state["query_tokens"] = state["query_tokens"] + 1  # stage 2 trained it further
    unused = {"vision_temp_embed": (1, 4, 1, 36), "temp": (), "vision_proj.weight": (8, 48), "text_proj.bias": (8,)}
    unused |= {"itm_head.weight": (2, 48), "qformer.cls.predictions.bias": (71,)}
    return state | {key: torch.zeros(shape) for key, shape in unused.items()}


def convert(places: tuple[str, str], file: Path, out: Path, *more: str) -> int:
    own = ["--language-model", places[0], "--qformer-tokenizer", places[1], *OPTIONS]
    return main(["convert-videochat2", str(file), "--out", str(out), *own, *more])


def answer(model: VideoChat2) -> tuple[int, ...]:
    data = golden("generate").tensors
    visual = model.visual_tokens(data["pixels"], data["instruction_ids"])
    embeds = model.question_prompt(visual[0], data["before_ids"].tolist(), data["after_ids"].tolist())
    return model.generate(embeds, max_new_tokens=10).ids


@pytest.mark.parametrize("nested", [False, True])
def test_the_verb_converts_a_flat_and_a_nested_file(
    places: tuple[str, str], tmp_path: Path, nested: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    file = save_released(tmp_path / "stage3.pth", nested=nested)
    assert convert(places, file, tmp_path / "out") == 0
    assert capsys.readouterr().out == (
        "159 tensors before the language model and 30 of its LoRA converted, 1 left aside that no stage after the "
        f"first uses\nbackbone: {tmp_path / 'out'}\n"
    )
    assert list(answer(load_videochat2(tmp_path / "out"))) == golden("generate").tensors["output_ids"].tolist()


def test_a_merged_lora_answers_the_same_without_one(places: tuple[str, str], tmp_path: Path) -> None:
    file = save_released(tmp_path / "stage3.pth")
    assert convert(places, file, tmp_path / "out", "--merge") == 0
    model = load_videochat2(tmp_path / "out")
    assert not [name for name, _ in model.named_parameters() if ".lora_" in name]
    assert list(answer(model)) == golden("generate").tensors["output_ids"].tolist()


def test_stage_2_takes_its_text_parts_from_stage_1(places: tuple[str, str], tmp_path: Path) -> None:
    torch.save(stage_2_state(), tmp_path / "stage2.pth")
    torch.save(stage_1_state(), tmp_path / "stage1.pth")
    assert convert(places, tmp_path / "stage2.pth", tmp_path / "out", "--stage-1", str(tmp_path / "stage1.pth")) == 0
    model = load_videochat2(tmp_path / "out")
    assert not model.config.has_lora
    data = golden("qformer").tensors
    read = model.trunk.read(data["features"], data["input_ids"], data["attention_mask"])
    assert torch.allclose(model.trunk.language_projection(read), data["text.projected"], atol=1e-5)


def test_stage_2_alone_and_stage_3_with_stage_1_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"no text parts.*Add --stage-1 umt_l16_qformer.pth"):
        convert_state(stage_2_state())
    with pytest.raises(CheckpointError, match=r"is of stage 3 and suffices.*Leave --stage-1 out"):
        convert_state(released_state(), stage_1=stage_1_state())


def test_no_key_is_dropped_unseen() -> None:
    state = released_state()
    kept = convert_state(state)
    assert len(kept.trunk) + len(kept.lora) + len(kept.aside) == len(state)
    with pytest.raises(CheckpointError, match=r"1 keys of the file have no place.*local_crops.*not dropped"):
        convert_state(state | {"local_crops.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"have no place.*position_ids"):
        convert_state(state | {"qformer.bert.embeddings.position_ids": torch.ones(1, 24, dtype=torch.int64)})


def test_stage_1_alone_is_refused() -> None:
    weights = convert_state(stage_1_state())
    with pytest.raises(CheckpointError, match="lacks parts of VideoChat2: extra_query_tokens, language_projection"):
        config_of(weights, language_config(), SIZES)


def test_a_missing_and_a_wrong_tensor_are_named() -> None:
    state = released_state()
    del state["vision_encoder.encoder.blocks.1.attn.v_bias"]
    state["vision_layernorm.bias"] = torch.zeros(35)
    weights = convert_state(state)
    with pytest.raises(CheckpointError) as caught:
        trunk_of(weights, config_of(weights, language_config(), SIZES))
    text = str(caught.value)
    assert "missing: vision_model.encoder.layers.1.attn.v_bias" in text
    assert "shape: vision_model.post_layernorm.bias is (35,), the model's is (36,)" in text
    assert "Nothing was written." in text


def wrapped_twice() -> dict[str, Tensor]:
    once, twice = "mistral_model.base_model.model.", "mistral_model.base_model.model.base_model.model."
    return {key.replace(once, twice) if ".lora_" in key else key: value for key, value in released_state().items()}


@pytest.mark.slow
def test_lora_names_wrapped_twice_are_refused_with_what_works(
    places: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(wrapped_twice(), tmp_path / "stage3.pth")
    assert convert(places, tmp_path / "stage3.pth", tmp_path / "out") != 0
    assert "was wrapped 2 times" in (said := capsys.readouterr().err)
    assert "Add --unwrap-lora" in said
    assert not (tmp_path / "out").exists()
    assert convert(places, tmp_path / "stage3.pth", tmp_path / "out", "--unwrap-lora") == 0
    assert list(answer(load_videochat2(tmp_path / "out"))) == golden("generate").tensors["output_ids"].tolist()


def test_a_lora_that_does_not_fit_is_refused() -> None:
    lora = convert_state(released_state()).lora
    model = MistralForCausalLM(language_config())
    other = {key.replace("layers.1.", "layers.7."): value for key, value in lora.items()}
    with pytest.raises(CheckpointError, match=r"7 of its 15 layers are not in the language model.*Nothing was dropped"):
        attach_lora(model, other)
    without = {key: value for key, value in lora.items() if key != "lm_head.lora_B.weight"}
    with pytest.raises(CheckpointError, match=r"lm_head.lora_B.weight"):
        attach_lora(MistralForCausalLM(language_config()), without)


def test_a_lora_without_the_output_layer_is_accepted() -> None:
    lora = {key: value for key, value in convert_state(released_state()).lora.items() if not key.startswith("lm_head")}
    model = MistralForCausalLM(language_config())
    attach_lora(model, lora)
    assert sum(".lora_" in name for name, _ in model.named_parameters()) == 2 * 2 * 7


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft's wrapper asks
def test_the_lora_s_folder_is_peft_s_own_format(places: tuple[str, str], tmp_path: Path) -> None:
    write_checkpoint(
        tmp_path / "out",
        convert_state(released_state()),
        language_model=places[0],
        qformer_tokenizer=places[1],
        sizes=SIZES,
    )
    base = MistralForCausalLM.from_pretrained(places[0])
    theirs = PeftModel.from_pretrained(base, tmp_path / "out" / "language_lora").eval()
    data = golden("train_video").tensors
    logits = theirs(inputs_embeds=data["inputs_embeds"], attention_mask=data["attention_mask"]).logits
    real = data["attention_mask"].bool()
    assert torch.allclose(logits[real], data["logits"][real], atol=1e-5)


class _Configuration:
    """What a raw training file may hold beside the weights."""


def test_files_are_read_without_executing_code(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot be read.*without executing code.*Download it again"):
        read_file(tmp_path / "absent.pth")
    torch.save({"model": released_state(), "config": _Configuration()}, tmp_path / "raw.pth")
    with pytest.raises(CheckpointError) as caught:
        read_file(tmp_path / "raw.pth")
    assert "torch.save(torch.load(FILE, weights_only=False)['model'], NEW)" in str(caught.value)
    torch.save(torch.load(tmp_path / "raw.pth", weights_only=False)["model"], tmp_path / "new.pth")  # what it says
    assert read_file(tmp_path / "new.pth").keys() == released_state().keys()
    torch.save({"model": 3}, tmp_path / "no.pth")
    with pytest.raises(CheckpointError, match="holds no weights"):
        read_file(tmp_path / "no.pth")
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"model": _Bomb()}, protocol=2))
    with pytest.raises(CheckpointError):
        read_file(tmp_path / "evil.pth")


class _Bomb:
    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('code of a file was run')",)


def test_nothing_is_left_behind_and_nothing_overwritten(
    places: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = released_state()
    del state["query_tokens"]
    torch.save(state, tmp_path / "stage3.pth")
    assert convert(places, tmp_path / "stage3.pth", tmp_path / "out") != 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stage3.pth"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear")
    save_released(tmp_path / "stage3.pth")
    assert convert(places, tmp_path / "stage3.pth", tmp_path / "mine") != 0
    assert "mine" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["diary.txt"]


def test_merging_needs_a_lora(places: tuple[str, str], tmp_path: Path) -> None:
    weights = convert_state(stage_2_state(), stage_1=stage_1_state())
    with pytest.raises(OptionsError, match=r"stage 2 has none.*Leave --merge out"):
        write_checkpoint(
            tmp_path / "out", weights, language_model=places[0], qformer_tokenizer=places[1], lora="merged"
        )


def test_a_folder_without_its_lora_is_refused(places: tuple[str, str], tmp_path: Path) -> None:
    assert convert(places, save_released(tmp_path / "stage3.pth"), tmp_path / "out") == 0
    (tmp_path / "out" / "language_lora" / "adapter_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"lacks the LoRA.*Convert it again"):
        load_videochat2(tmp_path / "out")


@pytest.mark.parametrize("merged", [False, True])
def test_released_weights_become_a_model_without_a_folder(places: tuple[str, str], merged: bool) -> None:
    model = VideoChat2.from_released(
        released_state(), places[0], qformer_tokenizer=places[1], sizes=SIZES, merge_lora=merged
    )
    assert any(".lora_" in name for name, _ in model.named_parameters()) != merged
    assert list(answer(model)) == golden("generate").tensors["output_ids"].tolist()
    texts = golden("qformer").about["instruction_texts"]
    assert torch.equal(model.read_instructions(texts)[0], golden("qformer").tensors["input_ids"])


def test_untrained_extra_queries_are_said() -> None:
    weights = convert_state(released_state() | {"extra_query_tokens": torch.zeros(1, 7, 48)})
    with pytest.warns(UserWarning, match="extra queries of this file are all zero"):
        trunk_of(weights, config_of(weights, language_config(), SIZES))


def test_the_commit_of_the_language_model_is_written_down_and_read_again(
    places: tuple[str, str], hub: Path, tmp_path: Path
) -> None:
    save_language_model(tmp_path / "language")
    downloaded(hub, "some/mistral", tmp_path / "language", revision="main")
    weights = convert_state(released_state())
    with recording() as found:
        config = write_checkpoint(
            tmp_path / "out", weights, language_model="some/mistral", qformer_tokenizer=places[1], sizes=SIZES
        )
    assert (config.language_model, config.language_revision) == ("some/mistral", COMMIT)
    assert found["some/mistral"] == {"main": COMMIT}
    later = advance(hub, "some/mistral")
    later.unlink()
    later.mkdir()
    (later / "config.json").write_text("{}")
    assert load_videochat2(tmp_path / "out").language_model.config.model_type == "mistral"
    with pytest.raises(CheckpointError, match=r"^No language model was found at 'some/mistral': "):
        write_checkpoint(
            tmp_path / "new", weights, language_model="some/mistral", qformer_tokenizer=places[1], sizes=SIZES
        )


def test_a_converted_folder_on_the_hub_is_read_from_the_recorded_commit(
    places: tuple[str, str], hub: Path, tmp_path: Path
) -> None:
    write_checkpoint(
        tmp_path / "out",
        convert_state(released_state()),
        language_model=places[0],
        qformer_tokenizer=places[1],
        sizes=SIZES,
    )
    downloaded(hub, "some/videochat2", tmp_path / "out", revision="main")
    with recording() as found:
        VideoChat2.from_pretrained("some/videochat2")
    assert found["some/videochat2"] == {"main": COMMIT}
    later = advance(hub, "some/videochat2")
    later.unlink()
    later.mkdir()
    (later / "config.json").write_text("[]")
    with pinned(found):
        VideoChat2.from_pretrained("some/videochat2")
    with pytest.raises(CheckpointError, match=r"^No converted VideoChat2 was found at 'some/videochat2': "):
        VideoChat2.from_pretrained("some/videochat2")
