"""Packages of another version of the contract: adapted where core has an adapter, and the file of changes is kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from crema_core.errors import PluginVersionWarning
from crema_core.modality import Batch, BuildContext, Features, Modality, Sample, load_modality_class
from crema_core.plugins import registry, versions
from crema_core.plugins.spec import API_VERSION, ModalitySpec
from crema_core.plugins.versions import Adapter

ROOT = Path(__file__).parents[2]


class OldModality(Modality):
    """Written for a contract where `prepare` was called `read`."""

    def read(self, path: Any) -> Sample:
        return Sample({"rows": torch.as_tensor(path)})

    def encode(self, batch: Batch) -> Features:
        return Features(batch["rows"][:, :, None], batch.mask)

    def example(self, generator: torch.Generator) -> torch.Tensor:
        return torch.rand(2, 4, generator=generator)


def new_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """In the old contract the prefix was called `prompt`."""
    return {"prefix" if key == "prompt" else key: value for key, value in fields.items()}


def new_class(old: type[Any]) -> type[Any]:
    return type(f"Adapted{old.__name__}", (old,), {"prepare": lambda self, source: self.read(source)})


@pytest.fixture
def adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Core knows how to use version 0."""
    monkeypatch.setitem(versions.ADAPTERS, 0, Adapter(new_fields, new_class))


def old_spec() -> ModalitySpec:
    return ModalitySpec(
        name="old_radar",
        api_version="0.9",
        summary="old",
        factory=OldModality,
        encoder="features",
        feature_dim=4,
        prompt="Old: ",
    )


@pytest.mark.usefixtures("adapter")
def test_a_package_of_the_previous_major_version_is_adapted_with_a_warning() -> None:
    spec = old_spec()
    assert (spec.prefix, spec.api_version) == ("Old: ", "0.9")
    with pytest.warns(PluginVersionWarning) as caught:
        plugin = registry.resolve(spec)
    assert str(caught[0].message) == (
        f"'old_radar' (given in this process) was written for plugin API 0.9, this crema-core speaks {API_VERSION} and "
        "adapts it. A later one will not. Upgrade: pip install -U test_versions"
    ).replace("test_versions", plugin.spec.factory.partition(".")[0])
    modality = load_modality_class(plugin)(spec.options(), BuildContext())
    sample = modality.prepare(modality.example(torch.Generator().manual_seed(0)))
    assert modality.encode(modality.collate([sample])).values.shape == (1, 2, 1, 4)


def test_without_an_adapter_its_fields_are_refused() -> None:
    assert versions.ADAPTERS == {}
    with pytest.raises(ValueError, match="prompt"):
        old_spec()


def test_every_version_of_the_contract_has_its_file_and_its_changes() -> None:
    text = (ROOT / "docs" / "plugin-api-changes.md").read_text(encoding="utf-8")
    described = re.findall(r"^## (\d+\.\d+)", text, flags=re.MULTILINE)
    kept = sorted(path.stem.removeprefix("contract-") for path in Path(__file__).parent.glob("contract-*.json"))
    assert sorted(described) == kept
    assert described[0] == API_VERSION
