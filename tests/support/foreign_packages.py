"""Packages of a third party: each begun with `crema plugins new`, then changed as its documentation says.

Three modalities (`eeg`, `gps_track`, `events`), the data set `commute` they are recorded for, a vision encoder and a
hook. `foreign/NAME` holds the modules that replace those of the scaffold.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import av
import numpy as np

from crema_core.cli.scaffold import ScaffoldKind, new_package

FOREIGN = Path(__file__).with_name("foreign")
KINDS: dict[str, ScaffoldKind] = {
    "eeg": "modality",
    "gps_track": "modality",
    "events": "modality",
    "commute": "dataset",
    "patches8": "encoder",
    "step_log": "verb",
}
"""Name -> what `crema plugins new` begins."""
MODALITIES = ("eeg", "gps_track", "events")
WAYS = ("left", "right")
QUESTION = "which way does it go ?"


def write_package(name: str, output: Path) -> Path:
    """Begin a package, replace its modules by those of `foreign/NAME` where there are some; return its folder."""
    place = new_package(name, kind=KINDS[name], output=output)
    for module in sorted((FOREIGN / name).glob("*.py")):
        shutil.copy(module, place / "src" / f"crema_{name}" / module.name)
    return place


def release(place: Path, version: str, edits: dict[str, str], output: Path, *, file: str = "modality.py") -> Path:
    """Copy a package's folder as its next release, with texts of one module replaced; return the copy."""
    copy = Path(shutil.copytree(place, output / f"{place.name}-{version}"))
    (module,) = copy.glob(f"src/*/{file}")
    texts = {module: edits, copy / "pyproject.toml": {'version = "0.1.0"': f'version = "{version}"'}}
    for path, replaced in texts.items():
        text = path.read_text(encoding="utf-8")
        for old, new in replaced.items():
            assert old in text, old
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")
    return copy


def write_commute(root: Path, *, num_takes: int) -> None:
    """Write the official release of `commute`: recordings in four folders, and questions of two splits."""
    for folder in ("videos", "eeg", "tracks", "events"):
        (root / folder).mkdir(parents=True)
    takes = [(f"{number:03}", number % 2) for number in range(num_takes)]
    for (take, way), generator in zip(takes, map(np.random.default_rng, range(num_takes)), strict=True):
        write_video(root / "videos" / f"{take}.mp4", generator)
        write_edf(root / "eeg" / f"{take}.edf", eeg_signal(way, generator), rate_hz=64)
        write_gpx(root / "tracks" / f"{take}.gpx", track(way, generator))
        np.save(root / "events" / f"{take}.npy", event_stream(way, generator))
    for split, own in (("train", takes[: -num_takes // 3]), ("test", takes[-num_takes // 3 :])):
        questions = [
            {"id": take, "take": take, "question": QUESTION, "choices": list(WAYS), "correct": way} for take, way in own
        ]
        (root / f"questions-{split}.json").write_text(json.dumps(questions), encoding="utf-8")


def write_video(path: Path, generator: np.random.Generator) -> None:
    """Write one second of one colour, 8 frames of 32 x 32."""
    colour = generator.integers(0, 255, 3, dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        assert isinstance(stream, av.VideoStream)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(8):
            pixels = np.broadcast_to(colour, (32, 32, 3)).copy()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def eeg_signal(way: int, generator: np.random.Generator) -> np.ndarray:
    """Return two seconds of three channels at 64 Hz in microvolts: 8 Hz for left, 20 Hz for right, and noise."""
    time_s = np.arange(128) / 64
    rhythm = 30 * np.sin(2 * np.pi * (8, 20)[way] * time_s)
    return rhythm + generator.normal(0, 5, (3, 128))


def write_edf(path: Path, signal: np.ndarray, *, rate_hz: int) -> None:
    """Write microvolts `(C, points)` as EDF of one-second records, int16 over -1000..1000."""
    count, points = signal.shape
    records = points // rate_hz

    def fields(width: int, *texts: object) -> str:
        return "".join(f"{text!s:<{width}}"[:width] for text in texts)

    header = fields(8, 0) + fields(80, "X X X X", "Startdate 01-JAN-2020") + fields(8, "01.01.20", "00.00.00")
    header += fields(8, 256 * (count + 1)) + fields(44, "") + fields(8, records, 1) + fields(4, count)
    header += fields(16, *(f"EEG {row}" for row in range(count))) + fields(80, *[""] * count)
    for text in ("uV", -1000, 1000, -32768, 32767):
        header += fields(8, *[text] * count)
    header += fields(80, *[""] * count) + fields(8, *[rate_hz] * count) + fields(32, *[""] * count)
    digital = np.clip(np.round((signal + 1000) / 2000 * 65535 - 32768), -32768, 32767).astype("<i2")
    blocks = digital[:, : records * rate_hz].reshape(count, records, rate_hz).transpose(1, 0, 2)
    path.write_bytes(header.encode("ascii") + np.ascontiguousarray(blocks).tobytes())


def track(way: int, generator: np.random.Generator) -> np.ndarray:
    """Return twelve points `(12, 2)` of latitude and longitude: west for left, east for right."""
    east = np.linspace(0, (-1, 1)[way] * 2e-3, 12)
    return np.stack((52.5 + generator.normal(0, 1e-5, 12), 13.4 + east), axis=1)


def write_gpx(path: Path, points: np.ndarray) -> None:
    """Write a track with one point a second."""
    rows = "".join(
        f'<trkpt lat="{latitude:.6f}" lon="{longitude:.6f}"><time>2024-05-01T08:00:{second:02}Z</time></trkpt>\n'
        for second, (latitude, longitude) in enumerate(points)
    )
    head = '<?xml version="1.0"?>\n<gpx version="1.1" creator="t" xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>\n'
    path.write_text(f"{head}{rows}</trkseg></trk></gpx>\n", encoding="utf-8")


def event_stream(way: int, generator: np.random.Generator) -> np.ndarray:
    """Return 300 events `(300, 4)` of one second, in the left or the right half of 128 x 128 pixels."""
    x = generator.integers(0, 64, 300) + 64 * way
    y, polarity = generator.integers(0, 128, 300), generator.integers(0, 2, 300)
    return np.stack((x, y, np.sort(generator.integers(0, 1_000_000, 300)), polarity), axis=1)
