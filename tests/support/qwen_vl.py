"""What transformers' own Qwen2-VL and Qwen2.5-VL make of the same clips and questions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2VLForConditionalGeneration
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from tests.support.video_language import QWEN_SIDE, VideoKind

CLASSES: dict[VideoKind, Any] = {
    "qwen2-vl": Qwen2VLForConditionalGeneration,
    "qwen2.5-vl": Qwen2_5_VLForConditionalGeneration,
}
FUSION = {"name": "pave", "newlines": "none", "embed_dim": 16, "num_heads": 2}


def clip(num_frames: int = 4, seed: int = 0) -> Tensor:
    """Return noise `(num_frames, 3, side, side)` uint8 of the size the models are built with."""
    shape = (num_frames, 3, QWEN_SIDE, QWEN_SIDE)
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def built(folder: Path, *modalities: Any, num_frames: int = 4, **settings: Any) -> CremaModel:
    """Build a model that looks at `num_frames` frames of a clip, and has more modalities."""
    video = {"name": "video", "num_frames": num_frames}
    return build([video, *modalities], backbone=folder, **{"fusion": FUSION, "image_size": QWEN_SIDE, **settings})


def their_clip(model: CremaModel, frames: Tensor) -> tuple[Tensor, list[int]]:
    """Return flat patches and grid of one clip, cut by the released processor."""
    vision = model.backbone.vision_model.config  # type: ignore[union-attr]
    pixels = model.branch("video").modality.context.normalize(frames.float() / 255)
    cut, *grid = Qwen2VLVideoProcessor().patchify(
        pixels[None], vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size
    )
    return cut[0], list(grid)


def their_inputs(
    model: CremaModel,
    clips: Sequence[Tensor | None],
    questions: Sequence[str],
    *,
    answer: Sequence[int] = (),
    step_seconds: Sequence[float] | None = None,
) -> dict[str, Tensor]:
    """Return what transformers' processor gives the model for these clips and questions, padded on the left.

    Args:
        model: ours, for its tokenizer and chat template.
        clips: one per question, None for a question alone.
        questions: texts.
        answer: ids behind every prompt.
        step_seconds: from step to step of every clip, for Qwen2.5-VL.
    """
    tokenizer = model.language.tokenizer
    pad = tokenizer.convert_tokens_to_ids("<|video_pad|>")
    rows, cut, grids = [], [], []
    for frames, question in zip(clips, questions, strict=True):
        content: list[dict[str, str]] = [{"type": "text", "text": question}]
        count = 0
        if frames is not None:
            values, grid = their_clip(model, frames)
            cut.append(values)
            grids.append(grid)
            content.insert(0, {"type": "video"})
            count = grid[0] * grid[1] * grid[2] // 4
        chat = [{"role": "user", "content": content}]
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(str(text).replace("<|video_pad|>", "<|video_pad|>" * count))["input_ids"]
        rows.append([*ids, *answer])
    longest = max(map(len, rows))
    ids_BS = torch.tensor([[tokenizer.pad_token_id] * (longest - len(row)) + row for row in rows])
    mask_BS = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    inputs = {"input_ids": ids_BS, "attention_mask": mask_BS, "mm_token_type_ids": 2 * (ids_BS == pad).int()}
    if cut:
        inputs |= {"pixel_values_videos": torch.cat(cut), "video_grid_thw": torch.tensor(grids)}
    axes = model.backbone.axes
    if step_seconds is not None and axes is not None and axes.per_second is not None:
        inputs["second_per_grid_ts"] = torch.tensor(list(step_seconds), dtype=torch.float64)
    return inputs
