"""Real file formats: writes what the sensors measured the way such sensors do.

| modality | file |
|---|---|
| video | mp4, H.264, 64 x 64, 16 frames at 8 per second |
| audio | wav, 16 kHz, mono, 16 bit |
| depth | png, 16 bit, millimetres |
| thermal | png, 16 bit, kelvin times 100 |
| flow | npz, `flow` (16, 64, 64, 2) float16, pixels per frame |
| normals | npz, `normals` (1, 64, 64, 3) float16 |
| touch | png, RGB |
| pointcloud | ply, binary little endian, x y z float and red green blue uchar |
"""

from __future__ import annotations

import wave
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crema_world.cloud import PointCloud, point_cloud
from crema_world.maps import depth_map, flow_maps, normal_map, thermal_map
from crema_world.render import ByteArray, render_frames
from crema_world.scene import FRAMES_PER_SECOND, IMAGE_SIZE, Scene
from crema_world.sound import SAMPLE_RATE_HZ, sound_track
from crema_world.touch import touch_image

SUFFIX_OF_MODALITY: dict[str, str] = {
    "video": ".mp4",
    "audio": ".wav",
    "depth": ".depth.png",
    "flow": ".flow.npz",
    "normals": ".normals.npz",
    "pointcloud": ".ply",
    "touch": ".touch.png",
    "thermal": ".thermal.png",
}
"""Modality -> what follows the clip's number in its file name."""


def write_clip(scene: Scene, stem: Path) -> None:
    """Write all files of one clip beside each other: `stem` plus a suffix per modality."""
    for modality, suffix in SUFFIX_OF_MODALITY.items():
        _WRITER_OF_MODALITY[modality](scene, stem.with_name(stem.name + suffix))


def write_video(frames_THWC: ByteArray, path: Path) -> None:
    """Write an mp4.

    Args:
        frames_THWC: `(T, H, W, 3)` uint8 RGB.
        path: the file to write.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND)
        stream.width = stream.height = IMAGE_SIZE
        stream.pix_fmt = "yuv420p"
        # One thread and no B-frames: the bytes do not depend on the machine, and every frame can be sought.
        stream.options = {"crf": "6", "preset": "veryfast", "threads": "1", "bf": "0", "g": "4"}
        for pixels in frames_THWC:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def write_wave(samples: NDArray[np.int16], path: Path) -> None:
    """Write `(N,)` int16 samples as a mono wav."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(samples.astype("<i2").tobytes())


def write_ply(cloud: PointCloud, path: Path) -> None:
    """Write a point cloud, binary, little endian."""
    rows = np.empty(len(cloud.xyz), dtype=[("xyz", "<f4", 3), ("rgb", "u1", 3)])
    rows["xyz"], rows["rgb"] = cloud.xyz, cloud.rgb
    properties = [f"property float {axis}" for axis in "xyz"]
    properties += [f"property uchar {channel}" for channel in ("red", "green", "blue")]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}", *properties, "end_header"]
    path.write_bytes("\n".join([*header, ""]).encode() + rows.tobytes())


_WRITER_OF_MODALITY: dict[str, Callable[[Scene, Path], None]] = {
    "video": lambda scene, path: write_video(render_frames(scene), path),
    "audio": lambda scene, path: write_wave(sound_track(scene), path),
    "depth": lambda scene, path: Image.fromarray(depth_map(scene)).save(path),
    "flow": lambda scene, path: np.savez_compressed(path, flow=flow_maps(scene)),
    "normals": lambda scene, path: np.savez_compressed(path, normals=normal_map(scene)),
    "pointcloud": lambda scene, path: write_ply(point_cloud(scene), path),
    "touch": lambda scene, path: Image.fromarray(touch_image(scene)).save(path),
    "thermal": lambda scene, path: Image.fromarray(thermal_map(scene)).save(path),
}
