"""Which data sets are installed."""

from __future__ import annotations

from dataclasses import dataclass

from crema_core.datasets.spec import DatasetSpec
from crema_core.errors import ContractError, CremaError, DatasetError
from crema_core.plugins.entries import Group, Provider, find, providers

DATASETS = Group("crema.datasets", "an installed data set", "crema data list", DatasetError)


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
    return tuple(_record(provider) for provider in providers(DATASETS))


def find_dataset(reference: str) -> DatasetSpec:
    """Return the declaration of `name` or `distribution:name`.

    Raises:
        DatasetError: when no package provides it.
        PluginError: when the package is switched off, broken, or not the only one.

    Example:
        >>> find_dataset("nextqa").splits
        ('train', 'val', 'test')
    """
    return _spec(find(DATASETS, reference))


def _spec(provider: Provider) -> DatasetSpec:
    spec = provider.load()
    subject = f"'{provider.name}' ({provider.distribution} {provider.version}): {provider.reference}"
    if not isinstance(spec, DatasetSpec):
        raise ContractError(
            f"{subject} is of type {type(spec).__name__}. The entry point must name a DatasetSpec object. Write: "
            f'{provider.name} = "{provider.reference.partition(":")[0]}:SPEC"'
        )
    if spec.name != provider.name:
        raise ContractError(
            f"{subject} is called '{spec.name}'. Entry point and declaration have the same name. Write: "
            f'{spec.name} = "{provider.reference}"'
        )
    return spec


def _record(provider: Provider) -> DatasetRecord:
    try:
        if provider.refusal is not None:
            return DatasetRecord(provider.name, provider.distribution, provider.version, None, provider.refusal)
        return DatasetRecord(provider.name, provider.distribution, provider.version, _spec(provider))
    except CremaError as error:
        return DatasetRecord(provider.name, provider.distribution, provider.version, None, str(error))
