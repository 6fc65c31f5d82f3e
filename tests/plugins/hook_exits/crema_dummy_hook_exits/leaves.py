"""A hook that ends the program."""

from __future__ import annotations

import sys

from crema_core.plugins.hooks import hookimpl


@hookimpl
def crema_model_built() -> None:
    sys.exit(0)
