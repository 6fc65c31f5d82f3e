"""Reading recordings: values, windows, refusals."""

from pathlib import Path

import pytest
import torch

from crema_core.errors import MediaError
from crema_core.modality import BuildContext
from crema_imu.modality import ImuModality
from crema_imu.plugin import ImuOptions
from crema_imu.recording import COLUMNS, read_recording

HEADER = ",".join(COLUMNS)


def write(place: Path, text: str) -> Path:
    path = place / "clip.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_recording_is_read_as_it_is_written(tmp_path: Path) -> None:
    recording = read_recording(write(tmp_path, f"{HEADER}\n0,1,2,9.5,0,0,1\n0.5,3,4,9.5,0,0,1\n"))
    assert recording.tolist() == [[0, 1, 2, 9.5, 0, 0, 1], [0.5, 3, 4, 9.5, 0, 0, 1]]


def test_windows_have_times(tmp_path: Path) -> None:
    modality = ImuModality(ImuOptions(window_s=0.5), BuildContext())
    sample = modality.prepare(modality.example(torch.Generator().manual_seed(0)))
    assert sample.times is not None
    assert sample.times.tolist() == [[0, 0.5], [0.5, 1], [1, 1.5]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "{path} starts with 'nothing'. Expected is the header '{header}'. Rename the columns."),
        ("time,x\n", "{path} starts with 'time,x'. Expected is the header '{header}'. Rename the columns."),
        (
            "{header}\n0,1,2,3,4,5,6\n",
            "{path} has fewer than two rows or times that do not ascend. Sort the rows by t_s.",
        ),
        (
            "{header}\n1,1,2,3,4,5,6\n0,1,2,3,4,5,6\n",
            "{path} has fewer than two rows or times that do not ascend. Sort the rows by t_s.",
        ),
        (
            "{header}\n0,1,2,3,4,5,six\n",
            "{path} holds a row that is not seven finite numbers. Export the recording again.",
        ),
        ("{header}\n0,1,2,3,4,5\n", "{path} holds a row that is not seven finite numbers. Export the recording again."),
        (
            "{header}\n0,1,2,3,4,5,nan\n",
            "{path} holds a row that is not seven finite numbers. Export the recording again.",
        ),
    ],
)
def test_files_that_are_no_recordings_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text.format(header=HEADER))
    with pytest.raises(MediaError) as caught:
        read_recording(path)
    assert str(caught.value) == message.format(path=path, header=HEADER)
