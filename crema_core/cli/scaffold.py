"""Write a package of any kind that works as it is: it installs, passes its tests, and is found.

```
crema-radar/
  pyproject.toml  README.md  LICENSE  CHANGELOG.md
  src/crema_radar/    __init__.py  py.typed  plugin.py  modality.py    (a modality; other kinds have one or two modules)
  tests/test_conformance.py
  .github/workflows/test.yml
```

The files around the code are one template each; `templates/kinds.yaml` holds what differs from kind to kind.
"""

from __future__ import annotations

import datetime
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import yaml
from pydantic import ValidationError

import crema_core
from crema_core.common.atomic import fresh_folder
from crema_core.errors import OptionsError, did_you_mean
from crema_core.plugins import registry
from crema_core.plugins.groups import KINDS, KindName, directory
from crema_core.plugins.spec import API_VERSION, NAME_PATTERN, PLACEHOLDERS, ModalitySpec

Encoder = Literal["own", "vision", "features"]
ENCODERS: tuple[Encoder, ...] = get_args(Encoder)

ScaffoldKind = Literal["modality", "fusion", "backbone", "encoder", "dataset", "metric", "verb"]

TEMPLATES = Path(__file__).with_name("templates")
SHARED = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "LICENSE": "LICENSE",
    "CHANGELOG.md": "CHANGELOG.md",
    ".github/workflows/test.yml": "workflow.yml",
    "src/{package}/__init__.py": "init.py",
}
"""File of every package -> template."""


@dataclass(frozen=True)
class Scaffold:
    """What the package of one kind has of its own; the texts are templates."""

    group: KindName  # the kind in the registry; a verb is a hook
    noun: str  # what messages call one
    files: Mapping[str, str]  # file of the package -> template
    entry: str  # what the entry point names
    description: str  # one sentence about the package
    look: str  # the command that shows or checks the installed package
    advice: str  # what the author does next
    dashes: bool = False  # names are written with dashes instead of underscores


SCAFFOLDS: Mapping[ScaffoldKind, Scaffold] = {
    kind: Scaffold(**own)
    for kind, own in yaml.safe_load((TEMPLATES / "kinds.yaml").read_text(encoding="utf-8")).items()
}
"""By what `--kind` takes."""


def new_package(
    name: str, *, kind: ScaffoldKind = "modality", encoder: Encoder | None = None, output: Path = Path()
) -> Path:
    """Write a package that provides one thing.

    Args:
        name: of the thing; data sets and verbs may have dashes.
        kind: what it is.
        encoder: of a modality: "own" (an encoder in the package, the default), "vision" (the backbone's) or "features"
            (computed before).
        output: folder the package's folder is made in.

    Returns:
        the package's folder, `crema-<name>` with dashes.

    Raises:
        OptionsError: for a name, a kind or an encoder that is not allowed, or a folder that exists; nothing was
            written.
    """
    if kind not in SCAFFOLDS:
        raise OptionsError(
            f"'{kind}' is not a kind of package. Kinds: {', '.join(SCAFFOLDS)}.{did_you_mean(kind, SCAFFOLDS)} Write "
            "--kind modality. Nothing was written."
        )
    if encoder is not None and kind != "modality":
        raise OptionsError(
            f"encoder='{encoder}' was given for a {SCAFFOLDS[kind].noun}. Only a modality takes one. Leave --encoder "
            "out. Nothing was written."
        )
    encoder = encoder or "own"
    if encoder not in ENCODERS:
        raise OptionsError(
            f"'{encoder}' is no kind of encoder. Kinds: {', '.join(ENCODERS)}. Write --encoder own. Nothing was "
            "written."
        )
    scaffold = SCAFFOLDS[kind]
    if scaffold.dashes:
        name = name.replace("-", "_")
    _check_name(name, kind)
    distribution = f"crema-{name.replace('_', '-')}"
    place = output / distribution
    if place.exists():
        raise OptionsError(
            f"'{place}' exists. A new package needs a new folder. Name another with --output, or remove it. "
            "Nothing was written."
        )
    if output.exists() and not output.is_dir():
        raise OptionsError(f"'{output}' is a file. --output names a folder. Name another. Nothing was written.")
    with fresh_folder(place) as folder:
        _write(folder, name, kind, encoder, distribution)
    return place


def look_at(name: str, kind: ScaffoldKind) -> str:
    """Return the command that shows or checks the installed package."""
    return string.Template(SCAFFOLDS[kind].look).substitute(name=name)


def _check_name(name: str, kind: ScaffoldKind) -> None:
    scaffold = SCAFFOLDS[kind]
    if name in PLACEHOLDERS:
        advice = (
            "A modality is named after what it measures, for example 'radar'. Choose a name."
            if kind == "modality"
            else f"Two packages with this name could not be told apart. Choose a name for the {scaffold.noun}."
        )
        raise OptionsError(f"'{name}' is a placeholder. {advice} Nothing was written.")
    if kind != "modality" and not NAME_PATTERN.fullmatch(name):
        raise OptionsError(
            f"'{name}' is not a legal name of a {scaffold.noun}. Names match {NAME_PATTERN.pattern}, for example "
            "'radar'. Nothing was written."
        )
    if kind == "modality":
        try:
            ModalitySpec(name=name, summary="s", factory="package.module:Class", encoder="own", prefix="")
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise OptionsError(f"{reason} Nothing was written.") from None
    owner = _owner(_entry_name(name, scaffold), kind)
    if owner is not None:
        raise OptionsError(
            f"'{name}' is a {scaffold.noun} of {owner}. A name has one provider. Choose another name. Nothing was "
            "written."
        )


def _owner(name: str, kind: ScaffoldKind) -> str | None:
    """Return the package that has a name already: one known when this version was made, or a library below."""
    if kind == "verb":
        from crema_core.cli.main import own_commands

        return "crema-core" if name in own_commands() else directory()["verb"].get(name)
    known = registry.known_packages(SCAFFOLDS[kind].group).get(name)
    if known is not None or kind != "backbone":
        return known
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES  # type: ignore[attr-defined]

    return "transformers" if name in CONFIG_MAPPING_NAMES else None


def _entry_name(name: str, scaffold: Scaffold) -> str:
    return name.replace("_", "-") if scaffold.dashes else name


def _write(folder: Path, name: str, kind: ScaffoldKind, encoder: Encoder, distribution: str) -> None:
    package, scaffold = f"crema_{name}", SCAFFOLDS[kind]
    major, minor, *_ = crema_core.__version__.split(".")
    values = {
        "name": name,
        "entry_name": _entry_name(name, scaffold),
        "title": name.replace("_", " ").capitalize(),
        "class_name": "".join(part.capitalize() for part in name.split("_")),
        "package": package,
        "distribution": distribution,
        "group": KINDS[scaffold.group].group,
        "api_version": API_VERSION,
        "core_version": f"{major}.{minor}",
        "core_major": str(int(major) + 1),
        "year": str(datetime.datetime.now(tz=datetime.UTC).year),
    }
    for field in ("entry", "description", "look", "advice"):
        values[field] = string.Template(getattr(scaffold, field)).substitute(values)
    values["usage"] = _filled_in(f"usage_{kind}.md", values).rstrip()
    for file, template in {**SHARED, **scaffold.files}.items():
        path = folder / file.format(package=package)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_filled_in(template.format(encoder=encoder), values), encoding="utf-8")
    (folder / "src" / package / "py.typed").write_text("", encoding="utf-8")


def _filled_in(template: str, values: Mapping[str, str]) -> str:
    return string.Template((TEMPLATES / f"{template}.txt").read_text(encoding="utf-8")).substitute(values)
