"""The state of a process that a sense must leave alone: random generators, environment, defaults, registries."""

from __future__ import annotations

import logging
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

UNCOMMON = 91_723_177


def snapshot() -> dict[str, str]:
    """Return what must stay as it is, by name, in comparable form."""
    root = logging.getLogger()
    return {
        "the random generator of torch": str(torch.get_rng_state().numpy().tobytes()),
        "the random generator of numpy": str(np.random.get_state()),  # noqa: NPY002 - the global one is meant
        "the random generator of python": str(random.getstate()),
        "torch's default dtype": str(torch.get_default_dtype()),
        "torch's gradient mode": str(torch.is_grad_enabled()),
        "torch's deterministic mode": str(torch.are_deterministic_algorithms_enabled()),
        "torch's number of threads": str(torch.get_num_threads()),
        "the environment variables": str(sorted(os.environ.items())),
        "the working directory": str(Path.cwd()),
        "the root logger": f"{root.level} {root.handlers}",
    }


@contextmanager
def fresh_generators() -> Iterator[None]:
    """Put the global generators into states nobody else sets, so that seeding them is seen; restored at the end."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002 - the global one is meant
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(UNCOMMON)
        np.random.seed(UNCOMMON)  # noqa: NPY002
        random.seed(UNCOMMON)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)


def registered_model_types() -> list[str]:
    """Return the model types somebody added to those transformers has; importing it only if it already was."""
    if "transformers" not in sys.modules:
        return []
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES  # type: ignore[attr-defined]

    return sorted(set(CONFIG_MAPPING.keys()) - set(CONFIG_MAPPING_NAMES))


def changes(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return the names of what changed."""
    return [name for name, value in before.items() if after[name] != value]
