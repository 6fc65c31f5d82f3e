"""Small modalities for tests of core: a per-frame image modality, a static one, a sequence, a set of points.

They are real `Modality` subclasses with real specs, given to `build` as specs, so core is tested without any plugin
package and without any modality name of ours.
"""

from __future__ import annotations

from typing import Any

import av
import torch
from pydantic import Field
from torch import Tensor, nn

from crema_core.data.sampling import split_span
from crema_core.modality import Batch, BuildContext, Features, Modality, Sample
from crema_core.plugins import registry
from crema_core.plugins.spec import Capabilities, MMQASpec, ModalityOptions, ModalitySpec


class FrameOptions(ModalityOptions):
    frames: int = Field(default=3, ge=1, description="frames of an example")


class GaitOptions(ModalityOptions):
    dropout: float = Field(default=0.0, description="of the encoder")
    frozen: bool = Field(default=False, description="leave the encoder as it is")


class FramesModality(Modality):
    """Frames through the shared vision encoder."""

    def prepare(self, source: Any) -> Sample:
        frames = torch.as_tensor(source).float()
        ends = torch.arange(1, len(frames) + 1).float()
        return Sample({"frames": frames}, torch.stack([ends - 1, ends], dim=1))

    def encode(self, batch: Batch) -> Features:
        return Features(self.context.encode_frames(batch["frames"]), batch.mask, batch.times)

    def example(self, generator: torch.Generator) -> Tensor:
        return torch.randn(self.options.frames, 3, 16, 16, generator=generator)


class OtherFramesModality(FramesModality):
    """The same for a second modality: one class serves one spec."""


class WaveModality(Modality):
    """A sequence of its own length with features of another width; 3 tokens a step."""

    def prepare(self, source: Any) -> Sample:
        steps = torch.as_tensor(source).float()
        edges = torch.linspace(0, 3, len(steps) + 1)
        return Sample({"steps": steps}, torch.stack([edges[:-1], edges[1:]], dim=1))

    def encode(self, batch: Batch) -> Features:
        return Features(batch["steps"], batch.mask, batch.times)

    def example(self, generator: torch.Generator) -> Tensor:
        return torch.randn(4, 3, 10, generator=generator)


class TouchModality(WaveModality):
    """The same for a modality whose name begins another's."""


class TouchLeftModality(WaveModality):
    """The same for that other modality."""


class SoundModality(WaveModality):
    """The sound track of a file, a step for every packet that is decoded."""

    def prepare(self, source: Any) -> Sample:
        with av.open(split_span(source)[0]) as container:
            return super().prepare(torch.zeros(sum(1 for _ in container.decode(audio=0)), 3, 10))


class GaitModality(WaveModality):
    """A sequence through a small encoder that is trained."""

    def __init__(self, options: Any, context: BuildContext) -> None:
        super().__init__(options, context)
        self.net = nn.Sequential(nn.Linear(10, 16), nn.GELU(), nn.Dropout(options.dropout), nn.Linear(16, 10))

    @property
    def trainable(self) -> bool:
        return super().trainable and not self.options.frozen

    def encode(self, batch: Batch) -> Features:
        return Features(self.net(batch["steps"].to(self.net[0].weight)), batch.mask, batch.times)


class PointsModality(Modality):
    """One static step with a varying number of tokens."""

    def prepare(self, source: Any) -> Sample:
        return Sample({"points": torch.as_tensor(source).float()[None]})

    def encode(self, batch: Batch) -> Features:
        counts = batch.sizes["points"][:, 1]
        mask = torch.arange(batch["points"].shape[2])[None, None] < counts[:, None, None]
        return Features(batch["points"], mask)

    def example(self, generator: torch.Generator) -> Tensor:
        count = int(torch.randint(2, 7, (), generator=generator))
        return torch.randn(count, 6, generator=generator)


_SIZES = MMQASpec(lora_rank=2, lora_dropout=0.0)


def frames_spec(name: str, **changes: Any) -> ModalitySpec:
    """A per-frame modality."""
    return ModalitySpec(
        name=name,
        summary="frames",
        factory=f"tests.support.modalities:{'' if name == 'main' else 'Other'}FramesModality",
        encoder="vision",
        options=FrameOptions,
        prefix="Frame {index}: ",
        per_frame=True,
        **{"mmqa": _SIZES, "capabilities": Capabilities(timestamps=True, default_major=name == "main"), **changes},
    )


def wave_spec(name: str = "wave", **changes: Any) -> ModalitySpec:
    """A sequence with its own clock."""
    return ModalitySpec(
        name=name,
        summary="wave",
        factory="tests.support.modalities:WaveModality",
        encoder="own",
        prefix="Wave: ",
        **{"feature_dim": 10, "mmqa": _SIZES, **changes},
    )


def gait_spec(**changes: Any) -> ModalitySpec:
    """A sequence whose encoder is trained."""
    spec = wave_spec("gait", trainable=True, options=GaitOptions, **changes)
    return spec.model_copy(update={"factory": "tests.support.modalities:GaitModality"})


def touch_specs() -> tuple[ModalitySpec, ModalitySpec]:
    """Two modalities of which one's name begins the other's."""
    touch, left = (wave_spec(name) for name in ("touch", "touch_left"))
    return (
        touch.model_copy(update={"factory": "tests.support.modalities:TouchModality"}),
        left.model_copy(update={"factory": "tests.support.modalities:TouchLeftModality"}),
    )


def sound_spec() -> ModalitySpec:
    """Sound tracks of files."""
    return wave_spec("sound").model_copy(update={"factory": "tests.support.modalities:SoundModality"})


def points_spec(name: str = "points", **changes: Any) -> ModalitySpec:
    """A static set of points."""
    return ModalitySpec(
        name=name,
        summary="points",
        factory="tests.support.modalities:PointsModality",
        encoder="features",
        prefix="Points: ",
        **{"feature_dim": 6, "mmqa": _SIZES, **changes},
    )


def four_modalities() -> list[ModalitySpec]:
    """The major modality, another per-frame modality, a sequence and a static set."""
    return [frames_spec("main"), frames_spec("other"), wave_spec(), points_spec()]


def register_modalities() -> None:
    """Make the four modalities known by name, as loading a saved model needs them."""
    for spec in four_modalities():
        registry.register(spec)
