"""Settings of an evaluation, whole or by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from crema_core.errors import OptionsError
from crema_core.evaluation.run import evaluate
from crema_core.evaluation.settings import EvaluationSettings
from tests.train.conftest import MakeModel
from tests.train.file_modalities import write_records


def test_settings_whole_and_as_keywords_are_the_same(tmp_path: Path, new_model: MakeModel) -> None:
    model, records = new_model(), write_records(tmp_path / "data", 4)
    whole = EvaluationSettings(modalities=("main",), batch_size=2, max_new_tokens=2)
    named = evaluate(model, records, modalities=["main"], batch_size=2, max_new_tokens=2)
    assert replace(evaluate(model, records, whole), duration_s=0.0) == replace(named, duration_s=0.0)
    assert evaluate(model, records, whole, modalities=[]).modalities == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batchsize": 2}, "evaluate: unknown option 'batchsize'. Accepted: .* Did you mean 'batch_size'?"),
        ({"batch_size": 0}, "evaluate.batch_size: input should be greater than or equal to 1, got 0. Give another"),
        ({"prompts": "datset"}, "evaluate.prompts: input should be 'model' or 'dataset', got 'datset'. Give another"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_is_accepted(
    tmp_path: Path, new_model: MakeModel, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(OptionsError, match=message):
        evaluate(new_model(), write_records(tmp_path / "data", 2), **changes)  # type: ignore[arg-type]
