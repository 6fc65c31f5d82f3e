"""A cloud far larger or smaller than the metres that become 1 is doubted."""

from __future__ import annotations

import numpy as np
import pytest

from crema_3d.modality import PointCloudModality
from crema_3d.plugin import SPEC
from crema_core.data.doubts import collect_doubts
from crema_core.modality import BuildContext

ROOM = np.random.default_rng(0).uniform(-2, 2, (500, 3))


def doubted(points: np.ndarray, **options: object) -> list[str]:
    with collect_doubts() as doubts:
        PointCloudModality(SPEC.parse_options(dict(options)), BuildContext()).prepare(points)
    return [own.text for own in doubts]


@pytest.mark.parametrize("points", [ROOM, ROOM + 30, ROOM * 9, ROOM / 9, ROOM[:1]])
def test_rooms_and_things_are_not_doubted(points: np.ndarray) -> None:
    assert doubted(points) == []


def test_a_survey_is_doubted_and_its_option_is_named() -> None:
    (text,) = doubted(ROOM * 80)
    assert text.startswith("The array is 3")
    assert text.endswith(
        "m wide. With extent_m=4 places are told apart in clouds of 0.04 to 40 m. Set extent_m=150 for a survey."
    )
    assert doubted(ROOM * 80, extent_m=150.0) == []


def test_a_scan_in_millimetres_is_doubted() -> None:
    (text,) = doubted(ROOM * 1000)
    assert text.endswith("or divide coordinates in millimetres by 1000.")
    assert doubted(ROOM * 1000 / 1000) == []


def test_a_thing_of_a_centimetre_is_doubted() -> None:
    (text,) = doubted(ROOM / 400)
    assert text.endswith("Set extent_m=0.0048, or bring coordinates in another unit to metres.")
    assert doubted(ROOM / 400, extent_m=0.0048) == []
