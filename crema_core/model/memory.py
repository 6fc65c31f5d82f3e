"""What does not fit into memory is said together with what needs less.

A GPU's allocator raises an error. On a CPU the system grants more than there is and ends the process without a word
when it is used, so what grows with the square of a prompt's length is estimated before it is computed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from crema_core.common.tensors import is_out_of_memory
from crema_core.errors import OutOfMemoryError, first_line

NEEDS_LESS = "Give a smaller batch_size (--batch-size; eval_batch_size in training), or load the model quantized."


@contextmanager
def explain_out_of_memory(what: str, advice: str) -> Iterator[None]:
    """Turn an allocator's error into one that states what helps.

    Args:
        what: what is computed, the start of a sentence.
        advice: a sentence or more on what needs less memory.

    Raises:
        OutOfMemoryError: when the device, or the machine, has no memory left. It keeps the allocator's own words, so
            that `accelerate.utils.find_executable_batch_size` knows it.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, OutOfMemoryError) or not is_out_of_memory(error):
            raise
        # The allocator's first two sentences; how memory is shared out among what follows is in the cause.
        reason = ". ".join(first_line(error).split(". ")[:2])
        raise OutOfMemoryError(
            f"{what} does not fit into memory ({reason}). It is computed at once. {advice}"
        ) from error


LONG_PROMPT = 4096
"""Tokens from which on the memory of a prompt is estimated."""
_COPIES = 4
"""Relative positions, scores, their sum and its softmax are in memory at once."""


def require_room(embeds_BSL: Tensor, config: Any) -> None:
    """Refuse a prompt whose attention cannot fit into the machine's memory.

    Args:
        embeds_BSL: `(B, S, L)`, the language model's input.
        config: of the language model.

    Raises:
        OutOfMemoryError: naming the length of the prompt and what is free.
    """
    batch, length, _ = embeds_BSL.shape
    if length < LONG_PROMPT or embeds_BSL.device.type != "cpu":
        return
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    heads = int(getattr(text, "num_attention_heads", None) or getattr(text, "num_heads", None) or 1)
    # Models with relative positions (T5) add them to all scores; others leave the scores to a kernel that keeps few.
    whole = bool(getattr(config, "is_encoder_decoder", False)) or getattr(text, "_attn_implementation", "") == "eager"
    needed = batch * length * length * embeds_BSL.element_size() * (heads * _COPIES if whole else 1)
    free = free_bytes()
    if needed > free:
        several = f" with a batch of {batch} questions" if batch > 1 else ""
        raise OutOfMemoryError(
            f"A prompt of {length:,} tokens{several} does not fit into memory: its attention needs about "
            f"{needed / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are free. A prompt is a question, its choices and the "
            "tokens of its modalities. Shorten the question, give a smaller batch_size, or build the model with "
            "template={'max_question_tokens': 2048}, which cuts longer questions at their end."
        )


def free_bytes() -> int:
    """Return the memory that a process of this machine, or of its container, can still get."""
    limits = [_of_container("", "max", "current", "file")]
    limits.append(_of_container("memory/", "limit_in_bytes", "usage_in_bytes", "cache"))
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        facts = dict(line.split(":", 1) for line in lines if ":" in line)
        limits.append(int(facts["MemAvailable"].split()[0]) * 1024)
    except (OSError, KeyError, ValueError):  # not Linux: what is built in is the most there can be
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None)
    known = [own for own in limits if own is not None]
    return min(known) if known else 2**63


def _of_container(folder: str, limit: str, used: str, files: str) -> int | None:
    """Return what is left of a container's memory, kept contents of files given back; None without a limit."""
    place = f"/sys/fs/cgroup/{folder}memory"
    try:
        most, now = (int(Path(f"{place}.{name}").read_text(encoding="ascii")) for name in (limit, used))
        facts = dict(line.split() for line in Path(f"{place}.stat").read_text(encoding="ascii").splitlines())
        return most - now + int(facts[files])
    except (OSError, ValueError, KeyError):  # no such file, or "max"
        return None
