"""RGB frames from clips, pictures and memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from crema_core.data import images
from crema_core.data.images import FRAME_SUFFIXES, read_frames, resize
from crema_core.errors import MediaError


def refusal(source: object, **settings: float) -> str:
    with pytest.raises(MediaError) as caught:
        read_frames(source, num_frames=2, **settings)  # type: ignore[arg-type]
    return str(caught.value)


def pictures(folder: Path, count: int) -> list[str]:
    for number in range(count):
        Image.new("RGB", (6, 4), (10 * number, 0, 255)).save(folder / f"{number}.png")
    return [str(folder / f"{number}.png") for number in range(count)]


def test_a_folder_and_a_list_of_pictures_are_clips_without_a_clock(tmp_path: Path) -> None:
    paths = pictures(tmp_path, 16)
    for source in (str(tmp_path), tmp_path, paths):
        clip = read_frames(source, num_frames=4)
        assert clip.frames.shape == (4, 3, 4, 6)
        assert clip.frames[:, 0, 0, 0].tolist() == [20, 60, 100, 140]
        assert clip.times is None


def test_another_rule_may_pick_the_frames(tmp_path: Path) -> None:
    paths = pictures(tmp_path, 16)
    array = np.stack([np.array(Image.open(path)) for path in paths])
    for source in (str(tmp_path), paths, array):
        clip = read_frames(source, num_frames=4, pick=lambda available, wanted: [0, 5, 10, available - 1][:wanted])
        assert clip.frames[:, 0, 0, 0].tolist() == [0, 50, 100, 150]


def test_a_single_picture_stays_single(tmp_path: Path) -> None:
    (path,) = pictures(tmp_path, 1)
    for source in (path, [path], Image.open(path), np.array(Image.open(path))):
        clip = read_frames(source, num_frames=4)
        assert clip.frames.shape == (1, 3, 4, 6)
        assert clip.frames[0, 2].min() == 255


def test_both_layouts_of_arrays_are_read() -> None:
    frames = torch.randint(0, 256, (8, 3, 5, 7), dtype=torch.uint8)
    expected = frames[[2, 6]]
    for source in (frames, frames.numpy(), frames.permute(0, 2, 3, 1), frames.permute(0, 2, 3, 1).numpy()):
        assert torch.equal(read_frames(source, num_frames=2).frames, expected)


def test_three_frames_are_not_mistaken_for_channels() -> None:
    """The released code permutes whenever the second dimension is 3."""
    frames = torch.rand(3, 3, 5, 7)
    assert torch.equal(read_frames(frames, num_frames=3).frames, frames)


@pytest.mark.parametrize("shape", [(4, 5), (2, 4, 5, 6), (0, 3, 4, 4), (2, 2, 3, 4, 4)])
def test_other_layouts_are_refused(shape: tuple[int, ...]) -> None:
    assert refusal(torch.zeros(shape)) == (
        f"A clip or picture came as Tensor of shape {shape} and type float32. Accepted: (T, H, W, 3), (T, 3, H, W), "
        "(H, W, 3) or (3, H, W), uint8 0..255 or float 0..1. Change the layout."
    )


def test_floats_beyond_one_are_refused() -> None:
    assert refusal(torch.full((3, 4, 4), 255.0)) == (
        "Pixels came as floats from 255 to 255. Float pixels are in 0..1. Divide by 255, or pass uint8."
    )


def test_a_part_of_pictures_has_no_meaning() -> None:
    assert refusal(torch.zeros(3, 4, 4), start_s=1.0) == (
        "start_s and end_s were given for pictures without a clock. They need a clip file. Leave them out, or pass "
        "only the pictures of that part."
    )


def test_an_absent_file_may_be_a_clip_or_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    assert refusal(path) == (
        f"'{path}' does not exist. A clip or picture is read from {', '.join(FRAME_SUFFIXES)}. Check the path."
    )


def test_resize_gives_squares_in_the_unit_range() -> None:
    checker = (torch.arange(40)[:, None] // 5 + torch.arange(60) // 5) % 2 * 255
    frames = checker.to(torch.uint8).expand(2, 3, 40, 60)
    small = resize(frames, 16)
    assert small.shape == (2, 3, 16, 16)
    assert small.dtype == torch.float32
    assert float(small.min()) >= 0
    assert float(small.max()) <= 1


@pytest.mark.parametrize("size", [(3, 3), (3, 4), (1, 3), (5, 3)])
def test_a_picture_of_three_pixels_has_the_layout_of_every_other(size: tuple[int, int], tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for source in (tmp_path / "a.png", Image.fromarray(pixels), [tmp_path / "a.png"]):
        assert np.array_equal(read_frames(source, num_frames=1).frames[0].permute(1, 2, 0).numpy(), pixels)


@pytest.mark.parametrize("shape", [(7, 3, 40, 60), (2, 3, 700, 900), (3, 1, 1, 5), (2, 3, 16, 16)])
def test_frames_resized_in_pieces_are_those_resized_at_once(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    monkeypatch.setattr(images, "_AT_ONCE", 3 * 40 * 60 * 2)
    frames = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    before = frames.clone()
    for given in (frames, frames.float() / 255):
        values = frames.float() / 255
        expected = torch.nn.functional.interpolate(
            values, size=(16, 16), mode="bicubic", antialias=True, align_corners=False
        )
        assert torch.equal(resize(given, 16), values if shape[-2:] == (16, 16) else expected.clamp(0, 1))
    assert torch.equal(frames, before)


def test_large_pictures_are_resized_as_small_ones_are_to_a_byte() -> None:
    rows, columns = torch.arange(1000)[:, None], torch.arange(1001)[None]
    large = torch.stack([rows % 256 + 0 * columns, columns % 256 + 0 * rows, (rows * columns) % 251])[None]
    exact = resize(large / 255, 32)
    found = resize(large.to(torch.uint8), 32)
    torch.testing.assert_close(found, exact, atol=1 / 255, rtol=0)
    assert torch.equal((found * 255).round() / 255, found)  # bytes
    assert not torch.equal(found, exact)


def test_resize_keeps_frames_of_the_right_size() -> None:
    frames = torch.rand(2, 3, 16, 16)
    assert torch.equal(resize(frames, 16), frames)
