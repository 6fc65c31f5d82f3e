"""Many videos: what is left to do, several processes, progress, and a report of the ones that failed.

```
DIR/
  extract.json           the settings the files were made with
  a/clip.depth.npz       one file per video and modality, named after the video below --root
```
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

from crema_core.common.atomic import write_text
from crema_core.common.progress import StatusLine, describe_duration
from crema_core.common.reading import read_object, shown
from crema_core.common.workers import worker_processes
from crema_core.data.sampling import Span, split_span
from crema_core.data.unusable import NUM_SHOWN
from crema_core.errors import MediaError, OptionsError, ReadError, first_line
from crema_geometry.extract.settings import ExtractSettings

RECORD = "extract.json"


class Job(NamedTuple):
    """One video.

    Attributes:
        source: the video, or a part of one.
        targets: modality -> file, all that is wanted.
        missing: the modalities whose file is not there yet.
    """

    source: str
    targets: dict[str, str]
    missing: tuple[str, ...]


class Outcome(NamedTuple):
    """What became of the videos.

    Attributes:
        written: number of files written now.
        kept: number of files that were already there.
        failed: video -> why it could not be read.
    """

    written: int
    kept: int
    failed: dict[str, str]


def plan(videos: Sequence[str], settings: ExtractSettings, *, out: Path, root: Path | None) -> list[Job]:
    """Return a job per video; nothing is written.

    Files are named after the video, those of a part of it (`a.mp4#t=2,6`) after the part too: `a.2-6s.depth.npz`.

    Raises:
        OptionsError: when a video is not below `root`, or two videos would write one file.
    """
    if not videos:
        return []
    parts = [_absolute(video) for video in dict.fromkeys(videos)]
    base = _lexical(root) if root is not None else Path(os.path.commonpath([Path(own.path).parent for own in parts]))
    jobs: list[Job] = []
    owners: dict[Path, Span] = {}
    for part in parts:
        path = Path(part.path)
        if not path.is_relative_to(base):
            raise OptionsError(
                f"'{path}' is not below --root '{base}'. Results are named after the path below it. Name a folder that "
                "holds all videos. Nothing was written."
            )
        relative = path.relative_to(base)
        stem = relative.with_suffix("") if path.is_file() else relative
        if part.label:
            stem = stem.with_name(f"{stem.name}.{part.label}")
        owner = owners.setdefault(stem, part)
        if owner != part:
            raise OptionsError(
                f"'{owner.path}' and '{path}' would both write '{out / stem}.*.npz'. Names without their ending are "
                "different. Rename one. Nothing was written."
            )
        targets: dict[str, str] = {modality: str(out / f"{stem}.{modality}.npz") for modality in settings.modalities}
        missing = tuple(modality for modality, file in targets.items() if not Path(file).exists())
        jobs.append(Job(part.text, targets, missing))
    return jobs


def find_unusable(videos: Sequence[str]) -> dict[str, str]:
    """Return the videos that names and sizes tell cannot be read, each with the reason."""
    from crema_core.data.media import FRAME_SUFFIXES, check_file

    found = {}
    for video in dict.fromkeys(videos):
        path = Path(split_span(video).path)
        try:
            if not path.is_dir():
                check_file(path, what="a clip or picture", suffixes=FRAME_SUFFIXES)
        except MediaError as error:
            found[video] = str(error)
    return found


def refuse_unusable(unusable: Mapping[str, str], *, total: int) -> None:
    """Raise when any video cannot be used.

    Raises:
        MediaError: naming the first of them.
    """
    if not unusable:
        return
    shown = [f"- {reason}" for reason in list(unusable.values())[:NUM_SHOWN]]
    more = [f"- and {len(unusable) - NUM_SHOWN:,} more"] if len(unusable) > NUM_SHOWN else []
    advice = 'Check these paths, or pass on_error="skip" to leave them out. Nothing was written.'
    raise MediaError("\n".join([f"{len(unusable):,} of {total:,} videos cannot be used:", *shown, *more, advice]))


def refuse_many(failed: Mapping[str, str], *, total: int, max_skipped: float) -> None:
    """Raise when more videos cannot be read than may be left out.

    Raises:
        MediaError: naming the first of them; what is written is kept.
    """
    if len(failed) <= max_skipped * total:
        return
    shown = [f"- {reason}" for reason in list(failed.values())[:NUM_SHOWN]]
    raise MediaError(
        "\n".join(
            [
                f"{len(failed):,} of {total:,} videos cannot be read, and at most max_skipped={max_skipped:g} of them "
                "may be left out:",
                *shown,
                "What is written is kept. Correct the paths, or pass a larger max_skipped, for example max_skipped=1.",
            ]
        )
    )


def _absolute(source: str) -> Span:
    part = split_span(source)
    return part._replace(path=str(_lexical(part.path)))


def _lexical(path: str | Path) -> Path:
    # Links are kept: results are named as the user names the videos.
    return Path(os.path.normpath(Path(path).absolute()))


def absolute_text(source: str) -> str:
    """Return a video as jobs name it: absolute, its part of one form."""
    return _absolute(source).text


def check_record(settings: ExtractSettings, out: Path) -> None:
    """Compare the settings with those the files in `out` were made with, and record new ones.

    A record without files, which an attempt that failed leaves behind, is replaced.

    Raises:
        OptionsError: when files of a modality are there that were made otherwise; nothing is changed then.
    """
    record = out / RECORD
    try:
        known = read_object(record) if record.exists() else {}
    except ReadError as error:
        raise OptionsError(
            f"{shown(record)} {error.reason}. It records how the files beside it were made. Name another --out, or "
            "remove the folder. Nothing was changed."
        ) from error
    except OSError as error:
        raise OptionsError(
            f"{shown(record)} cannot be looked at: {first_line(error)}. In this place it is recorded how the files "
            "beside it were made. Name another --out. Nothing was changed."
        ) from error
    for modality in settings.modalities:
        wanted = settings.identity(modality)
        earlier = known.get(modality, wanted)
        if not isinstance(earlier, dict):
            raise OptionsError(
                f"{shown(record)} states no settings of {modality}. It records how the files beside it were made. Name "
                "another --out, or remove the folder. Nothing was changed."
            )
        changed = [
            f"{key}: {repr(earlier.get(key))[:100]} -> {wanted[key]!r}"
            for key in wanted
            if earlier.get(key) != wanted[key]
        ]
        if changed and any(out.rglob(f"*.{modality}.npz")):
            raise OptionsError(
                f"'{out}' holds {modality} made with other settings ({'; '.join(changed)}). One folder has one way of "
                "making each modality. Name another --out, or pass the earlier settings. Nothing was changed."
            )
    merged = known | {modality: settings.identity(modality) for modality in settings.modalities}
    if merged != known:
        write_text(record, json.dumps(merged, indent=2) + "\n")


def run_jobs(
    jobs: Sequence[Job],
    settings: ExtractSettings,
    *,
    num_processes: int = 1,
    status: StatusLine | None = None,
    failed_before: Mapping[str, str] | None = None,
    max_skipped: float = 1.0,
) -> Outcome:
    """Run the experts on everything that is missing.

    Args:
        jobs: from `plan`.
        settings: which experts.
        num_processes: each loads its own experts.
        status: where progress is shown.
        failed_before: videos without a job that cannot be used, each with the reason; they are among those that failed.
        max_skipped: the largest share of all videos that may fail.

    Raises:
        MediaError: as soon as more of them fail; what is written is kept.
        AssetError: when an expert cannot be loaded.
        OptionsError: when one of several processes dies.
    """
    left = [job for job in jobs if job.missing]
    kept = sum(len(job.targets) - len(job.missing) for job in jobs)
    failed: dict[str, str] = dict(failed_before or {})
    total = len(jobs) + len(failed)
    refuse_many(failed, total=total, max_skipped=max_skipped)
    written, begun = 0, time.monotonic()
    with closing(_each(left, settings, min(num_processes, max(len(left), 1)))) as results:
        for done, (job, problem) in enumerate(results, start=1):
            if problem is None:
                written += len(job.missing)
            else:
                failed[job.source] = problem
                refuse_many(failed, total=total, max_skipped=max_skipped)
            if status is not None:
                rest_s = (time.monotonic() - begun) / done * (len(left) - done)
                bad = f"{len(failed):,} unreadable, " if failed else ""
                status.show(f"extracting: {done:,} of {len(left):,} videos, {bad}{describe_duration(rest_s)} left")
    if status is not None:
        status.done()
    return Outcome(written, kept, failed)


def _each(
    jobs: Sequence[Job], settings: ExtractSettings, num_processes: int
) -> Generator[tuple[Job, str | None], None, None]:
    if not jobs:
        return
    if num_processes == 1:
        work = _worker(settings)
        yield from ((job, work(job)) for job in jobs)
        return
    try:
        with worker_processes(num_processes, begin=partial(_start, settings, num_processes)) as submit:
            futures = {submit(_in_process, job): job for job in jobs}
            for future in as_completed(futures):
                yield futures[future], future.result()
    except BrokenProcessPool as error:
        raise OptionsError(
            "A process of the extraction ended without an answer, most often because the memory was full. Every "
            f"process loads its own experts. Run the command again with fewer --processes than {num_processes}; what "
            "is written is kept."
        ) from error


def _worker(settings: ExtractSettings) -> Callable[[Job], str | None]:
    from crema_geometry.extract.work import Experts, extract_one

    experts = Experts(settings)

    def work(job: Job) -> str | None:
        try:
            extract_one(experts, job.source, {modality: job.targets[modality] for modality in job.missing})
        except MediaError as error:
            return str(error)
        return None

    return work


_settings: ExtractSettings | None = None
_work: Callable[[Job], str | None] | None = None


def _start(settings: ExtractSettings, num_processes: int) -> None:
    # An initializer that raises would show as a broken pool; the experts are loaded with the first job instead.
    global _settings
    import torch

    torch.set_num_threads(max((os.cpu_count() or 1) // num_processes, 1))
    _settings = settings


def _in_process(job: Job) -> str | None:
    global _work
    assert _settings is not None, "the initializer sets it"
    if _work is None:
        _work = _worker(_settings)
    return _work(job)
