"""Settings every test process needs before torch is imported, for core's tests and the plugins' alike."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

# Two test processes share two cores, and tiny models are slower on many threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
# No test may reach the hub: a test that would is wrong, and must fail at once instead of waiting for a network.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# On a machine with other work an import may take a minute; tests of the limit set their own.
os.environ.setdefault("CREMA_PLUGINS_IMPORT_LIMIT", "300")
# A shell starts what runs in its background with Ctrl-C ignored, which processes of tests would inherit.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# What a developer switched off in the shell must not change what the tests see.
for variable in ("CREMA_PLUGINS", "CREMA_PLUGINS_DISABLE", "CREMA_PLUGINS_STRICT"):
    os.environ.pop(variable, None)

# Every run tries the same examples, on any machine: a failure is the change's, not the day's.
settings.register_profile("fixed", derandomize=True, deadline=None, database=None)
settings.load_profile("fixed")


START_PROCESSES = (
    "import_prints_nothing",
    "class_import_changes_nothing",
    "prepare_works_in_a_fresh_process",
    "damaged_files_are_refused",
)
"""Checks of the conformance kit that start a process of their own for every package."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to `make test-slow` what the kit does in processes, before `-m` chooses."""
    for item in items:
        if item.name.partition("[")[2].rstrip("]") in START_PROCESSES:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def _torch_draws_the_same_numbers() -> None:
    """What a test draws must not depend on the tests that ran before it in the same process."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _registered_specs_are_forgotten() -> Iterator[None]:
    """A spec that one test registers must be unknown to the next."""
    from crema_core.plugins import registry

    with registry.temporary_registrations():
        yield


@pytest.fixture(autouse=True)
def _logging_is_left_on() -> Iterator[None]:
    """A test that leaves logging off would make later ones, which look for a notice, fail."""
    yield
    assert logging.root.manager.disable == 0
    own = [
        name
        for name, one in logging.Logger.manager.loggerDict.items()
        if name.startswith("crema_core") and isinstance(one, logging.Logger) and (one.disabled or one.level)
    ]
    assert own == []
