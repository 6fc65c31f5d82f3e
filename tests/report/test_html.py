"""Pages: one file, nothing from outside, texts escaped, numbers inside."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from crema_core.errors import CheckpointError
from crema_core.plugins.hookspecs import ReportSection
from crema_core.report.html import examples_block, facts_block, figure_block, page, table_block
from crema_core.report.run_report import explain_exits, run_sections, write_run_report
from crema_core.train.metrics import read_metrics


def external_references(html: str) -> list[str]:
    """Return everything a browser would fetch: there must be nothing."""
    places = re.findall(r"""(?:src|href|srcset|action|data|poster)\s*=\s*["']([^"']*)""", html)
    places += re.findall(r"""url\(\s*["']?([^"')]*)""", html) + re.findall(r"@import[^;]*", html)
    return [place for place in places if not place.startswith("data:")]


def test_a_page_is_one_document_that_fits_a_phone() -> None:
    html = page("T & t", "lead <1>", [ReportSection("First", "<p>body</p>")])
    assert html.startswith("<!doctype html>")
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in html
    assert "<h1>T &amp; t</h1>" in html
    assert "lead &lt;1&gt;" in html
    assert "<h2>First</h2>\n<p>body</p>" in html
    assert "<script" not in html


def test_texts_of_others_are_escaped() -> None:
    bad = '<script>alert("1")</script>'
    line = {"type": bad, "question": bad, "answer": bad, "prediction": bad, "correct": False}
    for html in (
        table_block([["h"], [bad]]),
        facts_block({bad: bad}),
        figure_block(b"png", bad),
        examples_block([line]),
    ):
        assert "<script" not in html
        assert "&lt;script&gt;" in html


def test_an_example_says_what_was_expected_only_when_the_answer_is_wrong() -> None:
    line = {"type": "", "question": "q", "answer": "red"}
    wrong = examples_block([line | {"prediction": "", "correct": False}])
    assert "(nothing)" in wrong
    assert "expected: red" in wrong
    assert "expected" not in examples_block([line | {"prediction": "red", "correct": True}])
    tied = examples_block([line | {"prediction": "tie: red, blue", "correct": False, "tied": ["red", "blue"]}])
    assert "tie: red, blue</b> (not chosen, expected: red)" in tied


def test_a_runs_report_has_no_external_reference_and_contains_its_numbers(trained: Path) -> None:
    path = write_run_report(trained, title="Run")
    html = path.read_text(encoding="utf-8")
    assert external_references(html) == []
    assert html.count('src="data:image/png;base64,') == 2
    for title in ("Training", "Why a modality stopped", "Settings", "Environment"):
        assert f"<h2>{title}</h2>" in html
    settings = json.loads((trained / "config.json").read_text())["settings"]
    assert f"<td>batch_size</td><td>{settings['batch_size']}</td><td>16</td>" in html
    last = [line for line in read_metrics(trained / "metrics.jsonl") if line["kind"] == "epoch"][-1]
    assert [key for key in last if key.startswith("grad_norm/")] == ["grad_norm/video", "grad_norm/depth"]
    assert "video trained to the end: no epoch of it was tested." in html


def test_sections_come_in_order(trained: Path) -> None:
    titles = [section.title for section in run_sections(trained)]
    assert titles == ["Training", "Why a modality stopped", "Settings", "Environment"]


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no run to continue"):
        write_run_report(tmp_path, title="Run")


EPOCHS = [
    {"kind": "epoch", "epoch": epoch, "sub_steps/a": 10, "sub_steps/b": 5, "seconds/a": 3.0, "seconds/b": 1.0} | own
    for epoch, own in enumerate(
        [
            {"grad_norm/a": 1.0, "grad_norm/b": 1.0},
            {"grad_norm/a": 3.0, "grad_norm/b": 0.9, "exit_threshold/a": 1.8, "exit_threshold/b": 1.8},
        ]
    )
] + [
    {"kind": "epoch", "epoch": epoch, "sub_steps/b": 5, "seconds/b": 1.0, "grad_norm/b": norm, "exit_threshold/b": 1.7}
    for epoch, norm in ((2, 1.5), (3, 0.1))
]
EXIT = {"kind": "exit", "epoch": 1, "step": 4, "modality": "a", "value": 3.0, "mean": 1.0, "num_epochs": 1, "tau": 1.8}
RELEASED = {"early_exit": 1.8, "early_exit_start_epoch": 1, "early_exit_reference": "all"} | {
    "early_exit_loss_drop": None,
    "epochs": 4,
}


def test_an_exit_is_explained_with_its_numbers_and_what_it_saved() -> None:
    assert explain_exits([*EPOCHS, EXIT], RELEASED) == [
        "A modality exits at the end of an epoch when the mean gradient norm of its LoRA is above 1.8 times the mean "
        "of the epochs before (tested from epoch 2 on).",
        "40 of 60 sub-steps were made: early exit saved 33% of them, about 6s at what a sub-step of each modality "
        "took.",
        "a stopped after epoch 2: its gradient norm was 3, and 1.8 times the mean of the 1 epochs before (1) is 1.8.",
        "b trained to the end: it was nearest to an exit in epoch 3, with a gradient norm of 1.5; exiting needed more "
        "than 1.7.",
    ]


def test_the_epochs_from_the_peak_on_are_named_in_the_rule() -> None:
    rule = explain_exits(EPOCHS, {"early_exit": 0.9, "epochs": 20, "early_exit_metric": "adapter"})[0]
    assert rule == (
        "A modality exits at the end of an epoch when the mean gradient norm of its adapter is above 0.9 times the "
        "mean of the epochs from its highest on, 5 or more (tested from epoch 6 on), unless the loss is "
        "more than 10% below that of the three epochs before."
    )


def test_a_modality_that_the_loss_held_back_is_explained() -> None:
    held = [line | ({"exit_held/b": 1} if line["epoch"] == 2 else {}) for line in EPOCHS]
    assert explain_exits(held, {"early_exit": 0.9, "epochs": 4})[-1] == (
        "b trained to the end: in epoch 3 its norm was high enough, but the loss still fell."
    )


def test_a_rule_that_cannot_fire_is_said_in_the_report() -> None:
    _, cannot, text, _ = explain_exits(EPOCHS[:1], {**RELEASED, "epochs": 2})
    assert cannot.startswith("early_exit=1.8 cannot shorten this run")
    assert text == "a trained to the end: no epoch of it was tested."


def test_early_exit_switched_off_is_said() -> None:
    assert explain_exits(EPOCHS, {"early_exit": None}) == [
        "Early exit was off: every modality trained for all 4 epochs."
    ]
