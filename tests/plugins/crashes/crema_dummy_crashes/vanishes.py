"""Ends the process with the code of success; no exception, no clean-up."""

from __future__ import annotations

import os

os._exit(0)
