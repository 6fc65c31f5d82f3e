"""Pages: one file, nothing from outside, texts escaped, numbers inside."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from crema_core.errors import CheckpointError
from crema_core.plugins.hookspecs import ReportSection
from crema_core.report.html import (
    STYLE,
    About,
    examples_block,
    facts_block,
    figure_block,
    page,
    paragraphs,
    table_block,
)
from crema_core.report.plots import accuracy_plot
from crema_core.report.run_report import explain_changes, explain_exits, run_sections, write_run_report
from crema_core.train.metrics import read_metrics
from tests.support.pages import ATTRIBUTES, FOREIGN, TAGS, Structure, needs_browser, seen_by_browser


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


@pytest.mark.parametrize("bad", FOREIGN)
def test_texts_of_others_add_no_tag_and_no_attribute(bad: str) -> None:
    """File names, questions, choices, answers, settings, names of modalities and reasons, everywhere on a page."""
    lines = [
        {"type": bad, "question": bad, "answer": bad, "prediction": bad, "correct": own, "tied": ()}
        for own in (True, False)
    ]
    metrics = [line | {key.replace("/a", f"/{bad}"): own for key, own in line.items()} for line in EPOCHS]
    changes = [{"kind": "stop", "by": bad, "reason": bad, "step": 1, "epoch": 0}]

    def whole(text: str) -> Structure:
        about = About(file=text, choices=(text,), image=b"png", alt=text)
        answered = [own | dict.fromkeys(("type", "question", "answer", "prediction"), text) for own in lines]
        bodies = [
            table_block([[text], [text]]),
            table_block([[text], [text]], text=True),
            facts_block({text: text}),
            figure_block(b"\x89PNG", text),
            examples_block(answered, about=lambda line: about, note=lambda line: text),
            examples_block(answered[:1], about=lambda line: About(file=text, reason=text)),
            paragraphs(text, *explain_changes([changes[0] | {"by": text, "reason": text}])),
        ]  # fmt: skip
        return Structure(page(text, text, [ReportSection(text, body) for body in bodies]))

    plain, attacked = whole("P" * len(bad)), whole(bad)  # as long, so that the same is cut
    assert [tag for tag, _ in attacked.tags] == [tag for tag, _ in plain.tags]
    assert [sorted(own) for _, own in attacked.tags] == [sorted(own) for _, own in plain.tags]
    assert {tag for tag, _ in attacked.tags} <= TAGS
    assert {name for _, own in attacked.tags for name in own} <= ATTRIBUTES
    assert attacked.others == plain.others == ["doctype html"]
    assert attacked.text.count(bad) == plain.text.count("P" * len(bad)) > 20
    assert sum(bad in str(own.get("alt")) for _, own in attacked.tags) == 3
    assert bad in Structure(page("", "", [ReportSection("", paragraphs(*explain_exits(metrics, RELEASED)))])).text


def test_a_name_that_is_no_text_is_written_with_its_bytes() -> None:
    html = page("t", "l", [ReportSection("s", table_block([["file"], ["clip\udcff.mp4"]]))])
    assert "<td>clip\\udcff.mp4</td>" in html
    assert html.encode("utf-8")


def test_every_picture_has_a_text_and_tables_can_be_scrolled_by_keys() -> None:
    about = About("a.mp4", image=b"png", alt="clip of a.mp4")
    line = {"type": "", "question": "q", "answer": "a", "prediction": "a", "correct": True}
    html = examples_block([line], about=lambda own: about) + figure_block(b"png", "caption") + table_block([["a"]])
    tags = Structure(html).tags
    assert [own["alt"] for tag, own in tags if tag == "img"] == ["clip of a.mp4", "caption"]
    assert [own.get("tabindex") for tag, own in tags if own.get("class") == "scroll"] == ["0"]
    assert '<html lang="en">' in page("", "", [])


def test_tables_of_many_columns_are_set_smaller_and_long_names_wrap() -> None:
    few, many, text = [["h"] * 9, ["1"] * 9], [["h"] * 10, ["1"] * 10], [["h"] * 10, ["long"] * 10]
    assert "<table>" in table_block(few)
    assert '<table class="dense">' in table_block(many)
    assert '<table class="text">' in table_block(text, text=True)
    assert '<table class="dense long">' in table_block([many[0], ["name" * 20, *many[1][1:]]])


def test_a_wide_plot_keeps_the_size_of_its_letters() -> None:
    rows = {"a": {f"type {number}": 0.5 for number in range(30)}}
    (image,) = (own for tag, own in Structure(figure_block(accuracy_plot(rows), "wide")).tags if tag == "img")
    assert float(str(image["style"]).removeprefix("max-width: ").removesuffix("rem")) > 70
    (image,) = (own for tag, own in Structure(figure_block(accuracy_plot({"a": {"b": 1.0}}), "c")).tags if tag == "img")
    assert "style" not in image


def relative_luminance(color: str) -> float:
    digits = color.lstrip("#")
    digits = "".join(2 * own for own in digits) if len(digits) == 3 else digits[:6]
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (own / 12.92 if own <= 0.04045 else ((own + 0.055) / 1.055) ** 2.4 for own in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_every_color_of_a_text_can_be_read_on_every_ground() -> None:
    inks = re.findall(r"[{; ]color: (#[0-9a-f]+)", STYLE)
    assert len(inks) >= 5
    for ink in inks:
        for ground in ("#fff", "#f6f8fa"):
            contrast = (relative_luminance(ground) + 0.05) / (relative_luminance(ink) + 0.05)
            assert contrast >= 4.5, (ink, ground)  # WCAG 2, level AA


def test_an_example_says_what_was_expected_only_when_the_answer_is_wrong() -> None:
    line = {"type": "", "question": "q", "answer": "red"}
    wrong = examples_block([line | {"prediction": "", "correct": False}])
    assert "(nothing)" in wrong
    assert "expected: red" in wrong
    assert "expected" not in examples_block([line | {"prediction": "red", "correct": True}])
    tied = examples_block([line | {"prediction": "tie: red, blue", "correct": False, "tied": ["red", "blue"]}])
    assert "tie: red, blue</b> (not chosen, expected: red)" in tied


@pytest.mark.slow
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


@pytest.mark.slow
@needs_browser
def test_a_browser_runs_nothing_of_the_texts_of_others(tmp_path: Path) -> None:
    lines = [
        {"type": bad, "question": bad, "answer": bad, "prediction": bad, "correct": False, "tied": ()}
        for bad in FOREIGN
    ]

    def about(line: object) -> About:
        bad = FOREIGN[0]
        return About(file=bad, choices=FOREIGN, image=b"png", alt=bad)

    sections = [
        ReportSection(bad, table_block([[bad], [bad]], text=True) + facts_block({bad: bad}) + figure_block(b"png", bad))
        for bad in FOREIGN
    ]
    sections += [
        ReportSection("cards", examples_block(lines, about=about)),
        ReportSection("texts", paragraphs(*FOREIGN)),
    ]
    (tmp_path / "page.html").write_text(page(FOREIGN[0], FOREIGN[1], sections), encoding="utf-8")
    seen = Structure(seen_by_browser(tmp_path / "page.html"))
    assert {tag for tag, _ in seen.tags} <= TAGS
    assert {name for _, own in seen.tags for name in own} <= ATTRIBUTES, "OWNED is set by what runs"


@pytest.mark.slow
@needs_browser
def test_the_browser_of_these_tests_runs_what_is_not_escaped(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(f"<!doctype html><body>{FOREIGN[1]}</body>", encoding="utf-8")
    assert 'owned="1"' in seen_by_browser(tmp_path / "page.html")
