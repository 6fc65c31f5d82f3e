"""Maps of one question: pictures below patches, strips elsewhere, the gate per frame."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from crema_analysis.maps import ModalityMap, attention_maps, require_layer
from crema_core.api.build import build
from crema_core.errors import OptionsError, UnknownModalityError
from crema_core.evaluation.run import evaluate
from crema_core.fusion.connector import Connector, QFormerText
from crema_core.tokens import ModalityFeatures, ModalityTokens
from tests.train.conftest import MakeModel
from tests.train.file_modalities import write_records


def test_maps_have_patches_for_pictures_and_tokens_for_the_rest(new_model: MakeModel, tmp_path: Path) -> None:
    model, record = new_model(), write_records(tmp_path, 1)[0]
    model.train()
    maps = attention_maps(model, record.question, record.sources)
    assert model.training
    assert list(maps.modalities) == ["main", "other", "wave", "points"]
    main, wave, points = (maps.modalities[name] for name in ("main", "wave", "points"))
    assert main.weights.shape == (1, 2, 5, 5)  # one cross-attention, two frames, five queries, a class token and 2 x 2
    assert main.grid == (2, 2)
    assert main.heat() is not None
    assert torch.equal(main.heat(0), main.strips()[:, 1:].view(2, 2, 2))  # type: ignore[arg-type]
    assert main.pictures is not None
    assert main.pictures.shape == (2, 3, 16, 16)
    assert (float(main.pictures.min()), float(main.pictures.max())) == (0.0, 1.0)
    assert main.times is not None
    assert main.times.tolist() == [[0.0, 1.0], [1.0, 2.0]]
    assert (wave.weights.shape, wave.grid, wave.pictures, wave.heat()) == ((1, 2, 5, 3), None, None, None)
    assert (points.weights.shape[1], points.grid) == (1, None)
    for own in maps.modalities.values():
        torch.testing.assert_close(own.strips().sum(-1), torch.ones(own.weights.shape[1]))
    assert maps.gate is not None
    assert maps.gate.gate is not None
    assert maps.gate.gate.shape == (2, 5)
    assert list(maps.gate.shares) == ["other", "wave", "points"]
    torch.testing.assert_close(sum(maps.gate.shares.values()), torch.ones(2))


def test_the_answer_is_that_of_an_evaluation(
    new_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, (record,) = new_model(), write_records(tmp_path / "data", 1)
    evaluate(model, [record], out=tmp_path / "open.jsonl")
    assert attention_maps(model, record.question, record.sources).answer == _answer(tmp_path / "open.jsonl")
    chosen = replace(record, choices=("red", "blue", record.answer))
    evaluate(model, [chosen], out=tmp_path / "chosen.jsonl")
    found = attention_maps(model, chosen.question, chosen.sources, choices=chosen.choices)
    assert found.answer == _answer(tmp_path / "chosen.jsonl")
    monkeypatch.setattr(model, "score_choices", lambda prompt, choices: [[-2.0, -0.5, -0.5]])
    found = attention_maps(model, chosen.question, chosen.sources, choices=("red", "blue", "left"))
    assert found.answer == "tie: blue, left"


def _answer(path: Path) -> str:
    text: str = json.loads(path.read_text())["prediction"]
    return text


def test_the_major_modality_alone_has_no_gate_and_everything_is_plain_data(
    new_model: MakeModel, tmp_path: Path
) -> None:
    model, record = new_model(), write_records(tmp_path, 1, modalities="m")[0]
    maps = attention_maps(model, record.question, record.sources)
    assert maps.gate is None
    data = json.loads(json.dumps(maps.to_dict()))
    assert (data["gate"], data["shares"], data["modalities"]["main"]["grid"]) == (None, {}, [2, 2])
    assert len(data["modalities"]["main"]["attention"]) == 2


def test_one_layer_or_the_mean_of_all() -> None:
    weights = torch.stack([torch.full((1, 2, 4), 0.25), torch.tensor([[[1.0, 0, 0, 0], [0, 1.0, 0, 0]]])])
    own = ModalityMap(weights, torch.zeros(1, 3, 4, 4), (2, 2), None)
    assert own.strips(1).tolist() == [[0.5, 0.5, 0.0, 0.0]]
    assert own.heat().tolist() == [[[0.375, 0.375], [0.125, 0.125]]]  # type: ignore[union-attr]


class NoQFormer(Connector):
    """Hands the features themselves to the fusion."""

    width = 24

    def forward(self, features: ModalityFeatures, text: QFormerText | None = None) -> ModalityTokens:
        values, mask, times, _ = features.features
        return ModalityTokens(values, mask, features.rows, times)


def test_mistakes_are_named(new_model: MakeModel) -> None:
    model = new_model()
    with pytest.raises(UnknownModalityError, match="no modality 'wav'"):
        attention_maps(model, "?", {"wav": "a.npy"})
    with pytest.raises(OptionsError) as error:
        attention_maps(model, "what?", {})
    assert str(error.value) == (
        "The question 'what?' comes without any source, so there is nothing to look at. Accepted: one or more of main, "
        "other, wave, points. Name a line that has some."
    )
    for name in model.names:
        model.branch(name).adapter = NoQFormer()
    with pytest.raises(OptionsError) as error:
        attention_maps(model, "what?", {"main": "a.npy", "wave": "b.npy"})
    assert str(error.value) == (
        "None of main, wave passes a Q-Former in this model, so no queries look at them. Accepted: models on a "
        "backbone in BLIP-2 format, whose modalities do, and fusions whose visual tokens read the others (pave). Use "
        "such a model."
    )
    require_layer(model, None)
    require_layer(model, 0)
    with pytest.raises(OptionsError) as error:
        require_layer(model, 1)
    assert str(error.value) == (
        "layer=1 is no cross-attention layer of this Q-Former. It has 1, 0 to 0. Name one of them, or leave layer out "
        "for their mean."
    )


def test_modalities_that_pass_the_qformer_together_have_no_maps() -> None:
    model = build(["video"], backbone="crema-tiny", fusion="mixture")
    with pytest.raises(OptionsError) as caught:
        attention_maps(model, "what ?", {"video": torch.zeros(1, 3, 32, 32)})
    assert str(caught.value) == (
        "The fusion 'mixture' lets all modalities pass the Q-Former together, so no queries look at one of them alone. "
        "Accepted: models whose modalities pass it one by one. Build with fusion='token_mixture', or another one."
    )
