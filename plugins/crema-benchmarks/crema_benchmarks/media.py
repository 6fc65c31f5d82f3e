"""Sources that several data sets have in common."""

from __future__ import annotations

from pathlib import Path

from crema_core.datasets.read import Place
from crema_core.datasets.spec import Media
from crema_core.errors import DatasetError


def seen_and_heard(path: str, **splits: str) -> tuple[Media, ...]:
    """Return the picture and the sound of the same files, as sources of two modalities.

    Args:
        path: as of `Media`.
        splits: another layout for a split.
    """
    return tuple(Media(modality=modality, path=path, splits=splits) for modality in ("video", "audio"))


def join_span(path: str, start_s: float | None, end_s: float | None = None) -> str:
    """Return a source for a part of a file.

    Example:
        >>> join_span("a.mp4", 1.5, 3)
        'a.mp4#t=1.5,3'
    """
    if start_s is None and end_s is None:
        return path
    return f"{path}#t={'' if start_s is None else f'{start_s:g}'}{'' if end_s is None else f',{end_s:g}'}"


def first(place: Place, stem: str, suffixes: tuple[str, ...]) -> str:
    """Return the first of `stem` + suffix that exists; the first of all when none does."""
    return next((stem + suffix for suffix in suffixes if (place.root / (stem + suffix)).exists()), stem + suffixes[0])


def frames_between(
    place: Place, folder: str, start_s: float | None, end_s: float | None, *, rate_hz: float
) -> list[str]:
    """Return the numbered pictures (`00001.jpg` is second 0) of a folder that fall into a part of its clip.

    The folder itself when it does not exist, so that it is reported as missing.
    """
    inside = place.root / folder
    names = sorted(path.name for path in inside.glob("*.jpg")) if inside.is_dir() else []
    low, high = (start_s or 0.0) * rate_hz, float("inf") if end_s is None else end_s * rate_hz
    kept = [name for name in names if low - 1 < int(Path(name).stem) - 1 <= high]
    return [f"{folder}/{name}" for name in kept] or [folder]


def frame_rate_hz(place: Place, path: str) -> float | None:
    """Return a clip's frames in a second, or None when it does not exist.

    Raises:
        DatasetError: when it cannot be read.
    """
    if not (place.root / path).is_file():
        return None
    import av

    try:
        with av.open(str(place.root / path), metadata_errors="replace") as container:
            rate = container.streams.video[0].average_rate
    except (av.error.FFmpegError, IndexError) as error:
        raise DatasetError(
            f"'{path}' cannot be read, so its frame numbers cannot be turned into seconds. It should be a clip. "
            "Download it again."
        ) from error
    return float(rate) if rate else None
