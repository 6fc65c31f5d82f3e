"""The fingerprint of features: what changes it, what must not, and what it leaves alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from crema_core.api.build import build
from crema_core.data.limits import MAX_SECONDS
from crema_core.errors import OptionsError
from crema_core.modality import Batch, BuildContext, Features, Modality, Sample
from crema_core.plugins.spec import Capabilities
from crema_core.saving.fingerprint import TOLERANCES, feature_changes, feature_fingerprint
from tests.support.modalities import FrameOptions, FramesModality, WaveModality, frames_spec, points_spec, wave_spec


class Encoded(WaveModality):
    """A wave whose features a function makes of the prepared ones `(B, T, 3, 10)`."""

    spec = wave_spec()

    def __init__(self, change: Callable[[Tensor], Tensor] = lambda values: values, **context: Any) -> None:
        super().__init__(wave_spec().options(), BuildContext(**context))
        self.change = change

    def encode(self, batch: Batch) -> Features:
        return Features(self.change(batch["steps"]), batch.mask, batch.times)


def change(first: Modality, second: Modality) -> str | None:
    return feature_changes(feature_fingerprint(first), feature_fingerprint(second))


def test_the_same_modality_has_the_same_fingerprint() -> None:
    first, second = feature_fingerprint(Encoded()), feature_fingerprint(Encoded())
    assert first == second
    assert first.keys() == {"feature_dim", "arithmetic", "encoded"}
    assert first["encoded"].keys() == {"values", "mask", "times"}
    assert first["encoded"]["values"]["shape"] == [1, 4, 3, 10]
    assert first["arithmetic"] == "float32"


@pytest.mark.parametrize(
    "altered",
    [
        lambda values: values * 1.01,
        lambda values: values + 0.01,
        lambda values: values.flip(1),
        lambda values: values.flip(3),
        lambda values: -values,
        lambda values: values.roll(1, dims=2),
        lambda values: torch.where(torch.arange(10) == 3, 0, values),
    ],
)
def test_a_changed_encode_is_seen(altered: Callable[[Tensor], Tensor]) -> None:
    found = change(Encoded(), Encoded(altered))
    assert found is not None
    assert found.startswith("differ by ")


def test_the_number_of_a_change_is_its_length_relative_to_the_features() -> None:
    noise = torch.randn(1, 400, 3, 10, generator=torch.Generator().manual_seed(0))

    class Long(Encoded):
        def example(self, generator: torch.Generator) -> Tensor:
            return torch.randn(400, 3, 10, generator=generator)

    found = change(Long(), Long(lambda values: values + 0.2 * noise))
    assert found is not None
    assert 10 < float(found.removeprefix("differ by ").removesuffix("%")) < 30


def test_rounding_of_the_arithmetic_is_not_a_change() -> None:
    assert change(Encoded(), Encoded(lambda values: values * (1 + 1e-5))) is None
    rounded = Encoded(lambda values: values.bfloat16())
    assert feature_fingerprint(rounded)["arithmetic"] == "bfloat16"
    assert change(Encoded(), rounded) is None
    assert change(Encoded(), Encoded(lambda values: (values * 1.2).bfloat16())) is not None


def test_each_format_is_compared_by_its_own_step() -> None:
    steps = {name: torch.finfo(getattr(torch, name)).eps for name in ("float16", "bfloat16")}
    assert all(8 * step <= TOLERANCES[name] <= 16 * step for name, step in steps.items())
    tf32 = 2**-10
    assert TOLERANCES["float32"] == tf32


def test_other_shapes_and_other_tensors_are_named() -> None:
    assert change(Encoded(), Encoded(lambda values: values[:, :, :2])) == "differ in shape: 1x4x3x10 -> 1x4x2x10"

    class Untimed(Encoded):
        def encode(self, batch: Batch) -> Features:
            return Features(batch["steps"], batch.mask)

    class Late(Encoded):
        def encode(self, batch: Batch) -> Features:
            assert batch.times is not None
            return Features(batch["steps"], batch.mask, batch.times + 0.5)

    assert change(Encoded(), Untimed()) == "differ by 'times', which is gone"
    assert change(Untimed(), Encoded()) == "differ by 'times', which is new"
    assert str(change(Encoded(), Late())).endswith("% ('times')")


def test_work_that_moves_from_encode_to_prepare_changes_nothing() -> None:
    class Early(Encoded):
        def prepare(self, source: Any) -> Sample:
            return Sample({"steps": torch.as_tensor(source) * 2}, super().prepare(source).times)

    assert change(Encoded(lambda values: values * 2), Early()) is None


def test_what_is_padded_and_masked_away_does_not_count() -> None:
    class Padded(Encoded):
        fill = 0.0

        def encode(self, batch: Batch) -> Features:
            mask = torch.tensor([[True, True, True, False]])
            return Features(batch["steps"].masked_fill(~mask[..., None, None], self.fill), mask)

    other = Padded()
    other.fill = 7.0
    assert change(Padded(), other) is None


def test_a_modality_that_sees_is_compared_without_running_the_backbone(t5_folder: Path) -> None:
    runs: list[torch.Size] = []

    def seeing(brightness: float = 0.0, **context: Any) -> FramesModality:
        class Seeing(FramesModality):
            spec = frames_spec("main")

            def prepare(self, source: Any) -> Sample:
                sample = super().prepare(source)
                return Sample({"frames": sample.tensors["frames"] + brightness}, sample.times)

        def vision(pixels: Tensor) -> Tensor:
            runs.append(pixels.shape)
            return torch.zeros(len(pixels), 4, 24)

        return Seeing(FrameOptions(), BuildContext(vision=vision, vision_dim=24, **context))

    first = seeing()
    vision = first.context.vision
    assert feature_fingerprint(first)["encoded"]["values"]["shape"] == [1, 3, 17, 24]
    assert first.context.vision is vision
    assert runs == []
    assert change(first, seeing()) is None
    assert change(first, seeing(0.05)) is not None
    assert change(first, seeing(dtype=torch.bfloat16)) is None
    model = build([frames_spec("main")], backbone=t5_folder)
    assert feature_fingerprint(model.branch("main").modality)["encoded"]["values"]["shape"][:3] == [1, 3, 17]


def test_one_moved_pixel_of_a_modality_that_sees_is_seen() -> None:
    class Seeing(FramesModality):
        spec = frames_spec("main")
        shift = 0

        def prepare(self, source: Any) -> Sample:
            return super().prepare(torch.as_tensor(source).roll(self.shift, dims=-1))

    context = {"vision": lambda pixels: pixels, "vision_dim": 24}
    moved = Seeing(FrameOptions(), BuildContext(**context))
    moved.shift = 1
    assert change(Seeing(FrameOptions(), BuildContext(**context)), moved) is not None


def test_of_tokens_the_backbone_makes_what_is_prepared_is_compared() -> None:
    class Own(Encoded):
        own_tokens = True
        scale = 1.0

        def prepare(self, source: Any) -> Sample:
            return super().prepare(torch.as_tensor(source) * self.scale)

        def encode(self, batch: Batch) -> Features:
            raise AssertionError("the backbone would run")

    other = Own()
    other.scale = 2.0
    assert feature_fingerprint(Own()).keys() == {"feature_dim", "arithmetic", "prepared"}
    assert change(Own(), Own()) is None
    assert str(change(Own(), other)).startswith("are prepared otherwise by ")


def test_whole_numbers_may_be_rounded_otherwise_by_one() -> None:
    class Pixels(Encoded):
        own_tokens = True
        add, factor = 0, 1

        def prepare(self, source: Any) -> Sample:
            pixels = torch.arange(256, dtype=torch.uint8)[None]
            return Sample({"pixels": (pixels // self.factor).clamp(max=255 - self.add) + self.add})

    rounded, darker = Pixels(), Pixels()
    rounded.add, darker.factor = 1, 2
    assert change(Pixels(), rounded) is None
    assert change(Pixels(), darker) is not None


def test_a_bound_that_is_none_is_not_taken_for_a_change_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MAX_SECONDS, "soon")
    with pytest.raises(OptionsError, match=f"^{MAX_SECONDS} is 'soon'. Accepted is "):
        feature_fingerprint(Encoded())


def test_random_features_have_no_fingerprint() -> None:
    class Random(Encoded):
        spec = wave_spec(capabilities=Capabilities(deterministic=False))

    assert feature_fingerprint(Random()) == {"feature_dim": 10}
    assert feature_changes(feature_fingerprint(Encoded()), feature_fingerprint(Random())) is None


def test_generators_gradients_and_mode_are_left_as_they_were() -> None:
    class Drawing(Encoded):
        def example(self, generator: torch.Generator) -> Tensor:
            return super().example(generator) + torch.randn(())

    modality = Drawing()
    before = torch.get_rng_state()
    first = feature_fingerprint(modality)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert feature_fingerprint(Drawing()) == first


def test_a_frozen_modality_is_encoded_once_and_a_trained_one_every_time() -> None:
    runs = []

    def count(values: Tensor) -> Tensor:
        runs.append(1)
        return values

    modality = Encoded(count)
    for _ in range(2):
        feature_fingerprint(modality)
    assert len(runs) == 1
    trained = Encoded(count)
    trained.scale = torch.nn.Parameter(torch.ones(()))
    for _ in range(2):
        feature_fingerprint(trained)
    assert len(runs) == 3
    feature_fingerprint(copy.copy(modality))  # another object, as after loading
    assert len(runs) == 4


def test_a_fault_is_recorded_and_said_where_the_other_side_had_none() -> None:
    class Broken(Encoded):
        def prepare(self, source: Any) -> Sample:
            raise RuntimeError("no driver.")

    found = feature_fingerprint(Broken())
    assert found == {"feature_dim": 10, "failed": "RuntimeError: no driver"}
    assert change(Encoded(), Broken()) == "cannot be compared, its example fails (RuntimeError: no driver)"
    assert change(Broken(), Encoded()) is None


def test_weights_on_the_meta_device_have_none(t5_folder: Path) -> None:
    modality = build([frames_spec("main"), points_spec()], backbone=t5_folder).branch("points").modality
    modality.weight = torch.nn.Parameter(torch.empty(2, device="meta"), requires_grad=False)
    assert feature_fingerprint(modality) == {"feature_dim": 6}


def test_a_backbone_that_sees_whole_clips_has_a_stand_in_that_does() -> None:
    class Clips(FramesModality):
        spec = frames_spec("main")

        def prepare(self, source: Any) -> Sample:
            return Sample({"frames": torch.as_tensor(source)[None]})

        def encode(self, batch: Batch) -> Features:
            return Features(self.context.encode_frames(batch["frames"]), batch.mask)

    context = BuildContext(vision=lambda pixels: pixels, vision_dim=24, whole_clips=True)
    found = feature_fingerprint(Clips(FrameOptions(), context))
    assert found["encoded"]["values"]["shape"] == [1, 1, 3 * 17, 24]
