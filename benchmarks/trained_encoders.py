"""What a new sensor gains from a trained encoder: accuracy with a frozen random one, a trained one, a pretrained one.

Two sensors nobody has a pretrained encoder of, each alone in a model and asked about held-out recordings:

- `imu`, the example package: which way a person turns is in the phase between accelerometer and gyroscope, and in no
  mean or spread. Pretrained on captions of further recordings (`fit`, preset "pretrain").
- `tap`, a sensor of the generated world: eight channels record a tap on the touched object, whose material is a tone in
  one direction of the channels, below louder noise in all others. Pretrained on unlabelled pairs with the world's touch
  images, whose encoder is the backbone's (`pretrain`).

A frozen encoder of taps has the weights a trained one begins with; that of turns is the package's own. Every result is
printed as a line of JSON when it is there; at the end mean and standard deviation over seeds.

Needs the example beside core: pip install -e examples/crema-imu.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field
from torch import Tensor, nn

from benchmarks.measure import report
from crema_core import Batch, BuildContext, Features, Modality, ModalityOptions, ModalitySpec, Sample
from crema_core.api.build import build
from crema_core.errors import MediaError
from crema_core.evaluation.run import evaluate
from crema_core.plugins.spec import InputSpec
from crema_core.train.contrastive import pretrain
from crema_core.train.fit import fit
from crema_world.generate import draw_scenes
from crema_world.questions import MATERIALS, TEMPLATE_OF_TYPE
from crema_world.touch import touch_image

STATES = ("frozen random", "trained", "pretrained")
BACKBONE = "crema-tiny"
MMQA = {"lora_rank": 16, "lora_dropout": 0.0}

CHANNELS, WINDOWS, POINTS = 8, 4, 32
CYCLES = dict(zip(MATERIALS, (3.0, 5.0, 7.0, 9.0), strict=True))
"""Cycles of a material's tone in a window."""
NOISE, HISS = 2.0, 0.3
"""Standard deviation of the noise in the other directions and in all, beside a tone of amplitude 1."""


class TapOptions(ModalityOptions):
    """Which encoder."""

    encoder: Literal["frozen", "trained"] = Field(default="trained", description="whether the encoder is trained")


TAP = ModalitySpec(
    name="tap",
    summary="Eight channels that record a tap on an object.",
    factory="benchmarks.trained_encoders:TapModality",
    options=TapOptions,
    inputs=(InputSpec(kind="array", suffixes=(".npy",), description="(8, 128) float32"),),
    encoder="own",
    trainable=True,
    feature_dim=64,
    prefix="Tap: ",
)


class TapModality(Modality):
    """Windows of a recording through a small convolutional network."""

    options: TapOptions

    def __init__(self, options: ModalityOptions, context: BuildContext) -> None:
        super().__init__(options, context)
        self.net = nn.Sequential(nn.Conv1d(CHANNELS, 32, 9, padding=4), nn.GELU(), nn.Conv1d(32, 64, 9), nn.GELU())
        self.norm = nn.LayerNorm(64)

    @property
    def trainable(self) -> bool:
        """Whether the encoder is trained: an option chooses."""
        return self.options.encoder == "trained"

    def prepare(self, source: Any) -> Sample:
        """Cut a recording into windows `(T, C, P)`."""
        try:
            recording = torch.as_tensor(source if isinstance(source, Tensor) else np.load(source)).float()
            windows = recording.reshape(CHANNELS, WINDOWS, POINTS).transpose(0, 1)
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise MediaError(f"'{source}' is no recording (8, 128). Write it again.") from error
        return Sample({"windows": windows.contiguous()})

    def encode(self, batch: Batch) -> Features:
        """Return `(B, T, 1, D)`: means over time of what the network finds."""
        found = self.net(batch["windows"].flatten(0, 1)).mean(-1).unflatten(0, tuple(batch.mask.shape))
        return Features(self.norm(found)[:, :, None], batch.mask)

    def example(self, generator: torch.Generator) -> Tensor:
        """Return noise `(C, T * P)`."""
        return torch.randn(CHANNELS, WINDOWS * POINTS, generator=generator)


def write_taps(folder: Path, *, num_clips: int, seed: int, split: Literal["train", "valid", "test"]) -> Path:
    """Write taps and touch images of scenes of the world, and a data file that asks for the material."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng([seed, num_clips])
    lines = []
    for number, scene in enumerate(draw_scenes(num_clips=num_clips, seed=seed, split=split)):
        material = scene.answers.material
        np.save(folder / f"{number}.npy", tap_of(material, generator))
        Image.fromarray(touch_image(scene)).save(folder / f"{number}.png")
        question = {"question": TEMPLATE_OF_TYPE["material"], "answer": material, "choices": list(MATERIALS)}
        lines.append({"id": str(number), **question, "tap": f"{number}.npy", "touch": f"{number}.png"})
    return _write_lines(folder, lines)


def tap_of(material: str, generator: np.random.Generator) -> NDArray[np.float32]:
    """Return a recording `(8, 128)`."""
    time_s = np.arange(WINDOWS * POINTS) / POINTS
    cycles = CYCLES[material] * generator.uniform(0.95, 1.05)
    tone = generator.uniform(0.8, 1.2) * np.sin(2 * math.pi * (cycles * time_s + generator.uniform()))
    direction = np.cos(1.7 * np.arange(CHANNELS) + 0.4)
    direction /= np.linalg.norm(direction)
    noise = generator.normal(0, NOISE, (CHANNELS, time_s.size))
    noise -= np.outer(direction, direction @ noise)
    hiss = generator.normal(0, HISS, noise.shape)
    return (np.outer(direction, tone) + noise + hiss).astype(np.float32)


TURN = "which way does the person turn?"
TURNS = ("left", "right")


def write_turns(folder: Path, *, num_clips: int, seed: int, caption: bool = False) -> Path:
    """Write recordings of turning persons, and a data file that asks for the way or, as captions, describes it."""
    from crema_imu.recording import COLUMNS

    folder.mkdir(parents=True)
    generator = np.random.default_rng([seed, num_clips, 7])
    lines = []
    for number in range(num_clips):
        way = TURNS[number % 2]
        with (folder / f"{number}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *turn_of(way, generator)])
        asked = {"question": TURN, "answer": way, "choices": list(TURNS)}
        described = {"question": "describe everything.", "answer": f"moving {way} ."}
        lines.append({"id": str(number), **(described if caption else asked), "imu": f"{number}.csv"})
    return _write_lines(folder, lines)


def turn_of(way: str, generator: np.random.Generator) -> list[list[float]]:
    """Two seconds at 50 Hz: sideways acceleration and roll at one rate, a quarter of a cycle apart, before or after.

    The other channels swing too, more strongly and each at a rate of its own, which says nothing of the way.
    """
    lag = 0.25 if way == "left" else -0.25
    rate, phase, strength = generator.uniform(2.0, 4.0), generator.uniform(), generator.uniform(1.5, 3.0)
    times = np.arange(100) / 50
    values = generator.normal(0, 0.3, (100, 6))
    values[:, 2] += 9.81
    for channel, size in ((0, 6.0), (2, 6.0), (4, 2.0), (5, 2.0)):
        swing = generator.uniform(1.0, 4.0) * times + generator.uniform()
        values[:, channel] += size * np.sin(2 * math.pi * swing)
    values[:, 1] += strength * np.sin(2 * math.pi * (rate * times + phase))
    values[:, 3] += strength / 3 * np.sin(2 * math.pi * (rate * times + phase + lag))
    return [
        [round(float(at), 3), *(round(float(own), 4) for own in row)] for at, row in zip(times, values, strict=True)
    ]


def _write_lines(folder: Path, lines: Sequence[Mapping[str, object]]) -> Path:
    place = folder / "data.jsonl"
    place.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return place


class Sizes(NamedTuple):
    """How much is trained on what."""

    train: int  # recordings with a question
    pretrain: int  # further ones, with a caption or a pair
    test: int
    epochs: int
    pretrain_epochs: int


class Accuracy(NamedTuple):
    """One result.

    Attributes:
        sensor: the modality.
        state: of its encoder.
        accuracy: of held-out questions, 0..1.
    """

    sensor: str
    state: str
    accuracy: float


Pretrained = Callable[[], Path]
"""Returns the folder of an adapter with a pretrained encoder."""


def measure(out: Path, sizes: Sizes, seed: int, sensors: Sequence[str]) -> Iterator[Accuracy]:
    """Yield every result of one seed."""
    if "imu" in sensors:
        train = write_turns(out / "imu-train", num_clips=sizes.train, seed=seed)
        test = write_turns(out / "imu-test", num_clips=sizes.test, seed=seed + 1000)
        from crema_imu.plugin import SPEC

        requests = {"name": SPEC, "encoder": "random"}, {"name": SPEC, "encoder": "learned"}
        yield from _states("imu", requests, train, test, out, sizes, seed, lambda: _on_captions(out, sizes, seed))
    if "tap" in sensors:
        train = write_taps(out / "tap-train", num_clips=sizes.train, seed=seed, split="train")
        test = write_taps(out / "tap-test", num_clips=sizes.test, seed=seed, split="test")
        taps = {"name": TAP, "encoder": "frozen"}, {"name": TAP, "encoder": "trained"}
        yield from _states("tap", taps, train, test, out, sizes, seed, lambda: _on_pairs(out, sizes, seed))


def _states(
    sensor: str,
    requests: tuple[Mapping[str, Any], Mapping[str, Any]],
    train: Path,
    test: Path,
    out: Path,
    sizes: Sizes,
    seed: int,
    pretrained: Pretrained,
) -> Iterator[Accuracy]:
    for state in STATES:
        model = build([requests[state != STATES[0]]], backbone=BACKBONE, mmqa=MMQA, seed=seed)
        if state == "pretrained":
            model.load_adapter(pretrained())
        place = out / f"{sensor}-{state.replace(' ', '-')}"
        fit(model, train, out=place, preset="tiny", early_exit=None, epochs=sizes.epochs, batch_size=16, seed=seed)
        yield Accuracy(sensor, state, evaluate(model, test, batch_size=32).accuracy)


def _on_captions(out: Path, sizes: Sizes, seed: int) -> Path:
    from crema_imu.plugin import SPEC

    data = write_turns(out / "imu-captions", num_clips=sizes.pretrain, seed=seed + 500, caption=True)
    model = build([{"name": SPEC, "encoder": "learned"}], backbone=BACKBONE, mmqa=MMQA, seed=seed)
    settings = {"lr": 2e-3, "precision": "fp32", "num_workers": 0, "epochs": sizes.pretrain_epochs, "seed": seed}
    fit(model, data, out=out / "imu-pretrain", preset="pretrain", **settings)
    model.save_adapter("imu", out / "imu-adapter")
    return out / "imu-adapter"


def _on_pairs(out: Path, sizes: Sizes, seed: int) -> Path:
    data = write_taps(out / "tap-pairs", num_clips=sizes.pretrain, seed=seed, split="valid")
    model = build(["touch", {"name": TAP}], backbone=BACKBONE, mmqa=MMQA, seed=seed, major="touch")
    roles: dict[str, Any] = {"modality": "tap", "against": "touch", "out": out / "tap-pretrain"}
    pretrain(model, data, **roles, epochs=sizes.pretrain_epochs, batch_size=64, seed=seed)
    model.save_adapter("tap", out / "tap-adapter")
    return out / "tap-adapter"


def summary(found: Sequence[Accuracy]) -> list[dict[str, object]]:
    """Return mean and standard deviation over seeds of every sensor and state, in percent."""
    rows: dict[tuple[str, str], list[float]] = {}
    for one in found:
        rows.setdefault((one.sensor, one.state), []).append(100 * one.accuracy)
    return [
        {
            "sensor": sensor,
            "encoder": state,
            "accuracy": round(statistics.mean(values), 1),
            "deviation": round(statistics.stdev(values), 1) if len(values) > 1 else None,
        }
        for (sensor, state), values in rows.items()
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=Path("runs/trained-encoders"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sensors", nargs="+", choices=("imu", "tap"), default=["imu", "tap"])
    parser.add_argument("--train", type=int, default=100, help="recordings with a question")
    parser.add_argument("--pretrain", type=int, default=3000, help="further recordings, with a caption or a pair")
    parser.add_argument("--test", type=int, default=400, help="held-out recordings")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--pretrain-epochs", type=int, default=8)
    given = parser.parse_args(arguments)
    sizes = Sizes(given.train, given.pretrain, given.test, given.epochs, given.pretrain_epochs)
    found = []
    for seed in given.seeds:
        for one in measure(given.out / f"seed-{seed}", sizes, seed, given.sensors):
            found.append(one)
            print(json.dumps({"seed": seed, **one._asdict()}), flush=True)
    minutes = round(time.process_time() / 60, 1)
    report("trained_encoders", summary(found), seeds=given.seeds, sizes=sizes._asdict(), cpu_minutes=minutes)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
