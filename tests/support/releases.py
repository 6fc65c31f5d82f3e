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
    name="{name}",
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


def write_metadata(folder: Path, distribution: str, version: str, *, entry: str) -> None:
    """Make the package in a folder a distribution that provides a modality; `entry` is a line of its entry points."""
    metadata = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    (metadata / "entry_points.txt").write_text(f"[crema.modalities]\n{entry}\n")


@dataclass(frozen=True)
class Release:
    """What differs between releases."""

    version: str = "0.2.0"
    options: str = '    sweeps: int = Field(default=4, ge=1, le=64, description="sweeps read")'
    count: str = "sweeps"  # the option prepare reads
    functions: str = ""
    fields: tuple[str, ...] = ()  # further fields of the spec
    feature_dim: int = 9
    name: str = "lidar9"
    encode: str = 'batch["sweeps"] / 10'
    example: str = "torch.rand(6, 9, generator=generator)"

    def write(self, folder: Path) -> Path:
        """Write package and metadata into a folder of this release; return it."""
        package = folder / "crema_dummy_lidar"
        package.mkdir(parents=True)
        values = {
            "options": self.options,
            "functions": self.functions,
            "feature_dim": self.feature_dim,
            "name": self.name,
            "fields": "".join(f"    {line},\n" for line in self.fields),
            "count": self.count,
            "encode": self.encode,
            "example": self.example,
        }
        (package / "__init__.py").write_text("")
        (package / "plugin.py").write_text(PLUGIN.format(**values))
        (package / "modality.py").write_text(MODALITY.format(**values))
        write_metadata(folder, "crema-dummy-lidar", self.version, entry=f"{self.name} = crema_dummy_lidar.plugin:SPEC")
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
    "other_name": Release(name="lidar_nine"),
    "broken_import": Release(functions='raise ValueError("boom")\n\n'),
    "broken_example": Release(example="torch.rand(6, 7, generator=generator)"),
}
"""By what they change."""


class Releases:
    """Installs one release of a package in place of another."""

    def __init__(self, place: Path, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place, self.package, self.monkeypatch = place, package, monkeypatch
        monkeypatch.setattr(sys, "path", list(sys.path))

    def install(self, folder: Path | None) -> None:
        """Put the folder of a release on the path, in place of the one before; None: none."""
        sys.path[:] = [path for path in sys.path if not path.startswith(str(self.place))]
        self.forget()
        if folder is not None:
            self.monkeypatch.syspath_prepend(str(folder))
        registry.refresh()

    def forget(self) -> None:
        """Forget the imported modules of the package."""
        for module in [name for name in sys.modules if name.partition(".")[0] == self.package]:
            del sys.modules[module]


Upgrade = Callable[[str | None], None]
"""Install a release in place of the one before; None: none."""


@pytest.fixture
def upgrade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Upgrade]:
    """Install a release of `crema-dummy-lidar` by what it changes, in place of the one before."""
    releases = Releases(tmp_path / "releases", "crema_dummy_lidar", monkeypatch)

    def install(name: str | None) -> None:
        folder = None if name is None else releases.place / name
        if folder is not None and name is not None and not folder.exists():
            RELEASES[name].write(folder)
        releases.install(folder)

    yield install
    monkeypatch.undo()
    releases.forget()
    registry.refresh()
