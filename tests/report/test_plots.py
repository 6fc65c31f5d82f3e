"""Plots: valid images that show what the numbers say."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from crema_core.report import plots
from crema_core.report.plots import accuracy_plot, gradient_plot, loss_plot

METRICS = [
    {"kind": "step", "epoch": 0, "step": 1, "loss": 2.0, "loss/a": 2.5, "loss/b": 1.5},
    {"kind": "step", "epoch": 0, "step": 2, "loss": 1.0, "loss/a": 1.0},
    {"kind": "epoch", "epoch": 0, "step": 2, "loss": 1.5, "grad_norm/a": 1.0, "grad_norm/b": 1.0},
    {"kind": "epoch", "epoch": 1, "step": 4, "loss": 1.4, "grad_norm/a": 3.0, "grad_norm/b": 0.5},
    {"kind": "exit", "epoch": 1, "step": 4, "modality": "a", "value": 3.0, "mean": 1.0, "tau": 1.8},
]


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_a_plot_is_narrow_enough_for_a_phone_and_not_empty() -> None:
    for png in (loss_plot(METRICS), gradient_plot(METRICS)):
        image = pixels(png)
        assert 600 <= image.shape[1] <= 900
        assert (image < 128).any()


def test_an_exit_is_marked() -> None:
    assert (pixels(gradient_plot(METRICS)) != pixels(gradient_plot(METRICS[:-1]))).any()


def test_a_run_without_any_logged_line_still_gives_a_plot() -> None:
    assert pixels(loss_plot([])).size
    assert pixels(gradient_plot([])).size


def test_a_number_that_was_not_finite_is_drawn_as_a_gap() -> None:
    assert pixels(loss_plot([*METRICS, {"kind": "step", "step": 3, "loss": "nan"}])).size


def test_a_heat_map_grows_with_its_rows_and_leaves_missing_cells_empty() -> None:
    one = pixels(accuracy_plot({"a": {"all": 0.5, "color": 1.0}}))
    three = pixels(accuracy_plot({"a": {"all": 0.5}, "b": {"color": 1.0}, "c": {"all": 0.1}}, mark={"b": ["color"]}))
    assert three.shape[0] > one.shape[0]


def test_epochs_of_the_axis_count_from_one_as_on_the_console(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(plots, "png_of", lambda figure, axes=None: drawn.append(figure) or b"")
    gradient_plot(METRICS, num_epochs=3)
    top, bottom = drawn[0].axes
    assert list(top.lines[0].get_xdata()) == [1, 2]
    assert [list(line.get_xdata()) for line in top.lines if line.get_marker() == "x"] == [[2]]
    assert bottom.get_xlim() == (0.5, 3.5)
    (saved,) = top.patches
    assert (saved.get_x(), saved.get_x() + saved.get_width()) == (2.5, 3.5)


@pytest.mark.parametrize("name", [r"$\\frac{1$", "costs $5 and $6", "x$^$", "a" * 300, "two\nlines", "<script>"])
def test_names_of_others_are_no_formulas_and_take_no_more_room_than_there_is(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        heat = pixels(accuracy_plot({name: {name: 0.5, "b": 1.0}}, mark={name: [name]}))
        named = [{key.replace("/a", f"/{name}"): own for key, own in line.items()} for line in METRICS]
        curves = pixels(gradient_plot(named))
    assert heat.shape[1] == 780
    assert (heat < 128).any()
    assert curves.size
