"""Fixtures of this package's tests."""

from tests.support.fixtures import t5_folder, video_models
from tests.support.world import clips, tiny_folder
from tests.train.conftest import distributed, new_model, one_thread

__all__ = ["clips", "new_model", "one_thread", "distributed", "t5_folder", "tiny_folder", "video_models"]
