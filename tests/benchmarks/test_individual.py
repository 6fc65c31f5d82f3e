"""The baseline of individual Q-Formers: all of each is trained, and they are apart."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.individual import build_individual
from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.common.progress import StatusLine
from crema_core.evaluation.run import evaluate
from crema_core.train.fit import fit
from tests.train.file_modalities import file_modalities, write_records


def lora_count(model: CremaModel) -> int:
    return sum(len(model.lora_parameters(name)) for name in model.names)


def test_it_starts_as_the_shared_model_does_and_trains_every_weight_of_every_qformer(
    t5_folder: Path, tmp_path: Path
) -> None:
    records = write_records(tmp_path / "data", 6)
    model = build_individual(file_modalities(num=3), backbone=str(t5_folder), seed=4)
    shared = build(file_modalities(num=3), backbone=str(t5_folder), seed=4, fusion="concat")
    # LoRA starts at zero, so before training both give the same answers.
    assert [
        evaluate(own, records, out=tmp_path / f"{index}.jsonl").accuracy for index, own in enumerate([model, shared])
    ]
    assert (tmp_path / "0.jsonl").read_text() == (tmp_path / "1.jsonl").read_text()

    assert shared.backbone.qformer is not None
    plain = sum(own.numel() for own in shared.backbone.qformer.model.parameters())
    lora = sum(own.numel() for name in shared.names for own in shared.lora_parameters(name).values())
    counts = [sum(own.numel() for own in built.trainable_parameters().values()) for built in (model, shared)]
    assert counts[0] - (counts[1] - lora) == 3 * (plain - lora)

    frozen = model.frozen_fingerprint()
    before = {key: value.clone() for key, value in model.named_parameters()}
    fit(
        model, records, out=tmp_path / "run", mode="joint", epochs=1, lr=1e-2, batch_size=3, warmup_steps=0,
        status=StatusLine(enabled=False),
    )  # fmt: skip
    moved = {key for key, value in model.named_parameters() if not torch.equal(before[key], value)}
    apart = {key for key in before if ".adapter.own." in key}
    # A key bias adds the same to all scores of a query, so its gradient is nothing but rounding.
    assert {key for key in apart - moved if not key.endswith("key.bias")} == set()
    assert not any(key.startswith("backbone.") for key in moved)
    assert model.frozen_fingerprint() == frozen
    assert len(apart) == 3 * len(list(shared.backbone.qformer.model.parameters())) - 3 * lora_count(shared)
    one, two = (model.branch(name).adapter.get_submodule("own").state_dict() for name in ("main", "wave"))
    assert any(not torch.equal(one[key], two[key]) for key in one)
