"""The model users hold: the network, with the verbs that need the rooms above it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from crema_core.api import adding
from crema_core.api.answer import answer_many
from crema_core.api.describe import Description, describe_model
from crema_core.api.predict import Answer
from crema_core.api.requests import ModalityRequest
from crema_core.model.network import CremaNetwork
from crema_core.saving.adapters import save_adapter
from crema_core.saving.bundle import save


class CremaModel(CremaNetwork):
    """Built by `crema_core.build`, loaded by `crema_core.load`.

    A method here is one call of the function of its file, so that each verb is written and documented once.
    """

    def answer(self, question: str, choices: Sequence[str] | None = None, **sources: Any) -> Answer:
        """Answer one question about sources given by modality name, see `crema_core.api.answer`."""
        return answer_many(self, [{"question": question, "choices": choices, **sources}])[0]

    def answer_many(self, items: Iterable[Mapping[str, Any]], *, batch_size: int = 16) -> list[Answer]:
        """Answer several questions, see `crema_core.api.answer`."""
        return answer_many(self, items, batch_size=batch_size)

    def add_modality(self, modality: ModalityRequest) -> None:
        """Add a modality to a trained model, see `crema_core.api.adding`."""
        adding.add_modality(self, modality)

    def describe(self) -> Description:
        """Return the table of parameters and cost by component, see `crema_core.api.describe`."""
        return describe_model(self)

    def save_pretrained(self, folder: str | Path) -> None:
        """Save adapters, fusion and model config, see `crema_core.saving.bundle`."""
        save(self, folder)

    def save_adapter(self, name: str, folder: str | Path) -> None:
        """Save one modality to share, see `crema_core.saving.adapters`."""
        save_adapter(self, name, folder)

    def load_adapter(
        self, folder: str | Path, *, options: Mapping[str, Any] | None = None, check_features: bool = True
    ) -> None:
        """Load one shared modality, see `crema_core.api.adding`."""
        adding.load_adapter(self, folder, options=options, check_features=check_features)
