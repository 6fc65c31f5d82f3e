"""What became of a modality's package since a model, an adapter or a run was written.

A trained adapter fits the features it was trained on. Their width must be the same; whether their numbers are is
compared by fingerprint, see `crema_core.saving.fingerprint`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from crema_core.errors import CheckpointError, ModalityWarning
from crema_core.model.network import ModalityBranch
from crema_core.plugins.loading import STRICT, Policy
from crema_core.saving.fingerprint import feature_changes, feature_fingerprint

FEATURES = "features"
"""Key of the fingerprint in `adapter.json`, and of those of all modalities in the `config.json` of a run."""
TRAINED_WITH = "trained_with"
"""Key in a fingerprint: distribution and version that made these features, where another version saved them again."""


class SavedModality(NamedTuple):
    """A modality as a folder records it, and the one that is built here."""

    entry: Mapping[str, Any]  # its record: name, distribution, version and so on
    features: Mapping[str, Any] | None  # its fingerprint; None in folders written before there was any
    branch: ModalityBranch
    # the folder's parameters of a trainable encoder, keyed as in an adapter file: what was trained makes the features.
    # Empty where they are in the model already, or the encoder is frozen
    weights: Mapping[str, Tensor] = {}


def package_of(entry: Mapping[str, Any]) -> str:
    """Return `distribution version` of a saved modality, for messages."""
    return f"{entry['distribution']} {entry['version']}" if entry["distribution"] else "a spec given by hand"


def package_change(entry: Mapping[str, Any], *, distribution: str, version: str) -> str:
    """Return `crema-lidar 0.1.0 -> 0.2.0`: from the package that saved a modality to the one that is installed.

    >>> package_change({"distribution": "crema-lidar", "version": "0.1.0"}, distribution="crema-lidar", version="0.2.0")
    'crema-lidar 0.1.0 -> 0.2.0'
    """
    was = package_of(entry)
    now = f"{distribution} {version}" if distribution else "a spec given by hand"
    if was == now:
        return f"{was}, changed without a new version" if entry["distribution"] else was
    return f"{was} -> {version if distribution == entry['distribution'] else now}"


def go_back(*entries: Mapping[str, Any]) -> str:
    """Return what to type to have the packages again that saved modalities.

    >>> go_back({"distribution": "crema-lidar", "version": "0.1.0"})
    'Install what it was trained with: pip install crema-lidar==0.1.0'
    """
    exact = dict.fromkeys(f"{own['distribution']}=={own['version']}" for own in entries if own["distribution"])
    lines = [f"Install what it was trained with: pip install {' '.join(exact)}"] if exact else []
    lines += [] if all(own["distribution"] for own in entries) else ["Give the spec as it was then"]
    return "; ".join(lines)


def require_widths(place: Path, modalities: Iterable[SavedModality]) -> None:
    """Raise when features have another width than those an adapter was trained on.

    Raises:
        CheckpointError: naming both versions of the package.
    """
    for entry, features, branch, _ in modalities:
        own = branch.modality.feature_dim
        if features is not None and features["feature_dim"] != own:
            raise CheckpointError(
                f"'{place}': {_change(entry, branch)}: features of '{entry['name']}' are {own} wide, the saved adapter "
                f"was trained on {features['feature_dim']}. An adapter fits one width. {go_back(entry)}, or train the "
                "modality again. Nothing was changed."
            )


def compare_features(place: Path, modalities: Iterable[SavedModality], *, stacklevel: int = 3) -> None:
    """Warn of every modality whose features are not those that were recorded.

    Saved again without being trained, such a modality keeps the recorded fingerprint, which its weights still fit.

    Args:
        place: the folder, for messages.
        modalities: saved and built; one without a fingerprint, from an earlier version, passes.
        stacklevel: of the warning.

    Raises:
        CheckpointError: in place of the warning with `CREMA_PLUGINS_STRICT=1`.
    """
    lines, changed = [], []
    for entry, features, branch, weights in modalities:
        if features is None:
            continue
        with _in_place(branch, weights):
            change = feature_changes(features, feature_fingerprint(branch.modality))
        if change is not None:
            made_by = {key: entry[key] for key in ("distribution", "version")} | dict(features.get(TRAINED_WITH, {}))
            branch.trained_features = {**features, TRAINED_WITH: made_by}
            lines.append(f"{_change(made_by, branch)}: features of '{entry['name']}' {change}.")
            changed.append(made_by)
    if not lines:
        return
    text = (
        f"'{place}': {' '.join(lines)} What was trained reads other numbers here than it learned from. "
        f"{go_back(*changed)}; or train again, or pass check_features=False where the change is known to "
        "be harmless."
    )
    if Policy.from_environment().strict:
        raise CheckpointError(f"{text} It is an error because of {STRICT}=1. Nothing was changed.")
    warnings.warn(text, ModalityWarning, stacklevel=stacklevel)


@contextmanager
def _in_place(branch: ModalityBranch, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside the block, give a trainable encoder the weights of a folder."""
    own = branch.encoder_parameters()
    saved = {key: value for key, value in weights.items() if key in own}
    before = {key: own[key].detach().clone() for key in saved}
    try:
        _copy(own, saved)
        yield
    finally:
        _copy(own, before)


@torch.no_grad()
def _copy(parameters: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    for key, value in values.items():
        parameters[key].copy_(value)


def _change(entry: Mapping[str, Any], branch: ModalityBranch) -> str:
    own = branch.provenance
    return package_change(entry, distribution=own.distribution, version=own.version)
