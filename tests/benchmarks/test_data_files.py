"""The benchmark of data files reads what it writes."""

from __future__ import annotations

from pathlib import Path

from benchmarks.data_files import VERBS, measure, write_lines
from crema_core.data.check import check_data_file


def test_every_verb_reads_a_file_without_faults(tmp_path: Path) -> None:
    place = write_lines(tmp_path, 40)
    report = check_data_file(place, modalities=["video", "audio"])
    assert (report.num_samples, report.modalities) == (40, {"video": 40, "audio": 40})
    assert not [own for own in report.findings if own.kind != "balance"]
    assert [measure(verb, place)["verb"] for verb in VERBS] == list(VERBS)
