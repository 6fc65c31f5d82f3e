"""Ends the process as a fault in native code does."""

from __future__ import annotations

import os

os.abort()
