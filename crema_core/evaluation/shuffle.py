"""Giving every sample another sample's source of one sense: does the model really use that sense?

Whole sources are exchanged, not samples: all questions about a clip get the same other clip's file, and no question
ever keeps its own.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from crema_core.data.manifest import Record, Source
from crema_core.data.order import derive_seed
from crema_core.errors import OptionsError


def shuffle_sense(records: Sequence[Record], name: str, *, seed: int = 0) -> list[Record]:
    """Return the records with the sources of one sense exchanged.

    Args:
        records: samples; those without the sense stay as they are.
        name: the sense.
        seed: of the exchange.

    Raises:
        OptionsError: when there are not at least two different sources to exchange.
    """
    sources: dict[tuple[str, ...], Source] = {
        record.paths(name): record.sources[name] for record in records if name in record.sources
    }
    keys = list(sources)
    if len(keys) < 2:
        raise OptionsError(
            f"shuffle='{name}' cannot be done: the data have {len(keys)} different sources of it. Exchanging needs at "
            "least two. Use more data, or leave shuffle out."
        )
    random.Random(derive_seed("shuffle", seed, name)).shuffle(keys)
    # One cycle through all sources in random order: nobody keeps its own.
    other = dict(zip(keys, [*keys[1:], keys[0]], strict=True))
    return [
        replace(record, sources=record.sources | {name: sources[other[record.paths(name)]]})
        if name in record.sources
        else record
        for record in records
    ]
