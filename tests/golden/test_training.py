"""Sequential training equals the released loop: every parameter after every optimizer step.

Our engine computes tokens once and refreshes only what changed; the released loop recomputes everything. Tolerance
1e-6 absolute on parameters, as the golden files suggest (measured: below 3e-7).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from crema_core.data.collate import TrainBatch
from crema_core.data.manifest import Record
from crema_core.modality import Features
from crema_core.model.trainable import names_of, set_trainable
from crema_core.saving.convert import export_released
from crema_core.tokens import SenseFeatures
from crema_core.train.distributed import Distributed
from crema_core.train.optim import set_learning_rate
from crema_core.train.settings import TrainSettings
from crema_core.train.steps import Minibatch, make_stepper
from tests.support.golden import DATA, build_model, tokenizer

FILES = sorted(path.stem for path in DATA.glob("train_sequential_*.json"))


@pytest.mark.parametrize("name", FILES)
def test_parameters_after_every_step(name: str, tmp_path: Path) -> None:
    about = json.loads((DATA / f"{name}.json").read_text())
    tensors = load_file(DATA / f"{name}.safetensors")
    weights = json.loads((DATA / "weights.json").read_text())
    senses = list(dict.fromkeys(step["active_modality"] for step in about["steps"]))
    described = {"config": weights["config"], "modalities_in_order": senses, "task_flags": "espresso-concat-seq"}
    model = build_model(described, tensors, tmp_path / "backbone", prefix="init.")
    settings = TrainSettings(weight_decay=0.05, clip_norm=None, early_exit_metric="lora")
    sync = Distributed(precision="fp32", folder=tmp_path)
    stepper = make_stepper(model, settings, trained=model.names, sync=sync)
    set_trainable(model, names_of(model, stepper.parameters.values()))
    taken: list[dict[str, torch.Tensor]] = []
    stepper.optimizer.register_step_post_hook(lambda *_: taken.append(export_released(model)))
    losses: list[float] = []
    norms: list[float] = []
    for iteration in range(len(about["steps"]) // len(senses)):
        set_learning_rate(stepper.optimizer, about["steps"][iteration * len(senses)]["lr"])
        result = stepper.sequential([minibatch(tensors, iteration, senses)], model.names)
        losses += result.losses.values()
        norms += result.gradient_norms.values()
    assert losses == pytest.approx([step["loss_before_step"] for step in about["steps"]], abs=1e-5)
    reported = [float(value) for value in about["grad_metric"].split("[")[1].rstrip("]").split(",")]
    assert norms == pytest.approx(reported, rel=1e-4)
    for index, parameters in enumerate(taken):
        start = f"step{index:02d}.param."
        for key in (key for key in tensors if key.startswith(start)):
            torch.testing.assert_close(parameters[key.removeprefix(start)], tensors[key], atol=1e-6, rtol=0)
    for key in (key for key in tensors if key.startswith("final.")):
        torch.testing.assert_close(taken[-1][key.removeprefix("final.")], tensors[key], atol=1e-6, rtol=0)


def minibatch(tensors: dict[str, torch.Tensor], index: int, senses: list[str]) -> Minibatch:
    """One golden batch; its texts are read back from the stored ids."""
    words = tokenizer()
    start = f"batch{index}"
    features = {}
    for name in senses:
        values = tensors[f"{start}.features.{name}"]
        mask = torch.ones(values.shape[:2], dtype=torch.bool)
        features[f"g_{name}"] = SenseFeatures(Features(values, mask), torch.arange(len(values)))
    questions = words.batch_decode(tensors[f"{start}.question_ids"], skip_special_tokens=True)
    answers = words.batch_decode(tensors[f"{start}.answer_ids"], skip_special_tokens=True)
    records = [
        Record(id=str(row), question=question, answer=answer, sources={}, line=row + 1)
        for row, (question, answer) in enumerate(zip(questions, answers, strict=True))
    ]
    present = {sense: own.rows for sense, own in features.items()}
    return Minibatch(TrainBatch(tuple(records), present, {}), features)
