"""The modality of surface directions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from crema_core.data.media import ARRAY_SUFFIXES, IMAGE_SUFFIXES
from crema_core.errors import MediaError
from crema_core.modality import BuildContext
from crema_geometry.modality import NormalsModality
from crema_geometry.plugin import NORMALS
from crema_geometry.render import render_normals

PLAIN = BuildContext(image_size=8, image_mean=(0.0, 0.0, 0.0), image_std=(1.0, 1.0, 1.0))
ACCEPTED = f"A normal map is read from {', '.join((*IMAGE_SUFFIXES, *ARRAY_SUFFIXES, '.exr', '.pfm'))}."


def frames_of(source: object, **options: object) -> torch.Tensor:
    return NormalsModality(NORMALS.parse_options(dict(options)), PLAIN).prepare(source).tensors["frames"]


def refusal(source: object) -> str:
    with pytest.raises(MediaError) as caught:
        frames_of(source)
    return str(caught.value)


def facing(x: float, y: float, z: float, count: int = 1) -> np.ndarray:
    return np.broadcast_to(np.array([x, y, z], np.float32), (count, 6, 10, 3)).copy()


@pytest.mark.parametrize(
    ("direction", "color"),
    [
        ((0, 0, 1), (0.5, 0.5, 1.0)),
        ((1, 0, 0), (1.0, 0.5, 0.5)),
        ((-2, 0, 0), (0.0, 0.5, 0.5)),
        ((0, 5, 0), (0.5, 1.0, 0.5)),
        ((0, 0, 0), (0.5, 0.5, 0.5)),
        ((float("nan"), 0, 0), (0.5, 0.5, 0.5)),
    ],
)
def test_directions_are_normalised_and_become_colours(
    direction: tuple[float, float, float], color: tuple[float, float, float]
) -> None:
    frames = render_normals(torch.from_numpy(facing(*direction)))
    torch.testing.assert_close(frames[0, :, 0, 0], torch.tensor(color))


def test_numbers_and_pictures_look_alike(tmp_path: Path) -> None:
    normals = facing(0.6, 0.0, 0.8)
    np.savez(tmp_path / "a.npz", normals=normals.astype(np.float16))
    Image.fromarray(((normals[0] + 1) / 2 * 255).round().astype(np.uint8)).save(tmp_path / "a.png")
    expected = frames_of(normals)
    assert expected.shape == (1, 3, 8, 8)
    for name in ("a.npz", "a.png"):
        torch.testing.assert_close(frames_of(tmp_path / name), expected, atol=0.01, rtol=0)


def test_a_sequence_gives_its_middle_maps() -> None:
    source = np.concatenate([facing(1, 0, 0), facing(0, 1, 0), facing(0, 0, 1), facing(-1, 0, 0)])
    frames = frames_of(source, num_frames=2)
    torch.testing.assert_close(frames[:, :, 0, 0], torch.tensor([[0.5, 1.0, 0.5], [0.0, 0.5, 0.5]]))


def test_another_layout_is_refused() -> None:
    assert refusal(np.zeros((4, 4, 2))) == (
        "The array has shape (4, 4, 2). A normal map has shape (H, W, 3) or (T, H, W, 3). Change the layout."
    )


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.npz"
    assert refusal(path) == f"'{path}' does not exist. {ACCEPTED} Check the path."


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.touch()
    assert refusal(path) == f"'{path}' is empty (0 bytes). {ACCEPTED} Write or download the file again."


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, normals=np.zeros((4, 4, 3)))
    path.write_bytes(path.read_bytes()[:-200])
    assert refusal(path) == (
        f"'{path}' cannot be read: it is cut short (numpy: File is not a zip file). An array is read from .npz, .npy. "
        "Write or download the file again."
    )


def test_another_type_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.obj"
    path.write_text("v 0 0 0")
    assert refusal(path) == f"'{path}' ends in '.obj'. {ACCEPTED} Convert the file, or pass its values as an array."
