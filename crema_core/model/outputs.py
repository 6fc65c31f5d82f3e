"""Further numbers about every sample that a strategy declares, for answers and reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from crema_core.tokens import SenseTokens

if TYPE_CHECKING:
    from crema_core.model.network import CremaNetwork

Outputs = Mapping[str, Mapping[str, float]]
"""Of one sample: by name of an output, such as "encoder_weights", numbers by name."""


def extra_outputs(model: CremaNetwork, tokens: Mapping[str, SenseTokens], num_samples: int) -> list[Outputs]:
    """Return what the connectors say of every sample beside its tokens; most say nothing.

    Args:
        model: whose tokens these are.
        tokens: of the senses of a batch.
        num_samples: of the batch.
    """
    found: list[dict[str, Mapping[str, float]]] = [{} for _ in range(num_samples)]
    for name, own in tokens.items():
        for output, values in model.sense(name).adapter.outputs(own).items():
            for row, numbers in zip(own.rows.tolist(), values, strict=True):
                found[row][output] = numbers
    return list(found)
