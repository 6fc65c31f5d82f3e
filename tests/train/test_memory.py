"""What does not fit into memory: what is said, what is kept, and who else understands it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.utils.memory import should_reduce_batch_size

from crema_core.api.answer import answer_many
from crema_core.api.model import CremaModel
from crema_core.data.data_file import read_data_file
from crema_core.errors import OutOfMemoryError
from crema_core.evaluation.run import evaluate
from crema_core.model.memory import explain_out_of_memory
from crema_core.train.settings import TrainSettings, less_memory
from tests.train.conftest import MakeModel
from tests.train.test_fit import train

FULL = (
    "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.25 GiB of which 1.00 GiB is "
    "free. Including non-PyTorch memory, this process has 78.25 GiB memory in use."
)


def full(*_: Any, **__: Any) -> Any:
    raise torch.OutOfMemoryError(FULL)


@pytest.mark.slow
def test_a_minibatch_that_does_not_fit_is_said_and_the_run_goes_on_from_its_checkpoint(
    new_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = new_model()
    calls, loss = [0], CremaModel.loss

    def third_is_full(self: CremaModel, *given: Any, **named: Any) -> torch.Tensor:
        calls[0] += 1
        return full() if calls[0] == 3 * len(model.names) + 1 else loss(self, *given, **named)

    monkeypatch.setattr(CremaModel, "loss", third_is_full)
    with pytest.raises(OutOfMemoryError) as caught:
        train(model, tmp_path, "run", checkpoint_every=1, eval_data=None)
    assert str(caught.value) == (
        "A minibatch of 2 samples does not fit into memory (CUDA out of memory. Tried to allocate 20.00 GiB). It is "
        "computed at once. Any of these needs less: gradient_checkpointing=True; micro_batch_size=1; batch_size=1 with "
        'gradient_accumulation_steps=2, which give the same numbers; retained_graphs=0; precision="bf16"; a quantized '
        "language model. "
        "crema plan estimates each."
    )
    assert str(caught.value.__cause__) == FULL
    assert should_reduce_batch_size(caught.value)
    resumed = train(
        new_model(), tmp_path, "run", resume=True, eval_data=None, checkpoint_every=1, gradient_checkpointing=True
    )
    assert resumed.num_steps == 6


@pytest.mark.parametrize(
    ("settings", "ways"),
    [
        (
            {"batch_size": 3, "mode": "joint", "precision": "bf16"},
            "gradient_checkpointing=True; micro_batch_size=1; a quantized language model",
        ),
        (
            {"batch_size": 4, "gradient_accumulation_steps": 2, "gradient_checkpointing": True, "precision": "bf16"},
            "micro_batch_size=2; batch_size=2 with gradient_accumulation_steps=4, which give the same numbers; a "
            "quantized language model",
        ),
        (
            {"batch_size": 5, "micro_batch_size": [1, 4], "gradient_checkpointing": True, "precision": "bf16"},
            "micro_batch_size=2; retained_graphs=0; a quantized language model",
        ),
        (
            {"batch_size": 7, "micro_batch_size": 1, "gradient_checkpointing": True, "precision": "bf16"},
            "retained_graphs=0; a quantized language model",
        ),
    ],
)
def test_only_what_is_not_done_yet_is_advised(settings: dict[str, Any], ways: str) -> None:
    assert less_memory(TrainSettings(**settings)) == f"Any of these needs less: {ways}. crema plan estimates each."


@pytest.mark.slow
def test_questions_that_do_not_fit_are_said_with_the_size_of_their_batch(
    new_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = new_model()
    train(model, tmp_path, "run", epochs=1)
    monkeypatch.setattr(CremaModel, "prompt", lambda *_, **__: torch.empty(10**15))
    said = (
        r"^A pass over {} questions does not fit into memory \(\[enforce fail at [^\]]*\] .*DefaultCPUAllocator: can't "
        r"allocate memory: you tried to allocate 4000000000000000 bytes\)\. It is computed at once\. Give a smaller "
        r"batch_size \(--batch-size; eval_batch_size in training\), or load the model quantized\.$"
    )
    with pytest.raises(OutOfMemoryError, match=said.format(4)) as caught:
        evaluate(model, tmp_path / "valid" / "data.jsonl", batch_size=4)
    assert should_reduce_batch_size(caught.value)
    assert not model.training
    record = read_data_file(tmp_path / "valid" / "data.jsonl", modalities=model.names)[0]
    with pytest.raises(OutOfMemoryError, match=said.format(16)):
        answer_many(model, [{"question": record.question, **record.sources}])


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), OutOfMemoryError("said")])
def test_other_errors_and_what_is_said_already_pass(error: RuntimeError) -> None:
    with pytest.raises(type(error)) as caught, explain_out_of_memory("A pass", "Less."):
        raise error
    assert caught.value is error
