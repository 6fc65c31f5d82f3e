"""Ends with the code of success."""

from __future__ import annotations

import sys

sys.exit(0)
