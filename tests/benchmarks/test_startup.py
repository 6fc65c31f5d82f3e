"""Where the benchmark of start-up puts what importing takes."""

from __future__ import annotations

import pytest

from benchmarks.startup import OWN, import_seconds, shares

LOG = """import time: self [us] | cumulative | imported package
import time:       200 |        200 |     torch._C
import time:      1000 |       1200 |   torch
import time:       300 |        300 |     crema_core.errors
import time:       500 |        800 |   crema_core
crema: warning: import time is not meant
import time:        50 |         50 | crema_video.frames
"""


def test_every_module_counts_for_its_package_without_those_it_imports() -> None:
    assert import_seconds(LOG) == pytest.approx({"torch": 1200e-6, OWN: 850e-6})


def test_the_parts_of_a_command_are_the_whole() -> None:
    rows = shares(["-c", "import crema_core.errors, json, time; time.sleep(0.3)"], 1)
    seconds = {row["part"]: row["seconds"] for row in rows}
    assert 0.25 <= seconds["after imports: loading, reading, answering"] < 60.0
    assert 0.0 <= seconds[OWN] < 60.0
