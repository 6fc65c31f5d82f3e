"""Import one light module in this fresh process and print what that brought, as one line of JSON.

Run by the bronze checks: `python -m crema_core.testing.light_probe crema_radar.plugin`.
"""

from __future__ import annotations

import importlib
import json
import sys
import time

import crema_core.plugins.spec


def main(module: str) -> None:
    """Import `module` beside core's own light modules and print `{"seconds": ..., "modules": [...]}`."""
    before = set(sys.modules)
    assert crema_core.plugins.spec.__name__ in before
    start = time.perf_counter()
    importlib.import_module(module)
    seconds = time.perf_counter() - start
    print("\n" + json.dumps({"seconds": seconds, "modules": sorted(set(sys.modules) - before)}))


if __name__ == "__main__":
    main(sys.argv[1])
