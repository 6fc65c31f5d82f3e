"""Picture files as viewers show them: upright, with all their pages, and refused for what they are."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from crema_core.data.images import read_frames, read_image, read_raw_image, read_stack
from crema_core.data.pictures import orientation_of, pixels_of, read_pages, upright
from crema_core.errors import MediaError

NOISE = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
ORIENTATIONS = range(1, 9)


def marked(path: Path, picture: Image.Image, orientation: int) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(path, exif=exif, **({"lossless": True} if path.suffix == ".webp" else {}))
    return path


def shown(path: Path) -> np.ndarray:
    """What a viewer shows, by Pillow's own means."""
    with Image.open(path) as picture:
        return np.array(ImageOps.exif_transpose(picture))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_picture_is_read_as_it_is_shown(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = marked(tmp_path / f"a{suffix}", Image.fromarray(NOISE), orientation)
    expected = shown(path)
    assert expected.shape == ((5, 7, 3) if orientation < 5 else (7, 5, 3))
    assert np.array_equal(read_image(path), expected)
    frames = torch.from_numpy(expected).permute(2, 0, 1)[None]
    for source in (path, str(path), [path], Image.open(path), [Image.open(path)]):
        assert torch.equal(read_frames(source, num_frames=1).frames, frames)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "RGBA", "CMYK", "I;16", "F", "I"])
def test_pictures_of_every_mode_are_turned(orientation: int, mode: str) -> None:
    measured = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
    picture = (
        Image.fromarray(NOISE[..., 0].astype(measured[mode]) * measured[mode](7))
        if mode in measured
        else Image.fromarray(NOISE).convert(mode)
    )
    stored = pixels_of(picture)
    picture.getexif()[0x0112] = orientation
    assert np.array_equal(pixels_of(picture), upright(stored, orientation))
    assert np.array_equal(upright(NOISE, orientation), np.array(_transposed(Image.fromarray(NOISE), orientation)))


def _transposed(picture: Image.Image, orientation: int) -> Image.Image:
    picture.getexif()[0x0112] = orientation
    return ImageOps.exif_transpose(picture)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_measurements_are_turned_with_their_numbers(tmp_path: Path, suffix: str, orientation: int) -> None:
    values = np.arange(35, dtype=np.uint16).reshape(5, 7) * 1000
    path = marked(tmp_path / f"a{suffix}", Image.fromarray(values), orientation)
    read = read_raw_image(path)
    assert read.dtype == np.uint16
    assert np.array_equal(read, upright(values, orientation))
    if suffix == ".png":
        assert orientation_of(path) == orientation


def test_an_orientation_beyond_the_standard_changes_nothing(tmp_path: Path) -> None:
    assert np.array_equal(read_image(marked(tmp_path / "a.png", Image.fromarray(NOISE), 9)), NOISE)


def test_a_picture_of_pillow_with_more_bits_is_refused() -> None:
    with pytest.raises(MediaError) as caught:
        read_frames(Image.fromarray(NOISE[..., 0].astype(np.uint16)), num_frames=1)
    assert str(caught.value) == (
        "A PIL image is a picture of uint16 numbers. RGB pictures have 8 bits per channel. Convert it to 8 bits, or "
        "give it to a modality that reads measurements."
    )


def test_maps_may_be_pictures_of_pillow() -> None:
    values = np.arange(35, dtype=np.uint16).reshape(5, 7)
    read = read_stack(Image.fromarray(values), what="a map", readers={}, num_frames=4)
    assert np.array_equal(read, values[None])
    colours = read_stack(Image.fromarray(NOISE).convert("RGBA"), what="a map", readers={}, num_frames=4, channels=3)
    assert np.array_equal(colours, NOISE[None])


def test_further_pictures_of_a_phone_are_no_pages(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(NOISE).save(path, format="MPO", save_all=True, append_images=[Image.fromarray(255 - NOISE)])
    with Image.open(path) as picture:
        assert (picture.format, picture.n_frames) == ("MPO", 2)
        expected = np.array(picture)
    assert np.array_equal(read_image(path), expected)
    assert read_frames(path, num_frames=4).frames.shape == (1, 3, 5, 7)


@pytest.mark.parametrize("suffix", [".webp", ".png", ".apng"])
def test_an_animation_is_a_clip_with_its_times(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    pictures = [Image.fromarray(np.roll(NOISE, number, axis=1)) for number in range(5)]
    lossless = {"lossless": True} if suffix == ".webp" else {"format": "PNG"}
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=[100, 200, 100, 300, 100], **lossless)
    clip = read_frames(path, num_frames=5)
    assert clip.times is not None
    torch.testing.assert_close(clip.times, torch.tensor([(0.0, 0.1), (0.1, 0.3), (0.3, 0.4), (0.4, 0.7), (0.7, 0.8)]))
    assert np.array_equal(clip.frames.permute(0, 2, 3, 1), np.stack([np.array(own) for own in pictures]))
    part = read_frames(f"{path}#t=0.35,0.6", num_frames=2)
    assert np.array_equal(part.frames.permute(0, 2, 3, 1), np.stack([np.array(own) for own in pictures[2:4]]))
    at_rate = read_frames(path, num_frames=9, fps=5.0)
    assert at_rate.times is not None
    torch.testing.assert_close(at_rate.times, torch.tensor([(0.0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8)]))
    with pytest.raises(MediaError, match=r"has no frame between 2 s and 0\.8 s; it lasts 0\.8 s\. A part must overlap"):
        read_frames(path, num_frames=2, start_s=2.0)


def test_a_picture_shown_before_an_animation_is_none_of_its_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    first, *frames = (Image.fromarray(np.roll(NOISE, number, axis=1)) for number in range(3))
    first.save(path, save_all=True, append_images=frames, duration=100, default_image=True)
    read = read_frames(path, num_frames=2).frames.permute(0, 2, 3, 1)
    assert np.array_equal(read, np.stack([np.array(own) for own in frames]))


def test_pages_of_a_tiff_are_frames_without_a_clock(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    pages = [Image.fromarray(np.roll(NOISE, number, axis=1)) for number in range(4)]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    clip = read_frames(path, num_frames=2)
    assert clip.times is None
    assert np.array_equal(clip.frames.permute(0, 2, 3, 1), np.stack([np.array(pages[1]), np.array(pages[3])]))
    with pytest.raises(MediaError, match="start_s and end_s were given for pictures without a clock"):
        read_frames(path, num_frames=2, start_s=1.0)


def test_grey_pages_three_pixels_wide_are_no_colours(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    values = NOISE[:4, :, :].copy()  # four pages, each (7, 3)
    pages = [Image.fromarray(page) for page in values]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    assert read_pages(path).values.shape == (4, 7, 3)
    assert np.array_equal(read_image(path), np.repeat(values[..., None], 3, axis=-1))
    stack = read_stack(path, what="a map", readers={".tif": read_pages}, num_frames=4, color_bytes=True)
    assert np.array_equal(stack, values)


def test_pages_that_are_not_alike_are_stood_for_by_the_first(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(NOISE).save(path, save_all=True, append_images=[Image.fromarray(NOISE[:2, :2])])
    assert np.array_equal(read_image(path), NOISE)


def refusal(path: Path) -> str:
    with pytest.raises(MediaError) as caught:
        read_image(path)
    said = str(caught.value)
    assert said.startswith(f"'{path}' cannot be read: ")
    return said.removeprefix(f"'{path}' cannot be read: ")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp", ".gif"])
def test_a_picture_cut_short_is_called_so(tmp_path: Path, suffix: str) -> None:
    whole, path = tmp_path / f"whole{suffix}", tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(whole)
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    said = refusal(path)
    assert said.startswith("it is cut short (Pillow: ")
    assert said.endswith("Write or download the file again.")


def test_a_changed_byte_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(NOISE).save(path)
    raw = bytearray(path.read_bytes())
    raw[50] ^= 255  # in the compressed pixels, whose sum is checked
    path.write_bytes(raw)
    assert refusal(path).startswith("it is damaged (Pillow: ")


@pytest.mark.parametrize(
    ("content", "found", "advice"),
    [
        (b"<!DOCTYPE html>\n<html>", "a web page", "Download the file again; the address gave a page."),
        (b"\0\0\0\x18ftypheic" + bytes(99), "an HEIC picture", "Convert it to jpg or png."),
        (b"%PDF-1.7 and so on", "a PDF document", "Give the file the ending of what it holds, or convert it."),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS", "Run: git lfs pull"),
        (bytes(500), "zeros only", "Write or download the file again."),
    ],
)
def test_another_type_is_called_what_it_is(tmp_path: Path, content: bytes, found: str, advice: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    said = refusal(path)
    assert said.startswith(f"it holds {found} (Pillow). A picture is read from ")
    assert said.endswith(advice)


def tiff(bits: int, sample_format: int, pixels: bytes) -> bytes:
    """A tiff of 2 x 2 numbers, written by hand because Pillow writes no such numbers."""
    entries = [
        (256, 3, 1, 2), (257, 3, 1, 2), (258, 3, 1, bits), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8),
        (277, 3, 1, 1), (278, 3, 1, 2), (279, 4, 1, len(pixels)), (339, 3, 1, sample_format),
    ]  # fmt: skip
    head = b"II*\0" + (8 + len(pixels)).to_bytes(4, "little") + pixels
    rows = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return head + struct.pack("<H", len(entries)) + rows + bytes(4)


@pytest.mark.parametrize(("dtype", "bits", "said"), [("<f8", 64, "float"), ("<f2", 16, "float"), ("<i8", 64, "signed")])
def test_a_number_format_pillow_lacks_is_no_damage(tmp_path: Path, dtype: str, bits: int, said: str) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(bits, 3 if said == "float" else 2, np.ones((2, 2), dtype).tobytes()))
    text = refusal(path)
    assert text.startswith(
        "Pillow does not support it, which does not mean that it is damaged (unknown pixel mode, "
        f"{bits} bits {said}, 1 per pixel). "
    )
    assert text.endswith(
        "Save it with at most 32 bits per number, for example values.astype('float32'), or pass its values as an array "
        "or as .npz."
    )
    path.write_bytes(tiff(32, 3, np.full((2, 2), 0.5, "<f4").tobytes()))
    assert np.array_equal(read_raw_image(path), np.full((2, 2), 0.5, np.float32))
