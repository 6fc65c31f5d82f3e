"""A converted VideoChat2 checkpoint: how it is written from released files, and how it is read.

```
videochat2/
  config.json            sizes, and where the language model is (hub id, folder, or `language_model` inside this one)
  model.safetensors      vision encoder, Q-Former, queries, projection
  language_lora/         the LoRA of stage 3 in peft's format; absent after stage 2, or where it was merged
  qformer_tokenizer/     bert-base-uncased with the token [DEC]
  language_model/        Mistral with the LoRA merged into it, only with `merge_lora`
```
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from crema_core.common.atomic import fresh_folder
from crema_core.common.tensors import copy_state, mismatches, read_tensors
from crema_core.errors import CheckpointError, OptionsError, first_line
from crema_core.model.checkpoint import find_file, read_json, read_model, read_tokenizer
from crema_core.model.revisions import revision_of
from crema_core.model.tuning import add_lora
from crema_videochat2.configuration import VideoChat2Config
from crema_videochat2.model import VideoChat2Trunk
from crema_videochat2.released import ReleasedWeights

LORA_FOLDER, LANGUAGE_FOLDER, TOKENIZER_FOLDER = "language_lora", "language_model", "qformer_tokenizer"
LORA_NAME = "videochat2"
"""Name of the checkpoint's own LoRA inside the language model; peft uses it as a key of modules."""
MISTRAL = "mistralai/Mistral-7B-Instruct-v0.2"
BERT = "google-bert/bert-base-uncased"
DECODER_TOKEN = "[DEC]"
_PEFT_PREFIX = "base_model.model."
# What transformers raises of a config.json that is none.
_UNREADABLE = (
    OSError,
    ValueError,
    RuntimeError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    StrictDataclassError,
)


class Parts(NamedTuple):
    """What was read."""

    trunk: VideoChat2Trunk  # float32
    language_model: PreTrainedModel  # with the LoRA in place
    tokenizer: PreTrainedTokenizerBase  # of the language model
    instruction_tokenizer: PreTrainedTokenizerBase | None  # of the Q-Former; None where instructions come as ids


class Sizes(NamedTuple):
    """What released weights do not say of themselves; the released numbers."""

    vision_heads: int = 16
    qformer_heads: int = 12
    image_size: int = 224  # in pixels
    trained_image_size: int = 224  # of which the position table was made
    lora_alpha: float | None = None  # None: twice the rank
    num_frames: int = 16
    max_instruction_tokens: int = 512


def config_of(
    weights: ReleasedWeights,
    language: Any,
    sizes: Sizes = Sizes(),  # noqa: B008 (immutable)
    **more: Any,
) -> VideoChat2Config:
    """Return the configuration that released weights belong to.

    Args:
        weights: from `crema_videochat2.released.convert_state`.
        language: configuration of the language model.
        sizes: what the weights do not say.
        **more: fields of `VideoChat2Config`.

    Raises:
        CheckpointError: when parts are missing that the sizes are read from.
    """
    state = weights.trunk
    needed = (
        "vision_model.embeddings.projection.weight",
        "vision_model.encoder.layers.0.mlp.fc1.weight",
        "qformer.embeddings.word_embeddings.weight",
        "qformer.embeddings.position_embeddings.weight",
        "qformer.encoder.layer.0.intermediate_query.dense.weight",
        "query_tokens",
        "extra_query_tokens",
        "language_projection.weight",
    )
    if missing := [key for key in needed if key not in state]:
        raise CheckpointError(
            f"The released file lacks parts of VideoChat2: {', '.join(missing)} (our names). Accepted: a complete "
            "stage-3 file, or stage 2 with stage 1. A stage-1 file alone is none: it has no extra queries and no "
            "projection."
        )
    width, _, _, patch, _ = state[needed[0]].shape
    crossing = sorted(
        int(found[1])
        for key in state
        if (found := re.match(r"qformer\.encoder\.layer\.(\d+)\.crossatt.*query\.bias", key))
    )
    return VideoChat2Config(
        vision_config={
            "hidden_size": width,
            "intermediate_size": state[needed[1]].shape[0],
            "num_hidden_layers": _count(state, r"vision_model\.encoder\.layers\.(\d+)\."),
            "num_attention_heads": sizes.vision_heads,
            "image_size": sizes.image_size,
            "patch_size": patch,
            "trained_side": sizes.trained_image_size // patch,
        },
        qformer_config={
            "vocab_size": state[needed[2]].shape[0],
            "hidden_size": state[needed[2]].shape[1],
            "num_hidden_layers": _count(state, r"qformer\.encoder\.layer\.(\d+)\."),
            "num_attention_heads": sizes.qformer_heads,
            "intermediate_size": state[needed[4]].shape[0],
            "max_position_embeddings": state[needed[3]].shape[0],
            "cross_attention_frequency": crossing[1] - crossing[0] if len(crossing) > 1 else 2,
        },
        text_config=language,
        num_query_tokens=state["query_tokens"].shape[1],
        num_extra_query_tokens=state["extra_query_tokens"].shape[1],
        num_frames=sizes.num_frames,
        max_instruction_tokens=min(sizes.max_instruction_tokens, state[needed[3]].shape[0]),
        **{"has_lora": bool(weights.lora), **more},
    )


def trunk_of(weights: ReleasedWeights, config: VideoChat2Config) -> VideoChat2Trunk:
    """Return the trunk with released weights in it, float32.

    Raises:
        CheckpointError: listing every missing and wrongly shaped tensor.
    """
    trunk = VideoChat2Trunk(config)
    parameters = dict(trunk.named_parameters())
    if lines := mismatches(parameters, weights.trunk):
        raise CheckpointError(
            f"The released file does not fit VideoChat2 of these sizes, {len(lines)} tensors differ (our names):\n  "
            + "\n  ".join(lines[:20])
            + "\nAccepted: a complete file of the Mistral version. Check that it is of one stage and the language "
            "model the one it was trained with. Nothing was written."
        )
    if not bool(weights.trunk["extra_query_tokens"].any()):
        warnings.warn(
            "The extra queries of this file are all zero, so it is from before the second stage: the first LayerNorm "
            "multiplies their gradients by a million, and rules on the size of gradients (early exit) mean nothing. "
            "Use a trained file.",
            stacklevel=2,
        )
    copy_state(parameters, weights.trunk)
    trunk.train(False)
    return trunk


def attach_lora(model: PreTrainedModel, lora: Mapping[str, Tensor], *, alpha: float | None = None) -> None:
    """Put a checkpoint's LoRA into its language model, frozen and without dropout.

    Args:
        model: changed in place.
        lora: keyed `<layer>.lora_A.weight` `(rank, in)` and `<layer>.lora_B.weight` `(out, rank)`.
        alpha: its scale is alpha / rank; None: twice the rank, as released.

    Raises:
        CheckpointError: when a layer does not exist or has other sizes, or a matrix has no partner.
    """
    layers = sorted({key.rpartition(".lora_")[0] for key in lora})
    known = dict(model.named_modules())
    ranks = {int(value.shape[0]) for key, value in lora.items() if ".lora_A." in key}
    absent = [layer for layer in layers if layer not in known]
    if absent or len(ranks) != 1:
        problem = (
            f"{len(absent)} of its {len(layers)} layers are not in the language model, first: {absent[0]}"
            if absent
            else f"it has the ranks {sorted(ranks)}, and one rank was expected"
        )
        raise CheckpointError(
            f"The LoRA of this VideoChat2 checkpoint does not fit its language model: {problem}. Accepted: the Mistral "
            f"it was trained with. Name it: --language-model {MISTRAL}. Nothing was dropped."
        )
    (rank,) = ranks
    add_lora(model, LORA_NAME, targets=layers, rank=rank, alpha=2 * rank if alpha is None else alpha, dropout=0.0)
    own = {
        key.replace(f".{LORA_NAME}.", "."): parameter
        for key, parameter in model.named_parameters()
        if f".{LORA_NAME}." in key
    }
    copy_state(own, lora)


def merge_lora(model: PreTrainedModel) -> None:
    """Add the checkpoint's LoRA to the weights it sits on and take it out; roundings of the weights' format remain."""
    from peft.tuners.lora import LoraLayer

    for path, layer in list(model.named_modules()):
        if isinstance(layer, LoraLayer):
            layer.merge(adapter_names=[LORA_NAME])
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, layer.get_base_layer())
    model.__dict__.pop("peft_config", None)
    cast(Any, model)._hf_peft_config_loaded = False


def instruction_tokenizer(place: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """Return bert-base-uncased as VideoChat2's Q-Former reads it: with the token [DEC], padding on the left.

    Raises:
        CheckpointError: when there is none at `place`.
    """
    tokenizer = read_tokenizer(place, revision)
    if DECODER_TOKEN not in tokenizer.get_vocab():
        tokenizer.add_special_tokens({"bos_token": DECODER_TOKEN})
    tokenizer.padding_side = tokenizer.truncation_side = "left"
    return tokenizer


def write_checkpoint(
    out: Path,
    weights: ReleasedWeights,
    *,
    language_model: str = MISTRAL,
    language_revision: str | None = None,
    qformer_tokenizer: str = BERT,
    sizes: Sizes = Sizes(),  # noqa: B008 (immutable)
    lora: Literal["frozen", "merged"] = "frozen",
    **more: Any,
) -> VideoChat2Config:
    """Write a folder that `backbone=` and `VideoChat2.from_pretrained` read.

    Args:
        out: folder, new.
        weights: from `crema_videochat2.released.convert_state`.
        language_model: hub id or folder of the Mistral the checkpoint was trained with; a folder is recorded whole.
        language_revision: hub revision of it.
        qformer_tokenizer: hub id or folder of bert-base-uncased.
        sizes: what the weights do not say.
        lora: "merged" writes the language model too, the LoRA added to its weights.
        **more: fields of `VideoChat2Config`.

    Returns:
        The configuration that was written.

    Raises:
        CheckpointError: when weights, language model and tokenizer do not go together; nothing is left behind.
        OptionsError: when a LoRA is to be merged that is not there.
    """
    if lora == "merged" and not weights.lora:
        raise OptionsError(
            "The LoRA was to be merged, and the file has none (stage 2 has none). Accepted: a stage-3 file. Leave "
            "--merge out."
        )
    # The commit is written down, so that the folder means the same language model when the branch moves.
    commit = revision_of(language_model, language_revision)
    language = _language_config(language_model, commit)
    local = str(Path(language_model).resolve()) if Path(language_model).exists() else language_model
    place = LANGUAGE_FOLDER if lora == "merged" else local
    revision = None if lora == "merged" else commit
    more |= {"language_model": place, "language_revision": revision}
    if lora == "merged":
        more["has_lora"] = False
    config = config_of(weights, language, sizes, **more)
    trunk = trunk_of(weights, config)
    reader = instruction_tokenizer(qformer_tokenizer)
    rows = cast(Any, config).qformer_config.vocab_size
    if len(reader) > rows:
        raise CheckpointError(
            f"The tokenizer '{qformer_tokenizer}' has {len(reader)} tokens, the Q-Former embeds {rows}. Accepted: "
            f"bert-base-uncased with {DECODER_TOKEN}. Name it: --qformer-tokenizer {BERT}. Nothing was written."
        )
    with fresh_folder(out) as folder:
        trunk.save_pretrained(folder)
        reader.save_pretrained(folder / TOKENIZER_FOLDER)
        if lora == "merged":
            model, tokenizer = _language_model(language_model, commit, language, torch.float32)
            attach_lora(model, weights.lora, alpha=sizes.lora_alpha)
            merge_lora(model)
            model.save_pretrained(folder / LANGUAGE_FOLDER)
            tokenizer.save_pretrained(folder / LANGUAGE_FOLDER)
        elif weights.lora:
            _write_lora(folder / LORA_FOLDER, weights.lora, language_model=place, alpha=sizes.lora_alpha)
    return config


def _write_lora(folder: Path, lora: Mapping[str, Tensor], *, language_model: str, alpha: float | None) -> None:
    rank = next(int(value.shape[0]) for key, value in lora.items() if ".lora_A." in key)
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": language_model,
        "r": rank,
        "lora_alpha": 2 * rank if alpha is None else alpha,
        "lora_dropout": 0.1,
        "bias": "none",
        "target_modules": sorted({key.rpartition(".lora_")[0] for key in lora}),
    }
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    state = {_PEFT_PREFIX + key: value.contiguous() for key, value in lora.items()}
    save_file(state, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def parts_of(
    weights: ReleasedWeights,
    language_model: str,
    *,
    sizes: Sizes = Sizes(),  # noqa: B008 (immutable)
    qformer_tokenizer: str | None = None,
    merged: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Parts:
    """Put released weights and their language model together, without a folder; see `write_checkpoint`.

    Args:
        weights: from `crema_videochat2.released.convert_state`.
        language_model: hub id or folder.
        sizes: what the weights do not say.
        qformer_tokenizer: hub id or folder; None: instructions come as ids.
        merged: add the LoRA to the language model's weights.
        dtype: of the language model.

    Raises:
        CheckpointError: when parts are absent or do not fit each other.
    """
    commit = revision_of(language_model, None)
    language = _language_config(language_model, commit)
    trunk = trunk_of(weights, config_of(weights, language, sizes))
    model, tokenizer = _language_model(language_model, commit, language, dtype)
    if weights.lora:
        attach_lora(model, weights.lora, alpha=sizes.lora_alpha)
        if merged:
            merge_lora(model)
    model.train(False)
    reader = None if qformer_tokenizer is None else instruction_tokenizer(qformer_tokenizer)
    return Parts(trunk, model, tokenizer, reader)


def read_parts(
    place: str,
    revision: str | None,
    *,
    dtype: torch.dtype,
    config: VideoChat2Config | None = None,
    quantized: Any = None,
) -> Parts:
    """Read a converted checkpoint.

    Args:
        place: folder or hub id.
        revision: on the hub.
        dtype: of the language model; the trunk is float32, because LayerNorms with epsilon 1e-12 need it.
        config: of the checkpoint; None: it is read.
        quantized: settings of transformers for a quantised language model, or None.

    Raises:
        CheckpointError: when files are absent, damaged or do not fit each other.
    """
    if config is None:
        config = _own_config(place, revision)
    trunk = cast(VideoChat2Trunk, read_model(VideoChat2Trunk, place, revision, dtype=torch.float32, config=config))
    inside = find_file(place, f"{LANGUAGE_FOLDER}/config.json", revision=revision)
    own = config.language_model == LANGUAGE_FOLDER and inside is not None
    language, where = (
        (str(inside.parent), None) if own and inside else (config.language_model, config.language_revision)
    )
    model, tokenizer = _language_model(language, where, cast(Any, config).text_config, dtype, quantized)
    if config.has_lora:
        lora, alpha = _read_lora(place, revision)
        attach_lora(model, lora, alpha=alpha)
    reader = read_tokenizer(place, revision, subfolder=TOKENIZER_FOLDER)
    trunk.train(False)
    model.train(False)
    return Parts(trunk, model, tokenizer, reader)


def _read_lora(place: str, revision: str | None) -> tuple[dict[str, Tensor], float]:
    settings = read_json(place, f"{LORA_FOLDER}/adapter_config.json", revision=revision)
    file = find_file(place, f"{LORA_FOLDER}/adapter_model.safetensors", revision=revision)
    if settings is None or file is None:
        raise CheckpointError(
            f"'{place}' lacks the LoRA of its language model (folder {LORA_FOLDER}), without which its queries are "
            "strange to the language model. Accepted: a complete folder. Convert it again: crema convert-videochat2."
        )
    state = {key.removeprefix(_PEFT_PREFIX): value for key, value in read_tensors(file).items()}
    alpha = settings.get("lora_alpha")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha < float("inf"):
        raise CheckpointError(
            f"The adapter_config.json of '{place}/{LORA_FOLDER}' states lora_alpha={str(alpha)[:40]!r}. Needed is a "
            "number above 0. Convert the folder again: crema convert-videochat2."
        )
    return state, float(alpha)


def _language_config(place: str, revision: str | None) -> Any:
    try:
        return AutoConfig.from_pretrained(place, revision=revision_of(place, revision), trust_remote_code=False)
    except _UNREADABLE as error:
        raise CheckpointError(
            f"No language model was found at '{place}': {first_line(error)}. Accepted: a hub id such as {MISTRAL}, or "
            "a folder with config.json and weights. Check the name, or download it and name its folder."
        ) from error


def _own_config(place: str, revision: str | None) -> VideoChat2Config:
    try:
        return VideoChat2Config.from_pretrained(place, revision=revision_of(place, revision) or "main")
    except _UNREADABLE as error:
        raise CheckpointError(
            f"No converted VideoChat2 was found at '{place}': {first_line(error)}. Accepted: a hub id, or a folder "
            "that crema convert-videochat2 wrote. Check the name, or convert it again."
        ) from error


def _language_model(
    place: str, revision: str | None, config: Any, dtype: torch.dtype, quantized: Any = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    tokenizer = read_tokenizer(place, revision)
    model = read_model(AutoModelForCausalLM, place, revision, dtype=dtype, config=config, quantized=quantized)
    return model, tokenizer


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    found = [int(match[1]) for key in state if (match := re.match(pattern, key))]
    return max(found) + 1
