"""Encoding in several processes when one of them dies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from crema_core.api.encode_job import EncodeJob, encode_in_processes
from crema_core.errors import CacheError
from crema_core.modality import Sample
from crema_core.model.settings import ModelSettings
from tests.train.file_modalities import MainFiles, file_modalities, write_data


class DyingFiles(MainFiles):
    """Ends its process at the third file, as the system does when memory runs out."""

    num_read = 0

    def prepare(self, source: Any) -> Sample:
        """Read, or die."""
        DyingFiles.num_read += 1
        if DyingFiles.num_read == 3:
            os._exit(9)
        return super().prepare(source)


@pytest.mark.slow
def test_a_killed_process_is_told_with_what_to_do_and_its_work_is_not_lost(t5_folder: Path, tmp_path: Path) -> None:
    spec = file_modalities(num=1)[0].model_copy(update={"factory": f"{__name__}:DyingFiles"})
    job = EncodeJob(
        data=(str(write_data(tmp_path / "data", 12, modalities="m")),),
        modalities=(spec,),
        folder=str(tmp_path / "cache"),
        model=ModelSettings(backbone=str(t5_folder)),
        batch_size=1,
    )
    with pytest.raises(CacheError) as caught:
        encode_in_processes(job, 2)
    assert str(caught.value) == (
        "One of 2 encoding processes was ended from outside, most often for lack of memory. What was written before is "
        "kept. Run the same command again, with fewer --processes or a smaller --batch-size."
    )
