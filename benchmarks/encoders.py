"""What every frozen encoder and expert costs at its real size: parameters, tokens, arithmetic, time on one core.

Each is written with random weights in the format of the released checkpoint, loaded by the code a user runs, given one
input of usual length, and let go. Time is CPU time of one thread in float32, the faster of two runs. A multiply-add
counts as two. What takes minutes for one input on one core is left out unless it is named, and said so.

    python -m benchmarks.encoders [--only siglip beats ...]
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torchvision.models.optical_flow import raft_large, raft_small
from transformers import Blip2VisionModel
from transformers.utils import logging as hf_logging

from benchmarks import real_sizes as sizes
from benchmarks.measure import peak_megabytes, report
from crema_3d.modality import PointCloudModality
from crema_3d.plugin import SPEC as POINTS
from crema_audio.modality import AudioModality
from crema_audio.plugin import SPEC as SOUND
from crema_core.modality import BuildContext, Modality
from crema_core.model.flops import FlopMeter
from crema_core.model.pretrained import load_frozen
from crema_core.video.vision_encoder import vision_encoder_class
from crema_geometry.experts.depth import DepthExpert
from crema_geometry.experts.flow import FlowExpert
from crema_geometry.experts.normals import NormalsExpert

Output = tuple[Tensor, ...]
SECOND_HZ = 16_000


class Task(NamedTuple):
    """One encoder ready to run.

    Attributes:
        given: its input, in words.
        model: whose parameters count.
        run: encodes the input; returns tokens `(..., N, D)`, or maps of an expert.
    """

    given: str
    model: nn.Module
    run: Callable[[], Tensor]


def seeing(name: str, num_frames: int) -> Callable[[Path], Task]:
    """Return how a vision encoder is made; `num_frames` 1: a picture."""

    def make(folder: Path) -> Task:
        vision_encoder = vision_encoder_class(name)(str(folder))
        vision_encoder.load()
        frames = vision_encoder.prepare(torch.randint(0, 256, (num_frames, 3, 360, 640), dtype=torch.uint8))[None]
        side = frames.shape[-1]
        given = f"picture of {side}" if num_frames == 1 else f"{num_frames} frames of {side}"
        return Task(given, vision_encoder.model, lambda: vision_encoder(frames))

    return make


def backbone(folder: Path) -> Task:
    """The vision encoder of BLIP-2, without its own normalisation."""
    model: Any = load_frozen(Blip2VisionModel, folder)
    pixels = torch.randn(1, 3, 224, 224)
    return Task("picture of 224", model, lambda: model(pixels, output_hidden_states=True).hidden_states[-1])


def hearing(name: str, *, seconds: float = 10.24, num_windows: int = 1, file: str = "") -> Callable[[Path], Task]:
    """Return how an encoder of sound is made."""

    def make(folder: Path) -> Task:
        options = {"encoder": name, "window_s": seconds / num_windows, "num_windows": num_windows}
        weights = {} if name == "patches" else {"weights": str(folder / file if file else folder)}
        modality = AudioModality(SOUND.parse_options({**options, **weights}), BuildContext())
        modality.load_assets(None)
        return _of_modality(
            modality, (torch.randn(round(seconds * SECOND_HZ)) / 10, SECOND_HZ), f"{seconds:g} s of sound"
        )

    return make


def pointing(name: str, num_points: int) -> Callable[[Path], Task]:
    """Return how an encoder of points is made."""

    def make(folder: Path) -> Task:
        weights = {"weights": str(folder / "a.pt")} if name == "pointbert" else {}
        options = POINTS.parse_options({"encoder": name, "num_points": num_points, **weights})
        modality = PointCloudModality(options, BuildContext())
        modality.load_assets(None)
        return _of_modality(modality, torch.rand(num_points, 6) * 4, f"{num_points:,} points")

    return make


def _of_modality(modality: Modality, source: object, given: str) -> Task:
    batch = modality.collate([modality.prepare(source)])
    return Task(given, modality, lambda: modality.encode(batch).values)


def looking(make_expert: Callable[[Path], Any], *, pairs: bool = False) -> Callable[[Path], Task]:
    """Return how an expert is made; it sees a frame of 640 x 360, or two."""

    def make(folder: Path) -> Task:
        expert = make_expert(folder)
        frames = torch.randint(0, 256, (1, 3, 360, 640), dtype=torch.uint8)
        given = (frames, frames.roll(4, dims=3)) if pairs else (frames,)

        def run() -> Tensor:
            found = expert(*given)
            maps: Tensor = found if isinstance(found, Tensor) else found.metres
            return maps

        return Task("2 frames 640 x 360" if pairs else "frame 640 x 360", expert.model, run)

    return make


def raft(name: str, build: Callable[..., nn.Module]) -> Callable[[Path], Any]:
    """Return how RAFT is made from a file of torchvision's."""

    def make(folder: Path) -> FlowExpert:
        folder.mkdir(parents=True)
        torch.save(build(weights=None).state_dict(), folder / "raft.pth")
        return FlowExpert(name, weights=str(folder / "raft.pth"))  # type: ignore[arg-type]

    return make


def nothing(folder: Path) -> None:
    """For encoders without weights, or whose maker writes them."""


TASKS: dict[str, tuple[Callable[[Path], None], Callable[[Path], Task]]] = {
    "backbone (ViT-g)": (sizes.save_backbone, backbone),
    "clip": (sizes.save_clip, seeing("clip", 1)),
    "siglip": (sizes.save_siglip, seeing("siglip", 1)),
    "dinov2": (sizes.save_dinov2, seeing("dinov2", 1)),
    "dinov3": (sizes.save_dinov3, seeing("dinov3", 1)),
    "timm (EVA-02-L)": (sizes.save_timm, seeing("timm", 1)),
    "vivit": (sizes.save_vivit, seeing("vivit", 32)),
    "videomae": (sizes.save_videomae, seeing("videomae", 16)),
    "vjepa2": (sizes.save_vjepa2, seeing("vjepa2", 16)),
    "languagebind": (sizes.save_languagebind, seeing("languagebind", 8)),
    "patches": (nothing, hearing("patches", num_windows=2)),
    "beats": (sizes.save_beats, hearing("beats", num_windows=2, file="beats.pt")),
    "ast": (sizes.save_ast, hearing("ast")),
    "clap (sound)": (sizes.save_hearing_clap, hearing("clap", seconds=10)),
    "whisper": (sizes.save_whisper, hearing("whisper", seconds=10)),
    "pe": (sizes.save_pe, hearing("pe", seconds=10)),
    "fourier": (nothing, pointing("fourier", 10_000)),
    "pointbert": (sizes.save_pointbert, pointing("pointbert", 10_000)),
    "ZoeDepth": (sizes.save_zoedepth, looking(lambda place: DepthExpert(str(place)))),
    "Depth Anything V2 small": (sizes.save_depth_anything, looking(lambda place: DepthExpert(str(place)))),
    "DepthPro": (sizes.save_depth_pro, looking(lambda place: DepthExpert(str(place)))),
    "TIPSv2-DPT depth": (sizes.save_tips, looking(lambda place: DepthExpert(str(place)))),
    "TIPSv2-DPT normals": (sizes.save_tips, looking(lambda place: NormalsExpert(str(place)))),
    "raft_large": (nothing, looking(raft("raft_large", raft_large), pairs=True)),
    "raft_small": (nothing, looking(raft("raft_small", raft_small), pairs=True)),
}


COUNTED_FOR_REAL = frozenset({"pe", "TIPSv2-DPT normals", "ZoeDepth", "DepthPro"})
"""Encoders with an operation that refuses the stand-ins for results nobody computed."""
LONG = frozenset({"DepthPro"})
"""35 crops of every frame through a ViT-L."""


def gflop(task: Task, *, real: bool) -> float:
    """Return the operations of a run in 10^9; unless `real`, its large products are counted and not done."""
    meter = FlopMeter("all")
    meter.enter("all", skip=not real)
    with sdpa_kernel(SDPBackend.MATH), meter, torch.no_grad():
        task.run()
    return sum(meter.flops.values()) / 1e9


@torch.no_grad()
def measure(name: str, place: Path) -> dict[str, object]:
    """Return one row."""
    save, make = TASKS[name]
    torch.manual_seed(0)
    save(place)
    task = make(place)
    counted = gflop(task, real=name in COUNTED_FOR_REAL)
    row: dict[str, object] = {
        "encoder": name, "input": task.given,
        "million parameters": round(sum(value.numel() for value in task.model.parameters()) / 1e6, 1),
        "GFLOP": round(counted, 1),
    }  # fmt: skip
    seconds, output = [], torch.empty(0)
    for _ in range(2):
        start = time.process_time()
        output = task.run()
        seconds.append(time.process_time() - start)
    return row | {"CPU s": float(f"{min(seconds):.2g}"), "output": " x ".join(map(str, output.shape[1:]))}


def rows(names: list[str]) -> Iterator[dict[str, object]]:
    """Yield the row of every named encoder, which is gone before the next is made."""
    for name in names:
        with tempfile.TemporaryDirectory() as place:
            yield measure(name, Path(place) / "weights")
        gc.collect()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[name for name in TASKS if name not in LONG],
        choices=list(TASKS),
        metavar="ENCODER",
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    hf_logging.disable_progress_bar()
    found = []
    for row in rows(options.only):
        print(row, flush=True)
        found.append(row)
    left_out = sorted(LONG - set(options.only))
    if left_out:
        print(f"left out, minutes for one input: {', '.join(left_out)}; name them with --only")
    report("encoders", found, left_out=left_out, threads=1, dtype="float32", peak_mb=round(peak_megabytes()))


if __name__ == "__main__":
    main()
