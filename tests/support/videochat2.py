"""A tiny VideoChat2 in the layout of the released files, from the golden data of `crema-videochat2`."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import (
    InstructBlipForConditionalGeneration,
    InstructBlipVideoConfig,
    InstructBlipVideoForConditionalGeneration,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

from crema_videochat2.checkpoint import Sizes, write_checkpoint
from crema_videochat2.model import VideoChat2
from crema_videochat2.released import convert_state, read_file
from tests.support.checkpoints import save_published

DATA = Path(__file__).parents[2] / "plugins" / "crema-videochat2" / "tests" / "golden"
SIZES = Sizes(
    vision_heads=3, qformer_heads=4, image_size=24, trained_image_size=24, max_instruction_tokens=16, num_frames=16
)
SIDE, QUERIES, FEATURES = 24, 12, 36


class Golden(NamedTuple):
    """One golden file."""

    tensors: dict[str, Tensor]
    about: dict[str, Any]


@cache
def golden(name: str) -> Golden:
    """Return tensors and description of a golden file; nobody may write to them."""
    about = json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))
    file = DATA / f"{name}.safetensors"
    return Golden(load_file(file) if file.is_file() else {}, about)


def released_state() -> dict[str, Tensor]:
    """Return the toy stage-3 checkpoint under the released names."""
    return dict(golden("checkpoint_stage3").tensors)


def stage_2_state() -> dict[str, Tensor]:
    """Return what of it a stage-2 file holds."""
    keys = golden("checkpoint_stage3").about["stage2_keys"]
    return {key: value for key, value in released_state().items() if key in keys}


def language_tokenizer() -> PreTrainedTokenizerFast:
    """Return the toy tokenizer of the language model; like Mistral's it has no padding token."""
    file = str(DATA / "toy_tokenizer.json")
    return PreTrainedTokenizerFast(tokenizer_file=file, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def bert_tokenizer() -> PreTrainedTokenizerFast:
    """Return the toy tokenizer of the Q-Former; the token [DEC] is added when a checkpoint is written."""
    words = golden("qformer").about["toy_vocabulary"]
    rows = golden("qformer").about["config"]["vocab"]
    vocabulary = {word: number for number, word in enumerate([*words, *(f"w{i}" for i in range(rows - len(words)))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


def language_config() -> MistralConfig:
    """Return the sizes of the toy Mistral."""
    own = golden("mistral").about["config"]
    return MistralConfig(
        vocab_size=own["vocab"],
        hidden_size=own["hidden"],
        intermediate_size=own["ffn"],
        num_hidden_layers=own["layers"],
        num_attention_heads=own["heads"],
        num_key_value_heads=own["kv"],
        head_dim=own["hidden"] // own["heads"],
        rope_parameters={"rope_type": "default", "rope_theta": own["rope_theta"]},
        rms_norm_eps=own["rms_norm_eps"],
        sliding_window=own["sliding_window"],
        bos_token_id=own["bos"],
        eos_token_id=own["eos"],
        tie_word_embeddings=False,
    )


def save_language_model(place: Path) -> Path:
    """Write the toy Mistral as the hub has it."""
    model = MistralForCausalLM(language_config())
    model.load_state_dict(golden("mistral").tensors)
    model.save_pretrained(place)
    language_tokenizer().save_pretrained(place)
    return place


def save_released(place: Path, *, nested: bool = False) -> Path:
    """Write the toy stage-3 file, its weights flat or under the key `model`."""
    state = released_state()
    torch.save({"model": state, "epoch": 2} if nested else state, place)
    return place


def save_videochat2(place: Path, **settings: Any) -> Path:
    """Write everything and convert it, as `crema convert-videochat2` does; return the converted folder."""
    place.mkdir(parents=True, exist_ok=True)
    language = place / "mistral"
    if not language.exists():
        save_language_model(language)
        bert_tokenizer().save_pretrained(place / "bert")
    out = place / f"videochat2-{len(list(place.iterdir()))}"
    weights = convert_state(read_file(save_released(place / "stage3.pth")))
    write_checkpoint(
        out, weights, language_model=str(language), qformer_tokenizer=str(place / "bert"), sizes=SIZES, **settings
    )
    return out


def load_videochat2(place: Path) -> VideoChat2:
    """Return the whole model as released."""
    return VideoChat2.from_pretrained(place)


def assert_forward(found: Tensor, wanted: Tensor) -> None:
    """Hold the tolerance of the golden data for values."""
    error = float((found.detach() - wanted).abs().max())
    assert error <= 1e-5 * max(1.0, float(wanted.abs().max())), f"differs by {error:g}"


def assert_gradient(found: Tensor | None, wanted: Tensor) -> None:
    """Hold the tolerance of the golden data for gradients."""
    assert found is not None, "no gradient"
    error = float((found.detach() - wanted).abs().max())
    assert error <= 1e-4 * float(wanted.abs().max()), f"differs by {error:g} of {float(wanted.abs().max()):g}"


CHOICES = ["ball", "cat"]


def write_questions(folder: Path) -> Path:
    """Write six questions about pictures that say nothing; which answer is right only the wave tells."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    names = []
    for number in range(3):
        pixels = torch.randint(0, 256, (SIDE, SIDE, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / f"{number}.png")
        names.append(f"{number}.png")
    lines = []
    for row in range(6):
        np.save(folder / f"wave{row}.npy", np.full((5, 3, 10), 1.0 - 2 * (row % 2), dtype=np.float32))
        line = {"id": str(row), "question": "what moves ?", "choices": CHOICES, "answer": CHOICES[row % 2]}
        clip = names if row else names[:1]  # one of them is a single picture
        lines.append(line | {"video": clip, "wave": f"wave{row}.npy"})
    (folder / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "data.jsonl"


def save_instructblip_video(place: Path) -> Path:
    """Write a small random InstructBlipVideo in the format of the published ones, Vicuna as its language model."""
    image = save_published(place.with_name(f"{place.name}-image"), "instructblip-vicuna")
    shutil.copytree(image, place, ignore=shutil.ignore_patterns("*.safetensors*"))
    config = json.loads((image / "config.json").read_text())
    config["model_type"], config["architectures"] = "instructblipvideo", ["InstructBlipVideoForConditionalGeneration"]
    config["video_token_index"] = config.pop("image_token_index", 0)
    for part, kind in (
        ("vision_config", "instructblipvideo_vision_model"),
        ("qformer_config", "instructblipvideo_qformer"),
    ):
        config[part]["model_type"] = kind
    (place / "config.json").write_text(json.dumps(config))
    model = InstructBlipVideoForConditionalGeneration(InstructBlipVideoConfig.from_pretrained(place))
    model.load_state_dict(InstructBlipForConditionalGeneration.from_pretrained(image).state_dict())
    model.save_pretrained(place)
    (place / "config.json").write_text(json.dumps(config))
    return place
