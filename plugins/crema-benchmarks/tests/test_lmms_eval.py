"""lmms-eval's requests are answered as the model answers; the manifest names a class that is what it should be."""

from __future__ import annotations

import importlib
import logging
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from crema_benchmarks.lmms_eval_manifest import model_manifest
from crema_core.api.model import CremaModel
from crema_core.errors import OptionsError, UnknownModalityError
from crema_core.model.prompt import Prompt
from crema_core.plugins import registry
from tests.train.conftest import MakeModel
from tests.train.file_modalities import file_modalities, write_records

MakeAdapter = Callable[..., Any]


@dataclass(frozen=True)
class Request:
    """What of lmms-eval's `Instance` a model reads."""

    args: tuple[Any, ...]


@pytest.fixture
def make(adapter: types.ModuleType, new_model: MakeModel, tmp_path: Path) -> MakeAdapter:
    """Save a model and give it to the adapter; documents are paths of frames."""
    for spec in file_modalities():
        registry.register(spec, replace=True)
    new_model().save_pretrained(tmp_path / "model")
    documents = [record.sources["main"] for record in write_records(tmp_path / "data", 5)]

    def build(**options: Any) -> Any:
        made = adapter.CremaLmms(pretrained=str(tmp_path / "model"), **{"batch_size": 2, **options})
        made.task_dict = {"colors": {"test": documents}}
        return made

    return build


def ask(index: int, text: str = "what is the color ?", **settings: Any) -> Request:
    return Request((text, settings, lambda document: [document], index, "colors", "test"))


def score(index: int, target: Any) -> Request:
    return Request(("what is the color ?", target, lambda document: [document], index, "colors", "test"))


def plain(model: CremaModel, paths: list[str], *, max_new_tokens: int) -> list[str]:
    items = [{"question": "what is the color ?", "main": path} for path in paths]
    from crema_core.api.answer import answer_many

    return [own.text for own in answer_many(model, items, max_new_tokens=max_new_tokens)]


def test_answers_are_the_models_in_the_order_of_the_requests(make: MakeAdapter) -> None:
    lmm = make()
    paths = lmm.task_dict["colors"]["test"]
    limits = [3, 2, 3, 2, 3]
    requests = [ask(index, "<image>what is the color ?", max_new_tokens=limit) for index, limit in enumerate(limits)]
    expected = [plain(lmm.crema, [path], max_new_tokens=limit)[0] for path, limit in zip(paths, limits, strict=True)]
    assert lmm.generate_until(requests) == expected
    assert any(expected)
    assert (lmm.rank, lmm.world_size, lmm.is_simple) == (0, 1, True)


def test_answers_end_where_the_task_says(make: MakeAdapter, monkeypatch: pytest.MonkeyPatch) -> None:
    lmm = make()
    seen: list[dict[str, Any]] = []

    def generate(prompt: Prompt, **options: Any) -> list[str]:
        seen.append(options)
        return ["red. Blue\n\nmore"] * len(prompt.mask)

    monkeypatch.setattr(lmm.crema, "generate", generate)
    assert lmm.generate_until([ask(0, until=["\n\n"]), ask(1, until="."), ask(2, num_beams=3)]) == [
        "red. Blue", "red", "red. Blue\n\nmore",
    ]  # fmt: skip
    assert seen == [
        {"max_new_tokens": 32, "num_beams": 1}, {"max_new_tokens": 32, "num_beams": 1},
        {"max_new_tokens": 32, "num_beams": 3},
    ]  # fmt: skip


def test_log_likelihoods_are_sums_over_tokens_and_greedy_is_what_generating_gives(make: MakeAdapter) -> None:
    lmm = make()
    path = lmm.task_dict["colors"]["test"][0]
    targets = ["red", "blue", "left"]
    found = lmm.loglikelihood([score(0, target) for target in targets] + [score(0, lambda document: "green")])
    for (logprob, _), target in zip(found, [*targets, "green"], strict=True):
        count = lmm.crema.language.count_tokens([target])
        with torch.no_grad():
            questions, tokens = lmm._read([ask(0)])
            loss = float(lmm.crema.loss(tokens, questions, [target]))
        assert logprob == pytest.approx(-loss * count, abs=1e-4)
    given = plain(lmm.crema, [path], max_new_tokens=1)[0]
    ended = plain(lmm.crema, [path], max_new_tokens=2)[0]
    assert [greedy for _, greedy in found] == [target == given == ended for target in [*targets, "green"]]


def test_a_question_without_media_is_answered_from_its_text(make: MakeAdapter) -> None:
    lmm = make()
    request = Request(("what is the color ?", {"max_new_tokens": 2}, lambda document: [], 0, "colors", "test"))
    assert len(lmm.generate_until([request])) == 1


def test_pictures_clips_and_sounds_reach_the_modalities_named(
    make: MakeAdapter, adapter: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    lmm = make(image_modality="other", sound_modality="wave")
    read: list[dict[str, Any]] = []

    def prepare(model: CremaModel, sources: list[dict[str, Any]]) -> dict[str, Any]:
        read.extend(sources)
        return {}

    monkeypatch.setattr(adapter, "prepare_batch", prepare)
    picture = Image.new("RGB", (4, 4))
    media = ["clip.mp4", picture, picture.resize((8, 8))]
    lmm._read([Request(("?", {}, lambda document: media, 0, "colors", "test"))])
    assert {name: own if isinstance(own, str) else tuple(own.shape) for name, own in read[0].items()} == {
        "main": "clip.mp4",
        "wave": "clip.mp4",
        "other": (2, 4, 4, 3),
    }
    sound = {"array": np.zeros(160), "sampling_rate": 16000}
    lmm._read([Request(("?", {}, lambda document: [sound], 0, "colors", "test"))])
    assert read[1]["wave"][1] == 16000.0


def test_sampling_is_answered_greedily_and_said_once(make: MakeAdapter, caplog: pytest.LogCaptureFixture) -> None:
    lmm = make()
    with caplog.at_level(logging.WARNING):
        lmm.generate_until([ask(0, temperature=0.7, max_new_tokens=1)])
        lmm.generate_until([ask(0, do_sample=True, max_new_tokens=1)])
    assert [own.getMessage() for own in caplog.records if "sampled" in own.getMessage()] == [
        "The task requests sampled answers. Models of this package answer greedily, so answers are the most likely "
        "ones and equal at every repetition. Set temperature=0 in the task to say so."
    ]


def test_mistakes_are_named(make: MakeAdapter) -> None:
    with pytest.raises(UnknownModalityError, match="no modality 'wav'"):
        make(sound_modality="wav")
    with pytest.raises(OptionsError) as error:
        make(batch_size="auto")
    assert str(error.value) == (
        "batch_size is 'auto'. Accepted: a number from 1, it is not searched for. Write --batch_size 8."
    )
    with pytest.raises(OptionsError) as error:
        make().generate_until_multi_round([])
    assert str(error.value) == (
        "This task queries in several rounds. Models of this package answer single questions. Use a task of the kind "
        "generate_until or loglikelihood."
    )


def test_the_manifest_is_an_entry_point_and_names_the_class(adapter: types.ModuleType) -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["lmms_eval.models"] == {"crema": f"{model_manifest.__module__}:model_manifest"}
    manifest = model_manifest()
    assert (manifest.model_id, manifest.chat_class_path) == ("crema", None)
    module, _, name = manifest.simple_class_path.rpartition(".")
    assert module == adapter.__name__
    assert getattr(adapter, name) is adapter.CremaLmms
    assert issubclass(adapter.CremaLmms, importlib.import_module("lmms_eval.api.model").lmms)


def test_the_installed_program_finds_the_model() -> None:
    installed = pytest.importorskip("lmms_eval.models.registry_v2", reason="lmms-eval is not installed")
    known = installed.ModelRegistryV2()
    assert not known.load_entrypoint_manifests()
    assert known.get_model_class("crema").__name__ == "CremaLmms"
