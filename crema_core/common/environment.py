"""Where something ran: versions, processor, threads. Names no machine, no person and no path."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import accelerate
import av
import matplotlib
import numpy
import peft
import pydantic
import torch
import transformers

import crema_core

LIBRARIES = (torch, transformers, peft, accelerate, av, numpy, pydantic, matplotlib)


def environment() -> dict[str, str]:
    """Return names and values for reports, in order.

    Example:
        >>> environment()["crema_core"] == crema_core.__version__
        True
    """
    found = {
        "crema_core": crema_core.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "torch threads": str(torch.get_num_threads()),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }
    return found | {library.__name__: str(library.__version__) for library in LIBRARIES}


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or "unknown"
