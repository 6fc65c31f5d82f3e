"""Whether torch, torchvision and torchaudio belong together: releases and builds (`+cpu`, `+cu130`) must match."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from packaging.version import InvalidVersion, Version

VISION_AHEAD = 15
"""torchvision 0.N+15 belongs to torch 2.N (0.15 came with 2.0)."""


def torch_builds(versions: Mapping[str, str]) -> Iterator[str]:
    """Yield what does not match.

    Args:
        versions: distribution -> version, as installed.

    Example:
        >>> list(torch_builds({"torch": "2.11.0", "torchvision": "0.26.0", "torchaudio": "2.11.0"}))
        []
    """
    try:
        torch = Version(versions["torch"])
        beside = {name: Version(versions[name]) for name in ("torchvision", "torchaudio") if name in versions}
    except (KeyError, InvalidVersion):
        return
    due = {"torchaudio": torch.release[:2], "torchvision": (0, torch.release[1] + VISION_AHEAD)}
    for name, version in beside.items():
        series = ".".join(map(str, due[name]))
        if version.release[:2] != due[name]:
            yield (
                f"{name} {version} does not belong to torch {torch}. Its extensions need the torch they were built "
                f"for: {name} {series}. Run: pip install '{name}=={series}.*'"
            )
        elif version.local != torch.local:
            yield (
                f"torch is the {_build(torch)} build, {name} the {_build(version)} build. Both must come from one "
                "index. Install them together: pip install --force-reinstall torch torchvision torchaudio"
            )


def _build(version: Version) -> str:
    return f"'{version.local}'" if version.local else "default"
