"""The kinds of things a package can add: one group of entry points each, declared here and nowhere else.

A kind says in which group its entry points stand, what an entry must name, and how messages speak of it. The registry
serves all of them alike. The types are written as texts, because most of them need torch and listing must not.
"""

from __future__ import annotations

import functools
import json
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from crema_core.errors import (
    CheckpointError,
    CremaError,
    DatasetError,
    DuplicateModalityError,
    DuplicatePluginError,
    HookError,
    OptionsError,
    UnknownModalityError,
    did_you_mean,
)

KindName = Literal["modality", "fusion", "backbone", "encoder", "dataset", "metric", "preset", "hook"]


@dataclass(frozen=True)
class Kind:
    """One kind of extension."""

    name: KindName  # the word for it in the Python API and on the command line: "fusion"
    group: str  # its group of entry points: "crema.fusions"
    # "package.module:Class" of what an entry names, several with " | " between; empty: any module or object
    base: str = ""
    own_noun: str = ""  # what messages call one where that is not its name: "data set"
    error: type[CremaError] = OptionsError  # raised for a name nothing provides
    duplicate: type[CremaError] = DuplicatePluginError  # raised for a name several packages provide
    see: str = ""  # the command that lists them; empty: `crema plugins list --kind NAME`
    names_class: bool = False  # an entry names a subclass of `base` instead of an instance
    has_name: bool = False  # an instance has an attribute `name` that is the entry point's
    light: bool = False  # the entry point's module may be imported to look at it: it needs neither torch nor a model
    broadcast: bool = False  # every entry is used, so that several packages may use one name
    # people name one of several providers as `distribution:name`; else the others are switched off
    chosen_by_prefix: bool = True

    @property
    def noun(self) -> str:
        """What messages call one."""
        return self.own_noun or self.name

    @property
    def base_name(self) -> str:
        """Name of the class without its module."""
        return " or ".join(one.partition(":")[2] for one in self.base.split(" | "))

    def load_base(self) -> tuple[type[Any], ...]:
        """Import and return the classes `base` names; none where any object will do."""
        return tuple(pkgutil.resolve_name(one) for one in self.base.split(" | ") if one)


_FAMILY = "crema_core.model.backbone_family"
_PRESET = "crema_core.plugins.preset"
_ALL = (
    Kind(
        "modality",
        "crema.modalities",
        "crema_core.plugins.spec:ModalitySpec",
        error=UnknownModalityError,
        duplicate=DuplicateModalityError,
        see="crema plugins list",
        has_name=True,
        light=True,
    ),
    Kind("fusion", "crema.fusions", "crema_core.fusion.base:Fusion", names_class=True),
    Kind(
        "backbone",
        "crema.backbones",
        f"{_FAMILY}:BackboneFamily | {_FAMILY}:NamedCheckpoint | {_FAMILY}:NamedShape",
        "backbone family",
        error=CheckpointError,
        # A backbone is named by its checkpoint, whose model type is the entry's name: there is no place for a
        # distribution in it.
        chosen_by_prefix=False,
    ),
    Kind("encoder", "crema.encoders", "crema_core.video.vision_encoder:VisionEncoder", names_class=True),
    Kind(
        "dataset",
        "crema.datasets",
        "crema_core.datasets.spec:DatasetSpec",
        "data set",
        error=DatasetError,
        see="crema data list",
        has_name=True,
        light=True,
    ),
    Kind("metric", "crema.metrics", "crema_core.evaluation.metric:Metric", has_name=True),
    Kind("preset", "crema.presets", f"{_PRESET}:Preset | {_PRESET}:PresetFamily", has_name=True, light=True),
    Kind("hook", "crema.hooks", error=HookError, broadcast=True),
)
KINDS: Mapping[KindName, Kind] = {kind.name: kind for kind in _ALL}
"""By name, in the order listings have."""

GROUPS = tuple(kind.group for kind in KINDS.values())
"""Every group of entry points that something reads."""


def kind_of(name: str) -> Kind:
    """Return a kind by its name or its group.

    Raises:
        OptionsError: for another word.

    Example:
        >>> kind_of("crema.fusions") is kind_of("fusion")
        True
    """
    found = next((kind for kind in KINDS.values() if name in (kind.name, kind.group)), None)
    if found is None:
        raise OptionsError(
            f"'{name}' is not a kind of plugin. Kinds: {', '.join(KINDS)}.{did_you_mean(name, KINDS)} Name one of them."
        )
    return found


@functools.cache
def directory() -> Mapping[str, Mapping[str, str]]:
    """Return kind -> name -> distribution for the packages known when this version was made."""
    names: dict[str, dict[str, str]] = json.loads(
        Path(__file__).with_name("directory.json").read_text(encoding="utf-8")
    )
    return names
