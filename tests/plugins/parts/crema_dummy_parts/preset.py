"""A training that takes a moment."""

from __future__ import annotations

from crema_core.plugins.preset import Preset

GLANCE = Preset("glance", settings={"epochs": 1, "batch_size": 2})
