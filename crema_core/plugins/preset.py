"""What a preset is: a whole setting by name, of a training, a model, or both, with what every value rests on.

A package adds one with an entry point of the group `crema.presets` that names a `Preset`, or a `PresetFamily` for many
that differ in one word: `nextqa-vfdn` is variant `vfdn` of the family `nextqa`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from crema_core.errors import OptionsError, did_you_mean
from crema_core.plugins import registry


@dataclass(frozen=True)
class Preset:
    """One setting.

    Attributes:
        name: for example "nextqa-vfdn".
        dataset: the named data set it trains on; "" where it is for any data, or for such that the note "data" tells.
        config: fields of `crema fit`'s configuration, settings of the training apart.
        settings: settings of the training.
        notes: what each value rests on, by its name.
    """

    name: str
    dataset: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PresetFamily:
    """Settings that differ in one word, each found as `family-variant`.

    Attributes:
        name: of the entry point.
        variants: those that are listed; `find` may know more.
        find: returns the setting of a variant, or None where there is none.
        rule: what a variant is, for messages: "one letter for each modality".
    """

    name: str
    variants: tuple[str, ...]
    find: Callable[[str], Preset | None]
    rule: str = ""


def find_preset(reference: str) -> Preset:
    """Return the setting of a name.

    Args:
        reference: `name` or `distribution:name`; of a family's setting `family-variant`.

    Raises:
        OptionsError: for a name nothing provides, with what is near or what to install; for a variant there is not.
        PluginError: when its package is switched off, broken, or not the only one of this name.

    Example:
        >>> find_preset("nextqa-vf").config["modalities"]
        ['video', 'flow']
    """
    distribution, colon, name = reference.rpartition(":")
    known = registry.known_names("preset")
    begins = [own for own in known if name.startswith(f"{own}-")]
    entry = name if name in known or not begins else max(begins, key=len)
    found: Preset | PresetFamily = registry.load("preset", f"{distribution}{colon}{entry}")
    if isinstance(found, Preset):
        if entry == name:
            return found
        raise OptionsError(
            f"'{name}' is not a preset, and '{entry}' has no variants. Name '{entry}', or another: crema plugins list "
            "--kind preset"
        )
    variant = name.removeprefix(entry).removeprefix("-")
    made = found.find(variant) if variant else None
    if made is None:
        rule = f" ({found.rule})" if found.rule else ""
        raise OptionsError(
            f"'{name}' is not a preset: '{entry}' has variants{rule}: "
            f"{', '.join(f'{entry}-{own}' for own in found.variants)}.{did_you_mean(variant, found.variants)} Name one "
            "of these."
        )
    return made
