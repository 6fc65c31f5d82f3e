"""Many videos: what is left to do, several processes, progress, and a report of the ones that failed.

```
DIR/
  extract.json           the settings the files were made with
  a/clip.depth.npz       one file per video and modality, named after the video below --root
```
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

from crema_core.common.atomic import write_text
from crema_core.common.progress import StatusLine, describe_duration
from crema_core.errors import MediaError, OptionsError
from crema_geometry.extract.settings import ExtractSettings

RECORD = "extract.json"


class Job(NamedTuple):
    """One video.

    Attributes:
        source: the video.
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

    Raises:
        OptionsError: when a video is not below `root`, or two videos would write one file.
        MediaError: when a video does not exist.
    """
    paths = [_absolute(video) for video in dict.fromkeys(videos)]
    absent = [str(path) for path in paths if not path.exists()]
    if absent:
        raise MediaError(
            f"{len(absent)} of {len(paths)} videos do not exist, first: {absent[0]}. Each is a clip or a folder of "
            "pictures. Check the paths. Nothing was written."
        )
    base = _absolute(root) if root is not None else Path(os.path.commonpath([p.parent for p in paths]))
    jobs: list[Job] = []
    owners: dict[Path, Path] = {}
    for path in paths:
        if not path.is_relative_to(base):
            raise OptionsError(
                f"'{path}' is not below --root '{base}'. Results are named after the path below it. Name a folder that "
                "holds all videos. Nothing was written."
            )
        relative = path.relative_to(base)
        stem = relative.with_suffix("") if path.is_file() else relative
        owner = owners.setdefault(stem, path)
        if owner != path:
            raise OptionsError(
                f"'{owner}' and '{path}' would both write '{out / stem}.*.npz'. Names without their ending are "
                "different. Rename one. Nothing was written."
            )
        targets: dict[str, str] = {modality: str(out / f"{stem}.{modality}.npz") for modality in settings.modalities}
        jobs.append(Job(str(path), targets, tuple(s for s, file in targets.items() if not Path(file).exists())))
    return jobs


def _absolute(path: str | Path) -> Path:
    # Links are kept: results are named as the user names the videos.
    return Path(os.path.normpath(Path(path).absolute()))


def check_record(settings: ExtractSettings, out: Path) -> None:
    """Compare the settings with those the files in `out` were made with, and record new ones.

    A record without files, which an attempt that failed leaves behind, is replaced.

    Raises:
        OptionsError: when files of a modality are there that were made otherwise; nothing is changed then.
    """
    record = out / RECORD
    try:
        known = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    except ValueError as error:
        raise OptionsError(
            f"'{record}' is not JSON ({error}). It records how the files beside it were made. Name another --out, or "
            "remove the folder. Nothing was changed."
        ) from error
    for modality in settings.modalities:
        wanted = settings.identity(modality)
        earlier = known.get(modality, wanted)
        changed = [
            f"{key}: {earlier.get(key)!r} -> {wanted[key]!r}" for key in wanted if earlier.get(key) != wanted[key]
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
    jobs: Sequence[Job], settings: ExtractSettings, *, num_processes: int = 1, status: StatusLine | None = None
) -> Outcome:
    """Run the experts on everything that is missing.

    Args:
        jobs: from `plan`.
        settings: which experts.
        num_processes: each loads its own experts.
        status: where progress is shown.

    Raises:
        AssetError: when an expert cannot be loaded.
        OptionsError: when one of several processes dies.
    """
    left = [job for job in jobs if job.missing]
    kept = sum(len(job.targets) - len(job.missing) for job in jobs)
    failed: dict[str, str] = {}
    written, begun = 0, time.monotonic()
    results = _each(left, settings, min(num_processes, max(len(left), 1)))
    for done, (job, problem) in enumerate(results, start=1):
        if problem is None:
            written += len(job.missing)
        else:
            failed[job.source] = problem
        if status is not None:
            rest_s = (time.monotonic() - begun) / done * (len(left) - done)
            status.show(f"extracting: {done:,} of {len(left):,} videos, {describe_duration(rest_s)} left")
    if status is not None:
        status.done()
    return Outcome(written, kept, failed)


def _each(jobs: Sequence[Job], settings: ExtractSettings, num_processes: int) -> Iterator[tuple[Job, str | None]]:
    if not jobs:
        return
    if num_processes == 1:
        work = _worker(settings)
        yield from ((job, work(job)) for job in jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        num_processes, mp_context=context, initializer=_start, initargs=(settings, num_processes)
    ) as pool:
        futures = {pool.submit(_in_process, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise OptionsError(
                "A process of the extraction ended without an answer, most often because the memory was full. Every "
                f"process loads its own experts. Run the command again with fewer --processes than {num_processes}; "
                "what is written is kept."
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


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
