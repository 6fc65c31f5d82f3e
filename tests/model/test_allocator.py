"""Memory that is freed serves again: counted in page faults and resident memory, each in a process of its own."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is set up")

MEGABYTES = 200
SCRIPT = f"""
import json, resource
from pathlib import Path
from crema_core.model.allocator import retain_freed_memory

def hold_and_free():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = [bytearray(b"1") * 2**20 for _ in range({MEGABYTES})]
    del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20

start = resident()
with retain_freed_memory():
    faults = [hold_and_free() for _ in range(4)][-1]
    with retain_freed_memory():
        hold_and_free()
    inside = resident() - start
    again = hold_and_free()
print(json.dumps([faults, inside, again, resident() - start]))
"""
PAGES = MEGABYTES * 2**20 // 4096


def measured(**environment: str) -> list[float]:
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(found.stdout)


def test_freed_memory_serves_again_and_is_given_back_at_the_end() -> None:
    faults, inside, again, after = measured()
    assert faults < PAGES / 100
    assert inside > MEGABYTES * 0.9
    assert again < PAGES / 100  # leaving an inner use gives nothing back
    assert after < MEGABYTES * 0.2


@pytest.mark.slow
def test_an_allocator_that_the_environment_sets_up_is_left_alone() -> None:
    faults, inside, _, _ = measured(MALLOC_TRIM_THRESHOLD_="131072", MALLOC_MMAP_THRESHOLD_="131072")
    assert faults > PAGES / 2
    assert inside < MEGABYTES * 0.2
