"""The one place to import the readers from."""

from __future__ import annotations

import pickle
from functools import partial

from crema_core.data import media


def test_every_name_it_promises_is_there() -> None:
    assert [name for name in media.__all__ if not hasattr(media, name)] == []


def test_readers_travel_to_workers() -> None:
    readers = {".npz": partial(media.read_array, key="field"), ".png": media.read_raw_image}
    assert pickle.loads(pickle.dumps(readers))[".png"] is media.read_raw_image
