"""The thermal modality."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from crema_core.data.media import ARRAY_SUFFIXES, IMAGE_SUFFIXES
from crema_core.errors import MediaError, OptionsError
from crema_core.modality import BuildContext
from crema_thermal.modality import ThermalModality
from crema_thermal.plugin import SPEC, ThermalOptions
from crema_thermal.render import heatmap, to_celsius

PLAIN = BuildContext(image_size=8, image_mean=(0.0, 0.0, 0.0), image_std=(1.0, 1.0, 1.0))
ACCEPTED = f"A thermal image is read from {', '.join((*IMAGE_SUFFIXES, *ARRAY_SUFFIXES))}."


def frames_of(source: object, **options: object) -> torch.Tensor:
    return ThermalModality(SPEC.parse_options(dict(options)), PLAIN).prepare(source).tensors["frames"]


def refusal(source: object, **options: object) -> str:
    with pytest.raises(MediaError) as caught:
        frames_of(source, **options)
    return str(caught.value)


def kelvin(celsius: float, count: int = 1) -> np.ndarray:
    return np.full((count, 6, 10), celsius + 273.15, np.float32)


def counts(celsius: float) -> np.ndarray:
    return (kelvin(celsius)[0] * 100).round().astype(np.uint16)


def brightness(frames: torch.Tensor) -> list[float]:
    return frames.sum(dim=1).mean(dim=(1, 2)).tolist()


def test_counts_and_kelvin_become_celsius() -> None:
    torch.testing.assert_close(to_celsius(counts(36.6), 100.0), torch.full((6, 10), 36.6), atol=0.01, rtol=0)
    torch.testing.assert_close(to_celsius(kelvin(-5.0), 100.0), torch.full((1, 6, 10), -5.0), atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
def test_sixteen_bit_images_and_kelvin_arrays_look_alike(tmp_path: Path, name: str) -> None:
    Image.fromarray(counts(30.0)).save(tmp_path / name)
    np.savez(tmp_path / "a.npz", thermal=kelvin(30.0))
    np.save(tmp_path / "a.npy", kelvin(30.0)[0])
    expected = frames_of(torch.from_numpy(kelvin(30.0)))
    assert expected.shape == (1, 3, 8, 8)
    for file in (name, "a.npz", "a.npy"):
        torch.testing.assert_close(frames_of(tmp_path / file), expected, atol=1e-3, rtol=0)


def test_another_scale_is_an_option(tmp_path: Path) -> None:
    Image.fromarray((kelvin(30.0)[0] * 10).round().astype(np.uint16)).save(tmp_path / "a.png")
    frames = frames_of(tmp_path / "a.png", counts_per_kelvin=10.0)
    torch.testing.assert_close(frames, frames_of(kelvin(30.0)), atol=0.01, rtol=0)


def test_hotter_is_brighter_across_sources() -> None:
    levels = [brightness(frames_of(kelvin(celsius)))[0] for celsius in (5, 15, 25, 35, 45, 60)]
    assert levels == sorted(levels)
    assert levels[4] == levels[5]  # above the window: the brightest colour


def test_a_frame_never_changes_the_colours_of_another() -> None:
    cold, both = frames_of(kelvin(20.0)), frames_of(np.concatenate([kelvin(20.0), kelvin(40.0)]), num_frames=2)
    torch.testing.assert_close(both[:1], cold)


def test_a_window_per_clip_stretches_what_is_there() -> None:
    source = np.concatenate([kelvin(20.0), kelvin(21.0)])
    low, high = brightness(frames_of(source, num_frames=2, window="per_clip", colormap="grey"))
    assert low == pytest.approx(0, abs=0.01)
    assert high == pytest.approx(3, abs=0.01)


def test_a_uniform_clip_has_a_finite_picture() -> None:
    frames = heatmap(torch.full((1, 2, 2), 20.0), ThermalOptions(window="per_clip"))
    assert bool(torch.isfinite(frames).all())


@pytest.mark.parametrize("shape", [(6, 10), (6, 10, 3)])
def test_finished_heatmaps_are_kept(tmp_path: Path, shape: tuple[int, ...]) -> None:
    values = np.full(shape, 77, np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    for source in (tmp_path / "a.png", values):
        torch.testing.assert_close(frames_of(source), torch.full((1, 3, 8, 8), 77 / 255))


def test_a_heatmap_video_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8, options={"threads": "1"})
        stream.width = stream.height = 32
        for _ in range(8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), 100, np.uint8))))
        container.mux(stream.encode())
    torch.testing.assert_close(frames_of(path), torch.full((4, 3, 8, 8), 100 / 255), atol=0.02, rtol=0)


def test_a_sequence_of_files_gives_its_middle_frames(tmp_path: Path) -> None:
    for number in range(8):
        Image.fromarray(counts(12.0 + 4 * number)).save(tmp_path / f"{number}.png")
    expected = torch.cat([frames_of(kelvin(20.0)), frames_of(kelvin(36.0))])
    torch.testing.assert_close(frames_of(tmp_path, num_frames=2), expected, atol=1e-3, rtol=0)


def test_celsius_passed_as_kelvin_is_refused() -> None:
    assert refusal(np.full((4, 4), 21.0)) == (
        "The array has a median of 21 K. Accepted are finite temperatures around 150 to 2000 K, as floats or as 100 "
        "counts per kelvin. Set the option unit=celsius for floats in Celsius, or counts_per_kelvin for other counts."
    )


def test_float_colours_are_refused() -> None:
    assert refusal(np.zeros((1, 4, 4, 3), np.float32)) == (
        "The array has shape (1, 4, 4, 3). A thermal image has shape (H, W) or (T, H, W), or with 3 uint8 colours "
        "last. Change the layout."
    )


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.png"
    assert refusal(path) == f"'{path}' does not exist. {ACCEPTED} Check the path."


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.touch()
    assert refusal(path) == f"'{path}' is empty (0 bytes). {ACCEPTED} Write or download the file again."


def test_another_type_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("1,2")
    assert refusal(path) == f"'{path}' ends in '.csv'. {ACCEPTED} Convert the file, or pass its values as an array."


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(counts(20.0)).save(path)
    path.write_bytes(path.read_bytes()[:40])
    said = refusal(path)
    assert said.startswith(f"'{path}' cannot be read: it is cut short (Pillow: ")
    assert said.endswith(f"A picture is read from {', '.join(IMAGE_SUFFIXES)}. Write or download the file again.")


def test_an_empty_window_is_refused() -> None:
    with pytest.raises(OptionsError, match=r"hottest_c \(5\) must be above coldest_c \(10\)"):
        SPEC.parse_options({"hottest_c": 5.0})
