"""Sources that several data sets have in common."""

from __future__ import annotations

from crema_core.datasets.spec import Media


def seen_and_heard(path: str, **splits: str) -> tuple[Media, ...]:
    """Return the picture and the sound of the same files, as sources of two modalities.

    Args:
        path: as of `Media`.
        splits: another layout for a split.
    """
    return tuple(Media(modality=modality, path=path, splits=splits) for modality in ("video", "audio"))
