"""Damaged texts: whatever is read, nothing but an error of ours comes out."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.campaigns.texts import OBSTACLES, attack, mutants, outcome, readers
from crema_core.errors import DataFileError

FAST = 20
"""Mutants of each kind; the systematic ones are 19."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """No warning that repeats a mutant: a test process that is told of one cannot encode half a character."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def wrong(tmp_path: Path, *, count: int, seed: int) -> dict[str, bytes]:
    examples: dict[str, bytes] = {}
    for number, reader in enumerate(readers()):
        place = tmp_path / f"{seed}-{number}"
        place.mkdir()
        found = attack(reader, place, count=count, seed=seed, examples=examples)
        assert found.read + found.refused + found.wrong.total() == count + len(OBSTACLES)
    return examples


@pytest.mark.slow
def test_damaged_texts_are_read_or_refused(tmp_path: Path) -> None:
    assert wrong(tmp_path, count=FAST, seed=1) == {}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
def test_many_damaged_texts_are_read_or_refused(tmp_path: Path, seed: int) -> None:
    assert wrong(tmp_path, count=200, seed=seed) == {}


def test_every_reader_reads_what_is_whole_or_refuses_what_lies_beside_it(tmp_path: Path) -> None:
    """Else the mutants would all be refused for a reason of the campaign's own."""
    found = {}
    for number, reader in enumerate(readers()):
        path = tmp_path / str(number) / reader.file
        path.parent.mkdir(parents=True)
        (path.parent / "complete").touch()
        if "features" in reader.file:
            (path.parents[2] / "crema-cache.json").write_text('{"format": 1}')
        path.write_text(reader.text)
        found[reader.name] = outcome(reader.read, path)
    refused = {name for name, own in found.items() if own != "read"}
    # Weights, and all media, are not there.
    assert refused == {"data file", "pairs", "crema.json", "state.json"}


def test_what_is_wrong_is_counted(tmp_path: Path) -> None:
    def read(path: Path) -> object:
        raise {b"a": ValueError, b"b": DataFileError, b"c": MemoryError}[path.read_bytes()]("x")

    found = []
    for content in (b"a", b"b", b"c"):
        (tmp_path / "file").write_bytes(content)
        found.append(outcome(read, tmp_path / "file"))
    assert found == ["ValueError", "refused", "MemoryError"]


def test_mutants_are_the_same_for_a_seed() -> None:
    import random

    def some(seed: int) -> list[bytes]:
        return list(mutants('{"a": 1, "b": [1, 2]}', 60, random.Random(seed), is_yaml=False))

    assert some(1) == some(1)
    assert some(1) != some(2)
