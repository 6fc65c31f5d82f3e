"""Short versions of campaigns against processes and folders; the long ones are run by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.campaigns import damage, signals, soak
from benchmarks.campaigns.soak import Sampled, judge, slope_mb_per_hour


@pytest.mark.slow
def test_verbs_stop_when_they_are_told_to(tmp_path: Path) -> None:
    moments = ["an update", "an evaluation", "a batch"]
    _, counts = signals.campaign(tmp_path, only=["fit", "eval"], plans=["TERM", "INT INT"], moments=moments, seed=0)
    assert counts == {"right": 6}


@pytest.mark.slow
def test_damaged_folders_give_an_equal_result_or_an_error_of_ours(tmp_path: Path) -> None:
    found = damage.campaign(tmp_path, count=3, seed=0)
    assert list(found) == ["run", "model", "adapter", "features", "answers"]
    assert {name: counts["wrong"] for name, counts in found.items()} == dict.fromkeys(found, 0)


@pytest.mark.slow
def test_answering_and_evaluating_leaves_nothing_behind(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    samples, done = soak.soak(tmp_path, minutes=1 / 3, seed=0)
    torch.set_num_threads(threads)
    assert done >= 18
    assert {name for name, own in judge(samples).items() if own.grew} <= {"memory_mb"}  # 20 s are mostly warm-up


def test_what_grows_is_found_and_what_jumps_once_is_not() -> None:
    flat = [Sampled(second, 100.0 + second % 3, 9, 2) for second in range(100)]
    assert not any(own.grew for own in judge(flat).values())
    jumps = [own._replace(memory_mb=500.0) if own.second == 95 else own for own in flat]
    assert not any(own.grew for own in judge(jumps).values())
    leaks = [own._replace(memory_mb=100.0 + own.second, descriptors=9 + int(own.second) // 10) for own in flat]
    assert {name for name, own in judge(leaks).items() if own.grew} == {"memory_mb", "descriptors"}
    assert slope_mb_per_hour(leaks) == pytest.approx(3600)


def test_messages_of_one_part_are_no_messages() -> None:
    assert damage.in_three_parts("'x' cannot be read: it is empty. It must be JSON. Copy it again.")
    assert not damage.in_three_parts("x is damaged.")
