"""Which modality matters: variants, pairs, intervals and what is said of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from crema_analysis.ablation import Ablation, Cell, Variant, ablate
from crema_analysis.ablation_report import write_ablation
from crema_core.api.model import CremaModel
from crema_core.data.data_file import Record
from crema_core.errors import OptionsError
from crema_core.evaluation.run import evaluate
from tests.train.conftest import MakeModel
from tests.train.file_modalities import write_data, write_records


def hear(model: CremaModel, monkeypatch: pytest.MonkeyPatch, truth: dict[float, str]) -> None:
    """Let the model answer right exactly where the first number of its wave tells the answer."""
    heard: list[dict[int, float]] = []

    def tokens(name, features, questions=None):  # type: ignore[no-untyped-def]
        if name == "wave":
            heard.append(dict(zip(features.rows.tolist(), features.features.values[:, 0, 0, 0].tolist(), strict=True)))
        return own_tokens(name, features, questions)

    def generate(prompt, **_):  # type: ignore[no-untyped-def]
        known = heard.pop() if heard else {}
        return [truth.get(round(known.get(row, 9.0), 4), "nothing") for row in range(len(prompt.mask))]

    own_tokens = model.modality_tokens
    monkeypatch.setattr(model, "modality_tokens", tokens)
    monkeypatch.setattr(model, "generate", generate)


def listening(
    new_model: MakeModel, monkeypatch: pytest.MonkeyPatch, folder: Path, count: int
) -> tuple[CremaModel, list[Record]]:
    model = new_model()
    records = [record for record in write_records(folder, count, modalities="mw") if "wave" in record.sources]
    truth = {}
    for record in records:
        source = record.sources["wave"]
        branch = model.branch("wave")
        batch = branch.modality.collate([branch.modality.prepare(source)])
        truth[round(float(branch.modality.encode(batch).values[0, 0, 0, 0]), 4)] = record.answer
    hear(model, monkeypatch, truth)
    return model, records


@pytest.mark.slow
def test_the_modality_that_answers_is_found_and_modalities_the_data_lack_are_left_aside(
    new_model: MakeModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model, records = listening(new_model, monkeypatch, tmp_path / "data", 16)
    found = ablate(model, records, batch_size=1)
    by_label = {variant.label: variant for variant in found.variants}
    assert list(by_label) == [
        "all modalities",
        *("without main", "without wave"),
        *("question alone", "main", "+ wave"),
        *("main of another clip", "wave of another clip"),
    ]
    assert by_label["all modalities"].cell("all").accuracy == 1.0
    assert by_label["without main"].cell("all").change == 0.0
    assert by_label["without wave"].cell("color").change == -1.0
    assert by_label["question alone"].cell("all").accuracy == 0.0
    assert [by_label[own].cell("all").accuracy for own in ("main", "+ wave")] == [0, 1]
    assert by_label["wave of another clip"].cell("all").accuracy < 1.0
    assert found.needed() == {"color": ("wave",), "side": ("wave",), "all": ("wave",)}
    assert (found.num_questions, found.num_clips) == (12, 12)


@pytest.mark.slow
def test_accuracies_are_those_of_an_evaluation(new_model: MakeModel, tmp_path: Path) -> None:
    model, records = new_model(), write_records(tmp_path / "data", 7)
    found = ablate(model, records, what=["leave-one-out", "shuffled"], seed=3)
    for variant in found.variants:
        shuffle = variant.modality if variant.what == "shuffled" else None
        alone = evaluate(model, records, modalities=variant.modalities, shuffle=shuffle, seed=3)
        assert {cell.name: cell.accuracy for cell in variant.cells} == {**alone.by_type, "all": alone.accuracy}
        assert variant.tokens_per_answer == alone.tokens_per_answer
    assert [variant.what for variant in found.variants] == ["all", *["leave-one-out"] * 4, *["shuffled"] * 4]


def test_growing_sets_follow_the_order_given(new_model: MakeModel, tmp_path: Path) -> None:
    found = ablate(
        new_model(), write_data(tmp_path / "data", 3), what="growing", order=["points", "main", "wave", "other"]
    )
    assert [variant.modalities for variant in found.of("growing")] == [
        (),
        ("points",),
        ("main", "points"),
        ("main", "wave", "points"),
        ("main", "other", "wave", "points"),
    ]
    assert "modalities they need" not in str(found)


def test_questions_with_choices_and_without_are_matched_and_repeated_ids_are_no_problem(
    new_model: MakeModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = new_model()
    records = [replace(own, id="same", answer="red") for own in write_records(tmp_path / "data", 4)]
    records[1] = replace(records[1], choices=("red", "blue"))
    monkeypatch.setattr(model, "score_choices", lambda prompt, choices: [[1.0, 0.0]] * len(choices))
    monkeypatch.setattr(model, "generate", lambda prompt, **_: ["blue"] * len(prompt.mask))
    found = ablate(model, records, what="growing")
    assert [cell.accuracy for cell in found.variants[0].cells] == [0.5, 0.0, 0.25]
    assert [cell.name for cell in found.variants[0].cells] == ["color", "side", "all"]


def test_ties_count_as_draws_and_are_told(
    new_model: MakeModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = new_model()
    records = [replace(own, choices=("red", "blue"), answer="red") for own in write_records(tmp_path / "data", 4)]

    def score(prompt, choices):  # type: ignore[no-untyped-def]
        return [[-0.5, -0.5 if "tie" in said else -2.0]] * len(choices)

    said: list[str] = []
    monkeypatch.setattr(model, "score_choices", score)
    assert "Ties" not in str(ablate(model, records, what="growing"))
    said.append("tie")
    found = ablate(model, records, what="growing")
    assert {variant.num_ties for variant in found.variants} == {4}
    assert {cell.accuracy for variant in found.variants for cell in variant.cells} == {0.5}
    assert {cell.change for variant in found.variants for cell in variant.cells} == {0.0}
    assert "Ties, each counted as a draw among the choices of equal score: all modalities 4, question" in str(found)


@pytest.mark.slow
def test_an_interrupted_ablation_goes_on(new_model: MakeModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model, records = new_model(), write_records(tmp_path / "data", 5)
    plain = ablate(model, records, what="leave-one-out")
    own, calls = model.generate, []

    def generate(prompt, **options):  # type: ignore[no-untyped-def]
        calls.append(len(prompt.mask))
        if len(calls) == 5:
            raise KeyboardInterrupt
        return own(prompt, **options)

    monkeypatch.setattr(model, "generate", generate)
    with pytest.raises(KeyboardInterrupt):
        ablate(model, records, what="leave-one-out", out=tmp_path / "out", batch_size=2)
    assert ablate(model, records, what="leave-one-out", out=tmp_path / "out", batch_size=2, resume=True) == plain
    assert sum(calls[5:]) == 5 * 5 - 7  # seven questions were answered before the interruption


@pytest.mark.slow
def test_a_report_says_what_is_needed_and_json_holds_everything(new_model: MakeModel, tmp_path: Path) -> None:
    found = ablate(new_model(), write_records(tmp_path / "data", 5))
    data = json.loads(json.dumps(found.to_dict()))
    assert data["variants"][0]["label"] == "all modalities"
    assert data["variants"][0]["cells"][-1]["name"] == "all"
    assert set(data["needed"]) == {"color", "side", "all"}
    assert str(found).splitlines()[0].split() == ["modalities", "color", "side", "all"]


def cells(changes: Sequence[tuple[float, float, float]]) -> tuple[Cell, ...]:
    return tuple(Cell(name, 0.5, 4, 0.4, 0.6, *change) for name, change in zip(("color", "all"), changes, strict=True))


def test_only_losses_whose_interval_lies_below_zero_count_and_the_greatest_comes_first() -> None:
    still = (0.0, 0.0, 0.0)
    variants = [
        Variant("all modalities", "all", ("a", "b", "c"), "", cells([still, still]), 9.0),
        Variant("without a", "leave-one-out", ("b", "c"), "a", cells([(-0.2, -0.3, -0.1), (-0.1, -0.3, 0.1)]), 9.0),
        Variant("without b", "leave-one-out", ("a", "c"), "b", cells([(-0.4, -0.5, -0.2), (0.2, 0.1, 0.3)]), 9.0),
        Variant("question alone", "growing", (), "", cells([(-0.5, -0.6, -0.4), (-0.5, -0.6, -0.4)]), 9.0),
        Variant("c of another clip", "shuffled", ("a", "b", "c"), "c", cells([still, (-0.3, -0.4, -0.2)]), 9.0),
    ]
    found = Ablation(tuple(variants), 4, 4)
    assert found.needed() == {"color": ("b", "a"), "all": ("c",)}
    assert str(found).splitlines()[2:4] == ["without a          50.0-  50.0", "without b          50.0-  50.0+"]


def test_an_unknown_comparison_is_refused(new_model: MakeModel, tmp_path: Path) -> None:
    with pytest.raises(OptionsError) as error:
        ablate(new_model(), write_records(tmp_path / "data", 2), what="shufled")  # type: ignore[arg-type]
    assert str(error.value) == (
        "'shufled' is not a comparison. Comparisons: leave-one-out, growing, shuffled. Did you mean 'shuffled'? Name "
        "one or more of these."
    )


def test_an_order_that_lacks_a_modality_is_refused(new_model: MakeModel, tmp_path: Path) -> None:
    with pytest.raises(OptionsError) as error:
        ablate(new_model(), write_records(tmp_path / "data", 2), order=["wave", "main"])
    assert str(error.value) == (
        "order='wave,main' is not an order of the modalities that are asked. Each of main, other, wave, points comes "
        "once. Write them in the order in which they are added, or leave order out."
    )


def test_the_model_is_left_as_it_was(new_model: MakeModel, tmp_path: Path) -> None:
    model = new_model()
    model.train()
    before = {key: value.clone() for key, value in model.trainable_parameters().items()}
    ablate(model, write_records(tmp_path / "data", 2), what="growing")
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.trainable_parameters().items())


def test_what_an_ablation_chooses_itself_is_refused(new_model: MakeModel, tmp_path: Path) -> None:
    with pytest.raises(OptionsError) as caught:
        ablate(new_model(), write_records(tmp_path / "data", 2), shuffle="wave")
    assert str(caught.value) == (
        "ablate: 'shuffle' came, which ablate chooses itself. Accepted: batch_size, max_new_tokens, num_beams, "
        "num_workers, seed, scorer, prompts, fusion, on_error, max_skipped, out, resume. Leave shuffle out."
    )


def one_wave(folder: Path) -> Path:
    """Write data in which all questions have the same wave."""
    data = write_data(folder, 6, modalities="mw")
    lines = [json.loads(line) | {"wave": "wave-0.npy"} for line in data.read_text().splitlines()]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return data


@pytest.mark.slow
def test_comparisons_that_the_data_do_not_allow_are_left_out_and_named(new_model: MakeModel, tmp_path: Path) -> None:
    data = one_wave(tmp_path / "data")
    found = ablate(new_model(), data)
    assert [own.modality for own in found.of("shuffled")] == ["main"]
    assert list(found.left_out) == ["wave of another clip"]
    assert "- wave of another clip: all questions have the same source of wave, and exchanging needs two" in str(found)
    assert found.to_dict()["left_out"] == found.left_out
    assert "Not compared" in write_ablation(tmp_path / "out", found).read_text()
    only = data.with_name("only.jsonl")
    lines = [json.loads(line) for line in data.read_text().splitlines()]
    only.write_text("".join(json.dumps({k: v for k, v in own.items() if k != "main"}) + "\n" for own in lines))
    with pytest.raises(OptionsError, match="Nothing can be compared: wave of another clip: all questions"):
        ablate(new_model(), only, what="shuffled")


@pytest.mark.slow
def test_all_variants_are_asked_the_questions_whose_files_can_all_be_read(new_model: MakeModel, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", 8, modalities="mp")
    (tmp_path / "data" / "main-1.npy").write_bytes(b"damaged")
    (tmp_path / "data" / "points-4.npy").unlink()
    found = ablate(new_model(), data, on_error="skip", max_skipped=0.5)
    assert [(own.line, own.modality, own.why) for own in found.skipped] == [
        (2, "main", "unreadable"),
        (5, "points", "missing"),
    ]
    assert {own.cell("all").number for own in found.variants} == {6}
    assert "- data.jsonl line 5, points: points-4.npy does not exist" in str(found)
    assert "Samples that were left out" in write_ablation(tmp_path / "out", found).read_text()
