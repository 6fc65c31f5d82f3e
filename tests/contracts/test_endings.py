"""What a modality reads and what is refused by a file's ending before anything is read agree."""

from __future__ import annotations

from pathlib import Path

import pytest

from crema_core.data import modality_calls
from crema_core.data.unusable import SourceCheck
from crema_core.errors import CremaError
from crema_core.modality import BuildContext
from crema_core.plugins import registry

ENDINGS = (
    ".3gp .aac .aif .aiff .avi .bmp .csv .e57 .exr .flac .flo .flv .gif .heic .jpeg .jpg .las .laz .m4a .m4v .mkv .mov "
    ".mp3 .mp4 .mpeg .mpg .mpo .npy .npz .oga .ogg .opus .pcd .pfm .ply .png .pt .tif .tiff .ts .txt .wav .webm .webp "
    ".wma .wmv .xyz .zip"
).split()


@pytest.mark.parametrize("name", registry.installed_names())
def test_no_ending_is_refused_that_a_reader_takes(name: str, tmp_path: Path) -> None:
    """A file of nonsense is refused by its ending, or because it is nonsense: the latter endings are read."""
    plugin = registry.resolve(name)
    modality = modality_calls.construct(plugin, plugin.options, BuildContext())
    check, read = SourceCheck(), []
    for ending in ENDINGS:
        path = tmp_path / f"source{ending}"
        path.write_bytes(b"nonsense")
        try:
            modality_calls.prepare(modality, str(path))
        except CremaError as error:
            if f"ends in '{ending}'" in str(error):
                continue
        read.append(ending)
    assert read
    assert [ending for ending in read if check.fault(name, str(tmp_path / f"source{ending}"))] == []
