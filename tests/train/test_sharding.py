"""A language model shared out over processes gives the numbers of a whole one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from crema_core.common.progress import StatusLine
from crema_core.errors import OptionsError
from crema_core.evaluation.run import evaluate
from crema_core.plugins.hooks import Hooks
from crema_core.train.distributed import Distributed, leave_processes
from crema_core.train.fit import fit
from crema_core.train.steps import share_language_model
from tests.support.launch import together
from tests.train.file_modalities import random_model, write_data
from tests.train.test_processes import LONG_AND_SHORT, assert_equal_runs, train

LORA = {"rank": 2, "alpha": 4, "dropout": 0.0}


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"micro_batch_size": 1, "retained_graphs": 1},
        {"mode": "joint", "gradient_checkpointing": True},
        {"mode": "joint", "tuning": LORA},
    ],
    ids=["sequential", "in parts", "joint and checkpointed", "below a LoRA"],
)
def test_training_with_a_shared_out_language_model(
    settings: dict[str, object], t5_folder: Path, tmp_path: Path
) -> None:
    # Five samples in batches of four: in the last one, one process has nothing to compute.
    data = write_data(tmp_path / "train", 5, answers=LONG_AND_SHORT)
    options = {"eval_data": write_data(tmp_path / "valid", 3, seed=1), "eval_batch_size": 1, "epochs": 1, **settings}
    alone = train(t5_folder, data, tmp_path / "one", **options)
    first, second = together(train, t5_folder, data, tmp_path / "two", shard_language_model=True, **options)
    assert_equal_runs(alone, first)
    assert all(np.array_equal(first.parameters[key], second.parameters[key]) for key in first.parameters)


def answers_and_part(backbone: Path, data: Path, folder: Path) -> tuple[str, float]:
    model = random_model(backbone)
    before = sum(parameter.numel() for parameter in model.backbone.language_model.parameters())
    distributed = Distributed(precision="fp32", folder=folder)
    share_language_model(model, distributed)
    here = sum(getattr(own, "_local_tensor", own).numel() for own in model.backbone.language_model.parameters())
    place = folder / "answers.jsonl"
    evaluate(model, data, batch_size=2, out=place, max_new_tokens=4, num_beams=2, processes=distributed.processes)
    model.save_pretrained(folder / f"model-{distributed.processes.rank}")
    distributed.processes.wait()
    text = place.read_text()
    leave_processes()
    return text, here / before


@pytest.mark.slow
def test_generation_in_step_gives_the_same_answers(t5_folder: Path, tmp_path: Path) -> None:
    data = write_data(tmp_path / "test", 3)
    evaluate(random_model(t5_folder), data, batch_size=2, out=tmp_path / "whole", max_new_tokens=4, num_beams=2)
    (first, share), (second, _) = together(answers_and_part, t5_folder, data, tmp_path)
    assert first == second == (tmp_path / "whole").read_text()
    assert share < 0.75  # half of the layers, and all that is outside of them


def test_a_language_model_that_is_trained_whole_is_not_shared_out(t5_folder: Path) -> None:
    two = SimpleNamespace(processes=SimpleNamespace(count=2))
    with pytest.raises(OptionsError) as error:
        share_language_model(random_model(t5_folder, tuning="full"), two)
    assert str(error.value) == (
        "shard_language_model=True with tuning='full'. Only weights that are not trained are shared out: those of a "
        "frozen language model, or those below its LoRA. Build with tuning={'rank': 64, 'alpha': 16}, or leave the "
        "setting out."
    )


def test_alone_there_is_nobody_to_share_with(t5_folder: Path, tmp_path: Path) -> None:
    data = write_data(tmp_path / "train", 4)
    with pytest.raises(OptionsError) as error:
        fit(
            random_model(t5_folder),
            data,
            out=tmp_path / "run",
            shard_language_model=True,
            hooks=Hooks(strict=True),
            status=StatusLine(enabled=False),
        )
    assert str(error.value) == (
        "shard_language_model=True in one process. A language model is shared out over several, one per GPU. Start "
        "with --processes 2 or more, or leave the setting out."
    )
