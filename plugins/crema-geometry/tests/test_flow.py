"""The modality of motion."""

from __future__ import annotations

import colorsys
import struct
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from crema_core.errors import MediaError
from crema_core.modality import BuildContext
from crema_geometry.files import read_flo, read_kitti_flow
from crema_geometry.modality import FlowModality
from crema_geometry.plugin import FLOW
from crema_geometry.render import render_flow

PLAIN = BuildContext(image_size=8, image_mean=(0.0, 0.0, 0.0), image_std=(1.0, 1.0, 1.0))
ACCEPTED = "A flow field is read from .npz, .npy, .flo, .png, .pfm."


def frames_of(source: object, **options: object) -> torch.Tensor:
    return FlowModality(FLOW.parse_options(dict(options)), PLAIN).prepare(source).tensors["frames"]


def refusal(source: object) -> str:
    with pytest.raises(MediaError) as caught:
        frames_of(source)
    return str(caught.value)


def motion(right: float, down: float, count: int = 1) -> np.ndarray:
    return np.broadcast_to(np.array([right, down], np.float32), (count, 6, 10, 2)).copy()


def write_flo(path: Path, flow: np.ndarray) -> Path:
    height, width, _ = flow.shape
    path.write_bytes(struct.pack("<fii", 202021.25, width, height) + flow.astype("<f4").tobytes())
    return path


def write_kitti(path: Path, flow: np.ndarray, valid: int = 1) -> Path:
    codes = np.concatenate([flow * 64 + 2**15, np.full((*flow.shape[:2], 1), valid)], axis=-1).astype(np.uint16)
    codec = av.CodecContext.create("png", "w")
    codec.width, codec.height, codec.pix_fmt, codec.framerate = flow.shape[1], flow.shape[0], "rgb48be", 1
    packets = codec.encode(av.VideoFrame.from_ndarray(codes, format="rgb48le").reformat(format="rgb48be"))
    path.write_bytes(b"".join(bytes(packet) for packet in [*packets, *codec.encode(None)]))
    return path


@pytest.mark.parametrize(
    ("right", "down", "degrees"),
    [(8, 0, 0), (8, 8, 45), (0, 8, 90), (-8, 0, 180), (0, -8, 270), (-8, 8, 135)],
)
def test_the_hue_is_the_direction(right: float, down: float, degrees: float) -> None:
    red, green, blue = render_flow(torch.from_numpy(motion(right, down)), 8.0)[0, :, 0, 0].tolist()
    hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
    assert hue * 360 % 360 == pytest.approx(degrees, abs=0.5)
    assert saturation == pytest.approx(1, abs=1e-5)
    assert value == pytest.approx(1, abs=1e-5)


def test_rest_and_unknown_are_white_and_faster_is_more_colourful() -> None:
    speeds = [render_flow(torch.from_numpy(motion(speed, 0)), 8.0)[0, 1, 0, 0].item() for speed in (0, 1, 4, 8, 20)]
    assert speeds[0] == 1
    assert speeds[:4] == sorted(speeds, reverse=True)[:4]
    assert speeds[3] == speeds[4] == 0
    assert render_flow(torch.full((1, 2, 2, 2), float("nan")), 8.0).min() == 1


def test_the_window_of_a_clip_is_shared_by_its_frames() -> None:
    source = np.concatenate([motion(1, 0), motion(4, 0)])
    slow, fast = frames_of(source, num_frames=2, max_px=None)[:, 1, 0, 0].tolist()
    assert fast == 0
    assert slow == pytest.approx(0.5)  # the root of a quarter of the speed


def test_every_format_gives_the_same_field(tmp_path: Path) -> None:
    field = motion(3, -5)[0]
    field[2, 3] = (-7.5, 0.25)
    np.savez(tmp_path / "a.npz", flow=field[None])
    np.save(tmp_path / "a.npy", field)
    write_flo(tmp_path / "a.flo", field)
    write_kitti(tmp_path / "a.png", field)
    assert np.array_equal(read_flo(tmp_path / "a.flo"), field)
    assert np.array_equal(read_kitti_flow(tmp_path / "a.png"), field)
    expected = frames_of(field)
    assert expected.shape == (1, 3, 8, 8)
    for name in ("a.npz", "a.npy", "a.flo", "a.png"):
        torch.testing.assert_close(frames_of(tmp_path / name), expected)


def test_unknown_vectors_are_marked(tmp_path: Path) -> None:
    assert np.isnan(read_kitti_flow(write_kitti(tmp_path / "a.png", motion(1, 1)[0], valid=0))).all()
    field = motion(1, 1)[0]
    field[0, 0] = 1e10
    read = read_flo(write_flo(tmp_path / "a.flo", field))
    assert np.isnan(read).sum() == 2


def test_a_folder_of_fields_gives_its_middle_ones(tmp_path: Path) -> None:
    for number in range(8):
        write_flo(tmp_path / f"{number}.flo", motion(number, 0)[0])
    greens = frames_of(tmp_path, num_frames=2)[:, 1, 0, 0]
    torch.testing.assert_close(greens, 1 - (torch.tensor([2.0, 6.0]) / 8).sqrt())


def test_an_eight_bit_png_is_no_flow(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (4, 5)).save(path)
    assert refusal(path) == (
        f"'{path}' is a png of pixel format rgb24. A flow png is 16-bit RGB as KITTI writes it (other colour codes of "
        "flow cannot be undone). Save the field as .npz with the key flow."
    )


def test_another_file_named_flo_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.flo"
    path.write_bytes(b"something else entirely")
    assert refusal(path) == (
        f"'{path}' cannot be read: it holds text. A flow field is read from .flo, .png, .pfm. Give the file the ending "
        "of what it holds, or convert it."
    )


def test_a_flo_cut_short_is_refused(tmp_path: Path) -> None:
    path = write_flo(tmp_path / "a.flo", motion(1, 1)[0])
    path.write_bytes(path.read_bytes()[:100])
    assert refusal(path) == (
        f"'{path}' cannot be read: it is cut short, it announces 10 x 6 vectors and holds 11. A flow field is read "
        "from .flo, .png, .pfm. Write or download the file again."
    )


def test_a_damaged_png_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG but no more")
    said = refusal(path)
    assert said.startswith(f"'{path}' cannot be read: it is damaged (FFmpeg: ")
    assert said.endswith("). A flow field is read from .flo, .png, .pfm. Write or download the file again.")


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.flo"
    assert refusal(path) == f"'{path}' does not exist. {ACCEPTED} Check the path."


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.flo"
    path.touch()
    assert refusal(path) == f"'{path}' is empty (0 bytes). {ACCEPTED} Write or download the file again."


def test_another_layout_is_refused() -> None:
    assert refusal(np.zeros((3, 4, 4))) == (
        "The array has shape (3, 4, 4). A flow field has shape (H, W, 2) or (T, H, W, 2). Change the layout."
    )
