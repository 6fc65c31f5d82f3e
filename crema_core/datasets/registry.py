"""Which data sets are installed."""

from __future__ import annotations

from dataclasses import dataclass

from crema_core.datasets.spec import DatasetSpec
from crema_core.errors import CremaError
from crema_core.plugins import registry


@dataclass(frozen=True)
class DatasetRecord:
    """One installed provider of a data set.

    Attributes:
        name: of the data set.
        distribution, version: of the package.
        spec: the declaration; None when it cannot be used.
        error: why not; empty when it can.
    """

    name: str
    distribution: str
    version: str
    spec: DatasetSpec | None
    error: str = ""


def list_datasets() -> tuple[DatasetRecord, ...]:
    """Return one record per provider; a broken package does not hide the others."""
    return tuple(_record(provider) for provider in registry.providers("dataset"))


def find_dataset(reference: str) -> DatasetSpec:
    """Return the declaration of `name` or `distribution:name`.

    Raises:
        DatasetError: when no package provides it.
        PluginError: when the package is switched off, broken, or not the only one.

    Example:
        >>> find_dataset("nextqa").splits
        ('train', 'val', 'test')
    """
    found: DatasetSpec = registry.load("dataset", reference)
    return found


def _record(provider: registry.Provider) -> DatasetRecord:
    try:
        if provider.refusal is not None:
            return DatasetRecord(provider.name, provider.distribution, provider.version, None, provider.refusal)
        return DatasetRecord(provider.name, provider.distribution, provider.version, provider.load())
    except CremaError as error:
        return DatasetRecord(provider.name, provider.distribution, provider.version, None, str(error))
