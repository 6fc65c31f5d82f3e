"""Sequential training equals the released loop: every parameter after every optimizer step.

Our engine computes tokens once and refreshes only what changed; the released loop recomputes everything. Ours runs in
float64, so that the distance to the golden float32 numbers is theirs and the same everywhere.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from crema_core.data.data_file import Record
from crema_core.data.dataset import TrainBatch
from crema_core.modality import Features
from crema_core.model.trainable import names_of, set_trainable
from crema_core.tokens import ModalityFeatures
from crema_core.train.distributed import Distributed
from crema_core.train.optim import set_learning_rate
from crema_core.train.settings import TrainSettings
from crema_core.train.steps import Minibatch, Stepper
from tests.support.golden import DATA, build_model, released, tokenizer
from tests.support.numeric import assert_close_to_scale, double_precision

FILES = sorted(path.stem for path in DATA.glob("train_sequential_*.json"))


@pytest.mark.parametrize("name", FILES)
def test_parameters_after_every_step(name: str, tmp_path: Path) -> None:
    about = json.loads((DATA / f"{name}.json").read_text())
    tensors = load_file(DATA / f"{name}.safetensors")
    weights = json.loads((DATA / "weights.json").read_text())
    modalities = list(dict.fromkeys(step["active_modality"] for step in about["steps"]))
    described = {"config": weights["config"], "modalities_in_order": modalities, "task_flags": "espresso-concat-seq"}
    model = build_model(described, tensors, tmp_path / "backbone", prefix="init.").double()
    settings = TrainSettings(weight_decay=0.05, max_grad_norm=None, early_exit_metric="lora")
    distributed = Distributed(precision="fp32", folder=tmp_path)
    stepper = Stepper(model, settings, trained=model.names, distributed=distributed)
    set_trainable(model, names_of(model, stepper.parameters.values()))
    taken: list[dict[str, torch.Tensor]] = []
    stepper.optimizer.register_step_post_hook(lambda *_: taken.append(released.export_released(model)))
    losses: list[float] = []
    norms: list[float] = []
    for iteration in range(len(about["steps"]) // len(modalities)):
        set_learning_rate(stepper.optimizer, about["steps"][iteration * len(modalities)]["lr"])
        with double_precision():
            result = stepper.sequential([minibatch(tensors, iteration, modalities)], model.names)
        losses += result.losses.values()
        norms += result.gradient_norms.values()
    assert losses == pytest.approx([step["loss_before_step"] for step in about["steps"]], abs=1e-5)
    reported = [float(value) for value in about["grad_metric"].split("[")[1].rstrip("]").split(",")]
    assert norms == pytest.approx(reported, rel=1e-4)
    for index, parameters in enumerate(taken):
        start = f"step{index:02d}.param."
        for key in (key for key in tensors if key.startswith(start)):
            assert_close_to_scale(parameters[key.removeprefix(start)], tensors[key], scale=1, ulps=8, name=key)
    for key in (key for key in tensors if key.startswith("final.")):
        assert_close_to_scale(taken[-1][key.removeprefix("final.")], tensors[key], scale=1, ulps=8, name=key)


def minibatch(tensors: dict[str, torch.Tensor], index: int, modalities: list[str]) -> Minibatch:
    """One golden batch; its texts are read back from the stored ids."""
    words = tokenizer()
    start = f"batch{index}"
    features = {}
    for name in modalities:
        values = tensors[f"{start}.features.{name}"]
        mask = torch.ones(values.shape[:2], dtype=torch.bool)
        features[f"g_{name}"] = ModalityFeatures(Features(values, mask), torch.arange(len(values)))
    questions = words.batch_decode(tensors[f"{start}.question_ids"], skip_special_tokens=True)
    answers = words.batch_decode(tensors[f"{start}.answer_ids"], skip_special_tokens=True)
    records = [
        Record(id=str(row), question=question, answer=answer, sources={}, line=row + 1)
        for row, (question, answer) in enumerate(zip(questions, answers, strict=True))
    ]
    present = {modality: own.rows for modality, own in features.items()}
    return Minibatch(TrainBatch(tuple(records), present, {}), features)
