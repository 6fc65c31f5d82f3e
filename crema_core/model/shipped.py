"""The backbones shipped in the package: tiny ones, to see everything work without hub and GPU, and published shapes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from crema_core.errors import CheckpointError
from crema_core.model.backbone_family import NamedCheckpoint, NamedShape

WEIGHTS = Path(__file__).parents[1] / "weights"
SHAPES = Path(__file__).parent / "shapes"
VISUAL_SHAPES = Path(__file__).parent / "vlm" / "shapes"


def tiny_backbone_path(name: str = "crema-tiny") -> Path:
    """Return the folder of a checkpoint in the ordinary transformers format.

    Args:
        name: "crema-tiny", shaped as BLIP-2, "crema-tiny-video", as LLaVA-OneVision, or "crema-tiny-vlm", as Qwen3-VL.

    Raises:
        CheckpointError: when the installed package does not have the weights.
    """
    folder = WEIGHTS / name
    if not (folder / "model.safetensors").is_file():
        raise CheckpointError(
            f"The tiny backbone is not in {folder}. It needs config.json, model.safetensors and the tokenizer there. "
            "Install it again: pip install --force-reinstall --no-deps crema-core"
        )
    return folder


CREMA_TINY = NamedCheckpoint("crema-tiny", partial(tiny_backbone_path, "crema-tiny"))
CREMA_TINY_VIDEO = NamedCheckpoint("crema-tiny-video", partial(tiny_backbone_path, "crema-tiny-video"))
CREMA_TINY_VLM = NamedCheckpoint("crema-tiny-vlm", partial(tiny_backbone_path, "crema-tiny-vlm"))


def _salesforce(name: str) -> NamedShape:
    return NamedShape(name, SHAPES / f"{name}.json", f"Salesforce/{name}")


BLIP2_FLAN_T5_XL = _salesforce("blip2-flan-t5-xl")
BLIP2_FLAN_T5_XXL = _salesforce("blip2-flan-t5-xxl")
BLIP2_OPT_2_7B = _salesforce("blip2-opt-2.7b")
BLIP2_OPT_6_7B = _salesforce("blip2-opt-6.7b")
INSTRUCTBLIP_FLAN_T5_XL = _salesforce("instructblip-flan-t5-xl")
INSTRUCTBLIP_FLAN_T5_XXL = _salesforce("instructblip-flan-t5-xxl")
INSTRUCTBLIP_VICUNA_13B = _salesforce("instructblip-vicuna-13b")
INSTRUCTBLIP_VICUNA_7B = _salesforce("instructblip-vicuna-7b")


def _visual(name: str, weights: str) -> NamedShape:
    return NamedShape(name, VISUAL_SHAPES / f"{name}.json", weights)


# Sizes are those of the published config.json of these hub ids.
QWEN3_VL_4B = _visual("qwen3-vl-4b", "Qwen/Qwen3-VL-4B-Instruct")
QWEN3_VL_8B = _visual("qwen3-vl-8b", "Qwen/Qwen3-VL-8B-Instruct")
QWEN2_5_VL_3B = _visual("qwen2.5-vl-3b", "Qwen/Qwen2.5-VL-3B-Instruct")
QWEN2_5_VL_7B = _visual("qwen2.5-vl-7b", "Qwen/Qwen2.5-VL-7B-Instruct")
QWEN2_5_OMNI_7B = _visual("qwen2.5-omni-7b", "Qwen/Qwen2.5-Omni-7B")
QWEN3_5_9B = _visual("qwen3.5-9b", "Qwen/Qwen3.5-9B")
INTERNVL3_8B = _visual("internvl3-8b", "OpenGVLab/InternVL3-8B-hf")
GEMMA_3_4B = _visual("gemma-3-4b", "google/gemma-3-4b-it")
GEMMA_3_12B = _visual("gemma-3-12b", "google/gemma-3-12b-it")
SMOLVLM2_2_2B = _visual("smolvlm2-2.2b", "HuggingFaceTB/SmolVLM2-2.2B-Instruct")
LLAVA_ONEVISION_05B = _visual("llava-onevision-qwen2-0.5b", "llava-hf/llava-onevision-qwen2-0.5b-ov-hf")
LLAVA_ONEVISION_7B = _visual("llava-onevision-qwen2-7b", "llava-hf/llava-onevision-qwen2-7b-ov-hf")
GLM_4_1V_9B = _visual("glm-4.1v-9b", "zai-org/GLM-4.1V-9B-Thinking")
