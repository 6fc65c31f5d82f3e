"""Ends with a message."""

from __future__ import annotations

import sys

sys.exit("no licence found")
