"""Small files that announce or unfold to gigabytes are refused, or read within the bound on one source."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("crema_audio")
pytest.importorskip("crema_3d")
pytest.importorskip("crema_geometry")
pytest.importorskip("crema_thermal")
from benchmarks.campaigns.bombs import UNFOLDING, measure

pytestmark = pytest.mark.slow
LITTLE, SOON_S = 100_000_000, 5.0
ANNOUNCING = """
png-60000 gif-65535 gif-16000 webp-16000 npz-claims npy-claims pfm-claims flo-claims ply-binary ply-text ply-nothing
ply-lists pcd-binary pcd-text pcd-compressed las-claims laz-claims wav-0hz wav-1hz wav-4ghz
""".split()
HONEST = ["wav-100hz", "flac-claims", "ogg-claims"]


def test_small_files_that_announce_gigabytes_are_refused_at_once(tmp_path: Path) -> None:
    found = list(measure(tmp_path, ANNOUNCING))
    assert [own.name for own in found] == ANNOUNCING
    assert [own for own in found if own.outcome != "refused"] == []
    assert [own for own in found if own.num_bytes > LITTLE or own.seconds > SOON_S] == []


def test_sounds_that_count_wrongly_take_little(tmp_path: Path) -> None:
    found = list(measure(tmp_path, HONEST))
    assert [own for own in found if own.is_wrong or own.num_bytes > LITTLE or own.seconds > SOON_S] == []


@pytest.mark.parametrize("name", UNFOLDING)
def test_small_files_that_unfold_to_gigabytes_stay_within_the_bound(tmp_path: Path, name: str) -> None:
    (found,) = measure(tmp_path, [name])
    assert not found.is_wrong, found
