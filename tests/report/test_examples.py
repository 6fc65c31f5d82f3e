"""Examples of a report: both kinds, types alternating, samples differing."""

from __future__ import annotations

from crema_core.report.html import alternating, examples_block


def line(sample: int, kind: str, *, correct: bool) -> dict[str, object]:
    return {
        "id": f"{sample}-{kind}", "type": kind, "question": f"{kind} {sample}?", "answer": "yes",
        "prediction": "yes" if correct else "no", "correct": correct,
    }  # fmt: skip


LINES = [line(sample, kind, correct=sample != 1) for sample in range(3) for kind in ("a", "b")]


def test_types_alternate_and_samples_differ() -> None:
    assert [entry["id"] for entry in alternating(LINES, correct=True)] == ["0-a", "2-b", "2-a", "0-b"]
    assert [entry["id"] for entry in alternating(LINES, correct=False)] == ["1-a", "1-b"]


def test_right_and_wrong_ones_are_shown() -> None:
    html = examples_block(LINES, note=lambda entry: f"note {entry['id']}")
    assert html.count('class="card"') == 6
    assert html.count("wrong, expected: yes") == 2
    assert "note 2-b" in html


def test_an_evaluation_without_any_wrong_answer_is_fine() -> None:
    assert examples_block([]) == '<div class="cards"></div>'
