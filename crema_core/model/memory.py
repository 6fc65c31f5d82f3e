"""What does not fit into memory is said together with what needs less."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
