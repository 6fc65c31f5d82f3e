"""Fixtures of this room; the benchmarks train on the generated world, so without it there is nothing to collect."""

from importlib.util import find_spec

from tests.support.world import clips, tiny_folder
from tests.train.conftest import one_thread, t5_folder

collect_ignore_glob = [] if find_spec("crema_world") else ["test_*.py"]

__all__ = ["clips", "one_thread", "t5_folder", "tiny_folder"]
