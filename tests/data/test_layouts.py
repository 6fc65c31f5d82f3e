"""Which dimension is which: the usual layouts of arrays, and the ambiguous ones, which are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crema_core.data.images import read_frames, read_stack
from crema_core.data.layouts import MapLayout, with_time
from crema_core.errors import MediaError

SIDES = st.integers(5, 12)
MAP = MapLayout("a map", None, False)
HEAT = MapLayout("a heatmap", None, True)


def refusal(values: np.ndarray, layout: MapLayout = MAP) -> str:
    with pytest.raises(MediaError) as caught:
        with_time(values, layout, "The array")
    return str(caught.value)


@given(count=st.integers(2, 9), height=SIDES, width=SIDES)
def test_maps_of_one_number_per_pixel_in_every_layout(count: int, height: int, width: int) -> None:
    maps = np.arange(count * height * width, dtype=np.float32).reshape(count, height, width)
    for layout in (MAP, HEAT):
        for values in (maps, maps[..., None], maps[:, None]):
            assert np.array_equal(with_time(values, layout, "x"), maps)
        for values in (maps[0], maps[:1], maps[0, ..., None], maps[:1, None], maps[:1, ..., None]):
            assert np.array_equal(with_time(values, layout, "x"), maps[:1])


@given(channels=st.sampled_from([2, 3]), count=st.integers(2, 9), height=SIDES, width=SIDES)
def test_maps_of_several_numbers_per_pixel_in_every_layout(channels: int, count: int, height: int, width: int) -> None:
    layout = MapLayout("a field", channels, False)
    maps = np.arange(count * height * width * channels, dtype=np.float32).reshape(count, height, width, channels)
    for values in (maps, maps.transpose(0, 3, 1, 2)):
        assert np.array_equal(with_time(values, layout, "x"), maps)
        assert np.array_equal(with_time(values[0], layout, "x"), maps[:1])


@given(count=st.integers(4, 9), height=SIDES, width=SIDES)
def test_grey_pictures_with_their_channel(count: int, height: int, width: int) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (count, height, width), dtype=np.uint8)
    expected = np.repeat(grey[:, None], 3, axis=1)
    for values in (grey[..., None], grey[:, None]):
        assert np.array_equal(read_frames(values, num_frames=count).frames, expected)
        assert np.array_equal(read_frames(values[0], num_frames=count).frames, expected[:1])


@given(count=st.integers(4, 9), height=SIDES, width=SIDES)
def test_pictures_in_every_layout(count: int, height: int, width: int) -> None:
    shape = (count, height, width, 3)
    pictures = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    first = pictures.transpose(0, 3, 1, 2)
    clear = np.concatenate([pictures, np.full((*shape[:3], 1), 9, np.uint8)], axis=-1)
    for values in (pictures, first, clear, list(pictures), list(first), [torch.from_numpy(own) for own in pictures]):
        assert np.array_equal(read_frames(values, num_frames=count).frames, first)
    for values in (pictures[0], first[0], clear[0]):
        assert np.array_equal(read_frames(values, num_frames=count).frames, first[:1])
    for values in (pictures[0], clear[0], first[:1]):
        assert np.array_equal(with_time(values, HEAT, "x"), pictures[:1])
    for values in (pictures, first, clear):
        assert np.array_equal(with_time(values, HEAT, "x"), pictures)


def test_one_map_with_a_channel_is_one_map_not_one_per_row() -> None:
    values = np.random.default_rng(0).random((64, 48, 1))
    assert np.array_equal(read_stack(values, what="a map", readers={}, num_frames=4), values[..., 0][None])


@pytest.mark.parametrize(
    ("shape", "readings", "advice"),
    [
        ((480, 640, 3), "one map with 3 numbers per pixel or 480 maps of 640 x 3",
         "values[..., 0] for the first, values[..., None] for the second"),
        ((480, 640, 2), "one map with 2 numbers per pixel or 480 maps of 640 x 2",
         "values[..., 0] for the first, values[..., None] for the second"),
        ((5, 1, 1), "one map of 5 x 1 or 5 maps of 1 x 1",
         "values[..., 0] for the first, values[..., None] for the second"),
        ((4, 1, 9, 1), "4 maps of 1 x 9 or of 9 x 1", "values[..., 0] for the first, values[:, 0] for the second"),
    ],
)  # fmt: skip
def test_shapes_that_could_be_two_layouts_are_refused(shape: tuple[int, ...], readings: str, advice: str) -> None:
    assert refusal(np.zeros(shape, np.float32)) == (
        f"The array has shape {shape}, which may be {readings}. A map has shape (H, W) or (T, H, W). Pass {advice}."
    )


def test_the_advice_of_a_refusal_is_taken() -> None:
    values = np.random.default_rng(0).random((20, 30, 3))
    assert np.array_equal(with_time(values[..., 0], MAP, "x"), values[..., 0][None])
    assert np.array_equal(with_time(values[..., None], MAP, "x"), values)


def test_bytes_that_are_colours_first_or_three_grey_maps_are_refused() -> None:
    values = np.random.default_rng(0).integers(0, 256, (3, 20, 30), dtype=np.uint8)
    assert refusal(values, HEAT) == (
        "The array has shape (3, 20, 30), which may be one picture with 3 colours per pixel or 3 maps of 20 x 30. A "
        "heatmap has shape (H, W) or (T, H, W), or with 3 uint8 colours last. Pass np.moveaxis(values, 0, -1) for the "
        "first, values[..., None] for the second."
    )
    assert np.array_equal(with_time(values[..., None], HEAT, "x"), values)
    assert with_time(values.astype(np.uint16), HEAT, "x").shape == (3, 20, 30)


def test_numbers_per_pixel_first_and_last_are_refused_unless_equal() -> None:
    layout = MapLayout("a field", 2, False)
    values = np.random.default_rng(0).random((2, 9, 2))
    assert refusal(values, layout) == (
        "The array has shape (2, 9, 2), which may be pictures with their 2 numbers per pixel last or first. A field "
        "has shape (H, W, 2) or (T, H, W, 2). Pass pictures that are not 2 pixels high or wide, the numbers last."
    )
    assert with_time(np.zeros((2, 2, 2)), layout, "x").shape == (1, 2, 2, 2)


def test_pictures_three_pixels_wide_and_channels_first_are_refused() -> None:
    with pytest.raises(MediaError) as caught:
        read_frames(np.random.default_rng(0).random((3, 9, 3)), num_frames=1)
    assert str(caught.value) == (
        "A clip or picture came as Tensor of shape (3, 9, 3) and type float64. Accepted: (T, H, W, 3), (T, 3, H, W), "
        "(H, W, 3) or (3, H, W), uint8 0..255 or float 0..1. Its 3 colours may be the first or the last of H, W and "
        "colours. Pass pictures that are not 3 pixels high or wide."
    )


@pytest.mark.parametrize(
    ("values", "advice"),
    [
        (np.zeros((9, 9, 3), np.int64),
         "Pass 8-bit numbers, values.astype('uint8'), or divide by the largest number there can be."),
        (np.full((9, 9, 3), -1.0), "Pass (values + 1) / 2."),
        (np.full((9, 9, 3), 255.0), "Divide by 255, or pass uint8."),
    ],
)  # fmt: skip
def test_numbers_that_are_no_colours_are_refused_with_what_to_pass(values: np.ndarray, advice: str) -> None:
    with pytest.raises(MediaError) as caught:
        read_frames(values, num_frames=1)
    assert str(caught.value).endswith(advice)


def test_pictures_of_a_list_must_be_alike() -> None:
    with pytest.raises(MediaError) as caught:
        read_frames([np.zeros((9, 9, 3), np.uint8), np.zeros((8, 9, 3), np.uint8)], num_frames=1)
    assert str(caught.value) == (
        "A list holds pictures of the shapes (8, 9, 3), (9, 9, 3). Pictures of one list are frames of one clip, of "
        "equal size and number format, each (H, W, 3) or (3, H, W). Resize them first."
    )
