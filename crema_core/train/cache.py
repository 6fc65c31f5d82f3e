"""The feature cache that the settings of a training run ask for."""

from __future__ import annotations

from crema_core.features.cache.store import DiskCache
from crema_core.features.feature_cache import FeatureCache
from crema_core.model.network import CremaNetwork
from crema_core.model.precision import DTYPES
from crema_core.train.settings import TrainSettings


def make_cache(model: CremaNetwork, settings: TrainSettings) -> FeatureCache | None:
    """Return the cache that the settings of a training run ask for, or None.

    Raises:
        CacheError: when the folder they name cannot be a cache.
    """
    if settings.cache == "none":
        return None
    dtype = DTYPES[settings.cache_precision] if settings.cache_precision != "fp32" else None
    disk = None
    if settings.cache != "memory":
        limit_gb = settings.cache_disk_limit_gb
        disk = DiskCache(settings.cache, limit_bytes=float("inf") if limit_gb is None else limit_gb * 1e9)
    return FeatureCache(model, dtype=dtype, limit_bytes=settings.cache_limit_gb * 1e9, disk=disk)
