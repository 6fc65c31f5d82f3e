"""Pictures of attention and gate: heat over frames, strips where there is no frame, bars per frame."""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from crema_analysis.draw import over_pictures, spread_steps
from crema_analysis.maps import GateMap, Maps, ModalityMap
from crema_analysis.reads_report import reading_blocks
from crema_core.common.atomic import write_bytes
from crema_core.data.sheet import times_as_captions
from crema_core.plugins.hookspecs import ReportSection
from crema_core.report.html import figure_block, paragraphs
from crema_core.report.plots import COLORS, DPI, WIDTH_IN, png_of


def modality_picture(name: str, own: ModalityMap, *, layer: int | None = None) -> bytes:
    """Draw one modality's attention, at most eight steps evenly spread: over its pictures, or as strips over its
    tokens.

    Args:
        name: of the modality, for the heading.
        own: its map.
        layer: a cross-attention layer, counted from 0; None: the mean of all.

    Returns:
        a PNG image.
    """
    heat = own.heat(layer)
    if heat is None or own.pictures is None:
        return _strips(name, own, own.strips(layer))
    return over_pictures(name, heat, own.pictures, own.times)


def gate_picture(own: GateMap) -> bytes:
    """Draw, for every frame of the major modality, the gate's mean and range over queries, and modalities' shares."""
    parts = [part for part in (own.gate is not None, bool(own.shares)) if part]
    figure = Figure(figsize=(WIDTH_IN, 0.3 + 1.9 * len(parts)), dpi=DPI, layout="constrained")
    if own.gate is not None:
        axes = figure.add_subplot(len(parts), 1, 1)
        frames, mean = range(own.gate.shape[0]), own.gate.mean(1)
        low, high = own.gate.amin(1), own.gate.amax(1)
        reach = torch.stack([mean - low, high - mean]).clamp(min=0).numpy()
        axes.bar(frames, mean.numpy(), color=COLORS[0], width=0.6, yerr=reach, ecolor="#444444", capsize=3)
        axes.set_ylim(0, 1)
        axes.set_ylabel("gate", fontsize=9)
        _frames(axes, own.gate.shape[0])
    if own.shares:
        axes = figure.add_subplot(len(parts), 1, len(parts))
        bottom = torch.zeros(len(next(iter(own.shares.values()))))
        for index, (name, share) in enumerate(own.shares.items()):
            axes.bar(range(len(share)), share.numpy(), bottom=bottom.numpy(), color=COLORS[index % len(COLORS)],
                     width=0.6, label=name)  # fmt: skip
            bottom = bottom + share
        axes.set_ylim(0, 1)
        axes.set_ylabel("share", fontsize=9)
        axes.legend(fontsize=7, ncols=4, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))
        _frames(axes, len(bottom))
    return png_of(figure)


def maps_section(title: str, found: Maps, out: Path, *, layer: int | None = None) -> ReportSection:
    """Write one question's pictures into a folder and return its section of the page.

    Args:
        title: heading.
        found: what was looked at.
        out: folder for `MODALITY.png` and `gate.png`, or the pictures of `reading_blocks`.
        layer: a cross-attention layer, from 0; None: the mean of all.
    """
    parts = [paragraphs(f"{found.question}  Answer: {found.answer}")]
    for name, own in found.modalities.items():
        png = modality_picture(name, own, layer=layer)
        write_bytes(out / f"{name}.png", png)
        over = "patches of its frames" if own.grid is not None and own.pictures is not None else "feature tokens"
        where = "all cross-attention layers" if layer is None else f"cross-attention layer {layer}"
        parts.append(
            figure_block(png, f"{name}: attention of its queries over {over}, mean of heads, queries and {where}.")
        )
    for name, read in found.reads.items():
        parts += reading_blocks(name, read, out, layer=layer)
    if found.reads:
        return ReportSection(title, "".join(parts))  # such a fusion has neither gate nor sum
    if found.gate is None:
        parts.append(
            paragraphs("Nothing was fused, or this fusion has neither a gate nor a sum of modalities to show.")
        )
    else:
        png = gate_picture(found.gate)
        write_bytes(out / "gate.png", png)
        text = (
            "By frame of the major modality: the self-gated fusion's gate (mean of queries and width, lines from the "
            "lowest to the highest query), and each supporting modality's share of what is summed before the gate."
        )
        parts.append(figure_block(png, text))
    return ReportSection(title, "".join(parts))


def _strips(name: str, own: ModalityMap, strips_TN: Tensor) -> bytes:
    shown = spread_steps(strips_TN.shape[0])
    figure = Figure(figsize=(WIDTH_IN, 0.9 + 0.35 * len(shown)), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(strips_TN[shown].numpy(), cmap="inferno", vmin=0, aspect="auto", interpolation="nearest")
    axes.set_title(name, fontsize=10)
    captions = times_as_captions(own.times, strips_TN.shape[0])
    axes.set_yticks(range(len(shown)), [captions[step] for step in shown], fontsize=8)
    axes.set_xlabel("feature token", fontsize=9)
    return png_of(figure)


def _frames(axes: object, count: int) -> None:
    axes.set_xticks(range(count), [str(frame + 1) for frame in range(count)], fontsize=8)  # type: ignore[attr-defined]
    axes.set_xlabel("frame", fontsize=9)  # type: ignore[attr-defined]
