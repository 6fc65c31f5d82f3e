"""The data discovery returns: one record per provider of a name, and the answer to a lookup."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from crema_core.plugins._metadata import Distribution, InstalledEntryPoint
from crema_core.plugins.spec import MMQASpec, ModalityOptions, ModalitySpec

__all__ = ["Distribution", "InstalledEntryPoint", "PluginRecord", "ResolvedPlugin", "Status", "provider_of"]

Status = Literal["ok", "broken", "incompatible", "duplicate", "disabled"]


@dataclass(frozen=True)
class PluginRecord:
    """One installed provider of one modality name.

    Attributes:
        name: the modality's name.
        distribution: the distribution that provides it; empty for `registry.register`.
        version: the distribution's version; empty for `registry.register`.
        reference: the entry point's text, or the factory of a registered spec.
        status: `ok`, `broken` (cannot be imported or breaks the contract), `incompatible` (other major version of the
            contract), `duplicate` (fine, but several packages provide the name) or `disabled`.
        error: what is wrong and what to type, empty when nothing is.
        summary: the spec's sentence, empty when the spec could not be loaded.
        editable: installed with `pip install -e`.
        notes: things that do not stop the plugin, for example slow imports or stale metadata.
    """

    name: str
    distribution: str
    version: str
    reference: str
    status: Status
    error: str = ""
    summary: str = ""
    editable: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ResolvedPlugin:
    """The one provider a user's words mean.

    Attributes:
        spec: the declaration.
        distribution: the distribution that provides it; empty for a spec given or registered by hand.
        version: the distribution's version; empty for a spec given or registered by hand.
        reference: the entry point's text, or the factory of a spec given by hand.
        options: validated options, the defaults where the user gave none.
        mmqa: adapter sizes, the declared ones where the user gave none; None: the declared ones.
        prefix: text before the tokens the user chose; None: the declared one.
    """

    spec: ModalitySpec
    distribution: str
    version: str
    reference: str
    options: ModalityOptions
    mmqa: MMQASpec | None = None
    prefix: str | None = None

    @property
    def provider(self) -> str:
        """`distribution version`, for messages."""
        return f"{self.distribution} {self.version}" if self.distribution else "given in this process"


def provider_of(entry: InstalledEntryPoint) -> dict[str, object]:
    """Return the provenance of an entry point as JSON data."""
    return {
        "distribution": entry.distribution,
        "version": entry.version,
        "reference": entry.reference,
        "editable": entry.editable,
        "location": entry.location,
    }
