"""Releases of one foreign package, `crema-dummy-lidar`, to install one after the other: what an upgrade can change.

Each is written with its metadata into a folder that is put on the path, which is what installing it is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from crema_core.plugins import registry

PLUGIN = """\
from pydantic import Field

from crema_core.plugins.spec import ModalityOptions, ModalitySpec


class LidarOptions(ModalityOptions):
{options}

{functions}
SPEC = ModalitySpec(
    name="lidar9",
    summary="Sweeps of nine distances.",
    factory="crema_dummy_lidar.modality:LidarModality",
    options=LidarOptions,
    encoder="own",
    feature_dim={feature_dim},
    prefix="Lidar: ",
{fields})
"""

MODALITY = """\
import numpy as np
import torch

from crema_core.errors import MediaError
from crema_core.modality import Features, Modality, Sample


class LidarModality(Modality):
    def prepare(self, source):
        sweeps = torch.as_tensor(np.load(source) if isinstance(source, str) else source).float()
        if sweeps.dim() != 2 or sweeps.shape[1] != 9:
            raise MediaError("Sweeps are (T, 9).")
        return Sample({{"sweeps": sweeps[: self.options.{count}]}})

    def encode(self, batch):
        sweeps = {encode}
        return Features(sweeps[:, :, None, : {feature_dim}], batch.mask)

    def example(self, generator):
        return {example}
"""


@dataclass(frozen=True)
class Release:
    """What differs between releases."""

    version: str = "0.2.0"
    options: str = '    sweeps: int = Field(default=4, ge=1, le=64, description="sweeps read")'
    count: str = "sweeps"  # the option prepare reads
    functions: str = ""
    fields: tuple[str, ...] = ()  # further fields of the spec
    feature_dim: int = 9
    encode: str = 'batch["sweeps"] / 10'
    example: str = "torch.rand(6, 9, generator=generator)"

    def write(self, folder: Path) -> Path:
        """Write package and metadata into a folder of this release; return it."""
        package, metadata = folder / "crema_dummy_lidar", folder / f"crema_dummy_lidar-{self.version}.dist-info"
        package.mkdir(parents=True)
        metadata.mkdir()
        values = {
            "options": self.options,
            "functions": self.functions,
            "feature_dim": self.feature_dim,
            "fields": "".join(f"    {line},\n" for line in self.fields),
            "count": self.count,
            "encode": self.encode,
            "example": self.example,
        }
        (package / "__init__.py").write_text("")
        (package / "plugin.py").write_text(PLUGIN.format(**values))
        (package / "modality.py").write_text(MODALITY.format(**values))
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: crema-dummy-lidar\nVersion: {self.version}\n")
        (metadata / "entry_points.txt").write_text("[crema.modalities]\nlidar9 = crema_dummy_lidar.plugin:SPEC\n")
        return folder


RENAMED = '    num_sweeps: int = Field(default=4, ge=1, le=64, description="sweeps read")'
MIGRATE = """\
def migrate_options(options, version):
    if "sweeps" in options:
        options["num_sweeps"] = options.pop("sweeps")
    return options

"""

RELEASES = {
    "first": Release("0.1.0"),
    "equal": Release(encode='batch["sweeps"] * 0.1'),
    "encode": Release(encode='batch["sweeps"] / 10 + 0.05'),
    "shape": Release(encode='batch["sweeps"].repeat(1, 1, 1).flip(2)', count="sweeps // 2"),
    "renamed": Release(options=RENAMED, count="num_sweeps"),
    "migrated": Release(
        options=RENAMED,
        count="num_sweeps",
        functions=MIGRATE,
        fields=("options_version=2", "migrate_options=migrate_options"),
    ),
    "failing_migration": Release(
        functions='def migrate_options(options, version):\n    return options["swoops"]\n\n',
        fields=("options_version=2", "migrate_options=migrate_options"),
    ),
    "tightened": Release(options='    sweeps: int = Field(default=2, ge=1, le=2, description="sweeps read")'),
    "wide": Release(feature_dim=8),
    "broken_example": Release(example="torch.rand(6, 7, generator=generator)"),
}
"""By what they change."""

Upgrade = Callable[[str | None], None]
"""Install a release in place of the one before; None: none."""


@pytest.fixture
def upgrade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Upgrade]:
    """Install a release of `crema-dummy-lidar` by what it changes, in place of the one before."""
    place = tmp_path / "releases"

    def install(name: str | None) -> None:
        sys.path[:] = [path for path in sys.path if not path.startswith(str(place))]
        _forget()
        if name is not None:
            folder = place / name
            monkeypatch.syspath_prepend(str(folder if folder.exists() else RELEASES[name].write(folder)))
        registry.refresh()

    monkeypatch.setattr(sys, "path", list(sys.path))
    yield install
    monkeypatch.undo()
    _forget()
    registry.refresh()


def _forget() -> None:
    for module in [name for name in sys.modules if name.startswith("crema_dummy_lidar")]:
        del sys.modules[module]
