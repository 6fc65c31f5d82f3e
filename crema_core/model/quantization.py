"""The frozen language model in 8 or 4 bits, by the libraries transformers knows; adapters stay in float32.

Gradients go through the quantised layers to their inputs, as through any frozen layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Literal, get_args

import torch

from crema_core.errors import MissingRequirementError, OptionsError, did_you_mean

Quantization = Literal["8bit", "4bit"]
_WHOLE = [
    *("vision_model", "qformer", "query_tokens", "language_projection", "lm_head"),  # BLIP-2 and InstructBLIP
    *("vision_tower", "video_tower", "image_tower", "multi_modal_projector", "visual"),  # video language models
]


def quantization_config(kind: str, *, dtype: torch.dtype, whole: Sequence[str] = ()) -> Any:
    """Return transformers' configuration of a quantised language model.

    Args:
        kind: "8bit" or "4bit".
        dtype: number format the products are computed in.
        whole: paths of more modules whose weights stay as they are.

    Raises:
        OptionsError: for another kind.
        MissingRequirementError: where neither bitsandbytes nor torchao is installed.
    """
    check_quantization(kind)
    kept = [*_WHOLE, *whole]
    return _bitsandbytes(kind, dtype, kept) if find_spec("bitsandbytes") is not None else _torchao(kind, kept)


def check_quantization(kind: str | None) -> None:
    """Refuse an unknown kind, and one that no installed library computes with.

    Args:
        kind: "8bit", "4bit", or None for weights as they are.

    Raises:
        OptionsError: for another kind.
        MissingRequirementError: where neither bitsandbytes nor torchao is installed.
    """
    if kind is None:
        return
    if kind not in get_args(Quantization):
        raise OptionsError(
            f"quantization='{kind}' is not known. Accepted: {', '.join(get_args(Quantization))}."
            f"{did_you_mean(kind, get_args(Quantization))} Use quantization='8bit', or leave it out."
        )
    if find_spec("bitsandbytes") is None and find_spec("torchao") is None:
        raise MissingRequirementError(
            f"quantization='{kind}' needs a library that computes with quantised weights, and neither bitsandbytes nor "
            "torchao is installed. Install one: pip install bitsandbytes (NVIDIA and AMD GPUs) or pip install torchao."
        )


def _bitsandbytes(kind: str, dtype: torch.dtype, kept: Sequence[str]) -> Any:
    from transformers import BitsAndBytesConfig

    if kind == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=list(kept))
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=list(kept),
    )


def _torchao(kind: str, kept: Sequence[str]) -> Any:
    from torchao.quantization import Int4WeightOnlyConfig, Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    own = Int8WeightOnlyConfig() if kind == "8bit" else Int4WeightOnlyConfig()
    return TorchAoConfig(own, modules_to_not_convert=list(kept))
