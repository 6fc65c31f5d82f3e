"""Waits as long as the tests let it: for ever, as a look-up without network may."""

from __future__ import annotations

import os
import time

time.sleep(float(os.environ.get("CREMA_DUMMY_HANGS_S", "3600")))
