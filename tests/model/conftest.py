"""Fixtures of this room."""

from tests.support.fixtures import encoders, languages, model, opt_folder, published, t5_folder, video_models

__all__ = ["encoders", "languages", "model", "opt_folder", "published", "t5_folder", "video_models"]
