"""Fixtures of this room: lmms-eval's documented interface where the program itself is not installed."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.fixtures import t5_folder
from tests.train.conftest import new_model, one_thread

__all__ = ["new_model", "one_thread", "t5_folder"]


class _Lmms(ABC):
    """The members lmms-eval's model guide and base class promise: ranks, documents by task and split, three methods."""

    is_simple = True

    def __init__(self) -> None:
        self._rank, self._world_size = 0, 1
        self.task_dict: dict[str, Any] = {}

    @property
    def rank(self) -> int:
        return self._rank

    @property
    def world_size(self) -> int:
        return self._world_size

    @abstractmethod
    def loglikelihood(self, requests: Any) -> Any: ...

    @abstractmethod
    def generate_until(self, requests: Any) -> Any: ...

    @abstractmethod
    def generate_until_multi_round(self, requests: Any) -> Any: ...


@dataclass(frozen=True)
class _ModelManifest:
    model_id: str
    simple_class_path: str | None = None
    chat_class_path: str | None = None
    aliases: tuple[str, ...] = ()


@pytest.fixture
def adapter(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The module of the adapter, on the installed lmms-eval or on its documented interface."""
    if importlib.util.find_spec("lmms_eval") is None:
        members = {
            "lmms_eval": {},
            "lmms_eval.api": {},
            "lmms_eval.api.model": {"lmms": _Lmms},
            "lmms_eval.models": {},
            "lmms_eval.models.registry_v2": {"ModelManifest": _ModelManifest},
        }
        for name, own in members.items():
            module = types.ModuleType(name)
            vars(module).update(own)
            monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "crema_benchmarks.lmms_eval_model", raising=False)
    module = importlib.import_module("crema_benchmarks.lmms_eval_model")
    monkeypatch.delitem(sys.modules, "crema_benchmarks.lmms_eval_model")  # on what this fixture set up, and no longer
    return module
