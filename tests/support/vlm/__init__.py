"""Vision-language models as the hub has them, with few narrow layers and random weights.

`save_vlm(folder, kind)` writes a checkpoint in the format its family is published in: `config.json`,
`generation_config.json`, `model.safetensors`, `processor_config.json` of the family's own processor class, the
tokenizer and `chat_template.jinja`. Vocabularies are the bytes and the family's special tokens, weights are drawn wide,
so that a wrong position, mask or token shows in the logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForImageTextToText, AutoModelForMultimodalLM, PreTrainedModel
from transformers.video_utils import VideoMetadata

from tests.support.vlm import gemma, grids, idefics, llama, llava, qformer, qwen, tiles
from tests.support.vlm.kinds import Ids, Kind, byte_tokenizer

_FAMILIES = (qwen, grids, llava, tiles, gemma, idefics, llama, qformer)
VLMS: Mapping[str, Kind] = MappingProxyType({kind.name: kind for family in _FAMILIES for kind in family.FAMILY})
KINDS: tuple[str, ...] = tuple(sorted(VLMS))
STD = 0.25
"""Of matrices of the language models; wider ones get less, so that activations keep their scale."""

CLOSED = ("attn_gate", "mlp_gate", "gate_attn", "gate_ffn", "gamma", "layer_scale")
"""In names of weights that new models start with at zero or near it: gates and scales of layers."""


def save_vlm(folder: Path, kind: str, *, seed: int = 0) -> Path:
    """Write a random checkpoint of a kind of vision-language model; returns the folder.

    Args:
        folder: Made where it does not exist.
        kind: A model type of `KINDS`.
        seed: Of the weights: the same seed gives the same files.
    """
    vlm = VLMS[kind]
    ids = Ids(byte_tokenizer(vlm.words))
    config, processor = vlm.build(ids)
    processor.chat_template = vlm.chat
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = auto_class(kind).from_config(config, dtype=torch.float32)
    draw(model, seed=seed)
    model.generation_config.update(**ids.ends)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def save_whole_omni(folder: Path, thinker: str, *, seed: int = 0) -> Path:
    """Write a Qwen-Omni checkpoint as published, configuration and weights of all its parts; returns the folder.

    The thinker is that of `save_vlm`, with the prefix of the published files. Of what speaks there are a few tensors,
    some with names that the thinker has too.

    Args:
        folder: Made where it does not exist.
        thinker: Model type of the part that reads and writes, such as "qwen2_5_omni_thinker".
        seed: Of the thinker's weights.
    """
    save_vlm(folder, thinker, seed=seed)
    config = AutoConfig.from_pretrained(folder)
    AutoConfig.for_model(thinker.removesuffix("_thinker"), thinker_config=config.to_dict()).save_pretrained(folder)
    weights = {f"thinker.{name}": own for name, own in load_file(folder / "model.safetensors").items()}
    like = next(name for name in weights if name.endswith("layers.1.self_attn.q_proj.weight"))
    experts = [name for name in weights if ".experts." in name]
    for part in ("talker", "token2wav", "code2wav"):
        for name in (like, *experts):
            weights[name.replace("thinker", part, 1)] = torch.full_like(weights[name], 7.0)
        weights[f"{part}.codec_head.weight"] = torch.ones(4, 4)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def auto_class(kind: str) -> Any:
    """Return the class of transformers that loads a kind."""
    return AutoModelForImageTextToText if VLMS[kind].image_text_to_text else AutoModelForMultimodalLM


def draw(model: PreTrainedModel, *, seed: int) -> None:
    """Draw every weight anew: matrices with a spread of 0.25, norms and biases 0.2 around what they are."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            vector = parameter.numel() == max(parameter.shape, default=1)
            if vector and any(word in name for word in CLOSED):  # nothing would pass
                parameter.copy_(0.5 + 0.2 * noise)
            elif vector:
                parameter.add_(0.2 * noise)
            else:
                fan_in = parameter[0].numel()
                convolution = parameter.dim() >= 4
                parameter.copy_(noise * (2 / fan_in**0.5 if convolution else min(STD, 1.5 / fan_in**0.5)))


def picture(height: int = 40, width: int = 56, *, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a random picture [height, width, 3] of coloured squares, which no pooling makes grey."""
    return clip(1, height, width, seed=seed)[0]


def clip(
    num_frames: int = 4, height: int = 40, width: int = 56, *, seed: int = 0
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a random clip [frames, height, width, 3] of coloured squares of 8 pixels."""
    rows, columns = -(-height // 8), -(-width // 8)
    colours = np.random.default_rng(seed).integers(0, 256, (num_frames, rows, columns, 3), dtype=np.uint8)
    return colours.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]


def clip_metadata(num_frames: int = 4, height: int = 40, width: int = 56, *, fps: float = 2.0) -> VideoMetadata:
    """Return what a processor must know of a clip whose frames are all there."""
    return VideoMetadata(
        total_num_frames=num_frames,
        fps=fps,
        width=width,
        height=height,
        duration=num_frames / fps,
        frames_indices=list(range(num_frames)),
    )


def sound(duration_s: float = 2.0, *, sample_rate_hz: int = 16000, seed: int = 0) -> np.ndarray[Any, Any]:
    """Return a random waveform [samples] of three tones and some noise, float32."""
    drawn = np.random.default_rng(seed)
    times_s = np.arange(round(duration_s * sample_rate_hz)) / sample_rate_hz
    tones = sum(np.sin(2 * np.pi * frequency * times_s) for frequency in drawn.uniform(100, 7000, 3))
    return (0.2 * tones + 0.01 * drawn.standard_normal(len(times_s))).astype(np.float32)


def prompt(processor: Any, kind: str, medium: str | None, *, question: str = "What is it?") -> str:
    """Return what a user of a kind asks about a medium ("image", "video", "audio" or None), by its chat template."""
    vlm = VLMS[kind]
    if vlm.chat is None:
        return {"image": vlm.image, "video": vlm.video, "audio": vlm.audio, None: ""}[medium] + question
    content = [{"type": "text", "text": question}]
    if medium is not None:
        content.insert(0, {"type": medium})
    turn = {"role": "user", "content": content}
    speaker = processor.tokenizer if vlm.tokenizer_has_chat else processor
    return str(speaker.apply_chat_template([turn], add_generation_prompt=True, tokenize=False))


def inputs(
    processor: Any,
    kind: str,
    medium: str | None,
    *,
    question: str = "What is it?",
    seed: int = 0,
    num_frames: int = 4,
    height: int = 40,
    width: int = 56,
    fps: float = 2.0,
) -> dict[str, Any]:
    """Return the model's inputs for a question about a random picture, clip, waveform or nothing, a batch of one.

    Floats come in float32 as the weights, whatever the processor makes (Llama 4's bfloat16).
    """
    given: dict[str, Any] = {"text": [prompt(processor, kind, medium, question=question)]}
    frames = clip(num_frames, height, width, seed=seed)
    if medium == "image":
        given["images"] = [Image.fromarray(picture(height, width, seed=seed))]
    elif medium == "video" and VLMS[kind].clips_as_images:
        given["images"] = [frames]
    elif medium == "video":
        metadata = [clip_metadata(num_frames, height, width, fps=fps)]
        given |= {"videos": [frames], "video_metadata": metadata, "do_sample_frames": False}
        given |= VLMS[kind].video_options
        if "videos_kwargs" in given:  # of processors that do not look at the metadata
            given["videos_kwargs"] = {**given["videos_kwargs"], "fps": fps}
    elif medium == "audio":
        given["audio"] = [sound(seed=seed)]
    made = processor(**given, return_tensors="pt", padding=True)
    return {
        name: value.float() if torch.is_tensor(value) and value.is_floating_point() else value
        for name, value in made.items()
        if name != "labels"
    }


def media(kind: str) -> tuple[str, ...]:
    """Return what the processor of a kind takes, of "image", "video" and "audio"."""
    vlm = VLMS[kind]
    taken = {"image": vlm.pictures, "video": vlm.takes_video, "audio": vlm.takes_audio}
    return tuple(medium for medium, takes in taken.items() if takes)
