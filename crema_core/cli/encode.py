"""`crema encode`: run the frozen encoders over a data file once and keep their features."""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING

from crema_core.cli.fit_config import complete, read_config
from crema_core.cli.inputs import (
    ON_ERROR,
    add_on_error,
    add_shared,
    assignments,
    given,
    help_text,
    num_bytes,
    print_result,
    with_options,
)
from crema_core.errors import OptionsError
from crema_core.train.settings import NOT_A_FOLDER, train_settings

if TYPE_CHECKING:
    from crema_core.api.encode_job import Encoded, EncodeJob

HELP = help_text("encode")

BUILT = ("backbone", "revision", "image_size", "fusion", "major", "encoders", "precision", "seed")
"""What the encoders depend on, of a configuration's model."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the source, the folder and how to work."""
    parser.add_argument("source", metavar="CONFIG.yaml|DATA.jsonl", help="a configuration of crema fit, or data")
    parser.add_argument("--cache", metavar="DIR", help="folder of the features; default: the configuration's")
    add_shared(parser, "modalities", "backbone", "image-size", "set")
    parser.add_argument("--precision", choices=("fp32", "bf16"), help="encoders compute in; as in training")
    parser.add_argument("--cache-precision", choices=("fp32", "bf16"), help="number format of what is kept")
    parser.add_argument("--batch-size", type=int, metavar="N", help="sources per encoder pass")
    parser.add_argument(
        "--workers", type=int, dest="num_workers", metavar="N", help="processes that read media, per encoding process"
    )
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="processes that encode")
    parser.add_argument("--part", default="1/1", metavar="I/N", help="encode only the I-th of N parts")
    parser.add_argument("--device", help="for example cuda")
    add_on_error(parser)
    parser.add_argument("--max-size", metavar="SIZE", help="size of the folder at which to stop: 500MB, 20GB")
    add_shared(parser, "json")


def run(arguments: argparse.Namespace) -> int:
    """Check everything that needs no torch, then encode."""
    if arguments.processes < 1:
        raise OptionsError(f"--processes is {arguments.processes}. At least 1 is needed. Write --processes 2.")
    index, count = _part(arguments.part)
    model = given(arguments, "modalities", "backbone", "image_size")
    changes = given(arguments, "cache", "cache_precision", "precision", "batch_size", "num_workers", *ON_ERROR)
    config = read_config(arguments.source, model, changes)
    settings = train_settings(config.preset, config.settings)  # misspelt ones are refused before anything is read
    if settings.cache in NOT_A_FOLDER:
        raise OptionsError(
            f"Features have nowhere to go: cache is '{settings.cache}'. A folder is needed. Write --cache features."
        )
    limit = float("inf") if settings.cache_disk_limit_gb is None else settings.cache_disk_limit_gb * 1e9
    if arguments.max_size is not None:
        limit = num_bytes(arguments.max_size)
    config = complete(config)
    requests = with_options(config.modalities or (), assignments(arguments.set))
    from crema_core.api.encode_job import EncodeJob, encode, encode_in_processes
    from crema_core.common.progress import StatusLine
    from crema_core.features.encode import Shard

    job = EncodeJob(
        data=tuple(place for place in (config.data, config.eval_data) if place is not None),
        modalities=tuple(requests),
        folder=str(Path(settings.cache).absolute()),
        model=config.model(*BUILT),
        precision=settings.precision,
        cache_precision=settings.cache_precision,
        batch_size=settings.batch_size,
        num_workers=settings.num_workers,
        limit_bytes=limit,
        device=arguments.device,
        shard=Shard(index, count),
        on_error=settings.on_error,
        max_skipped=settings.max_skipped,
    )
    status, start = StatusLine(), time.monotonic()
    several = arguments.processes > 1
    encoded = encode_in_processes(job, arguments.processes) if several else encode(job, status=status)
    status.done()
    _tell(encoded, job, duration_s=time.monotonic() - start, as_json=arguments.json)
    return 0


def _part(text: str) -> tuple[int, int]:
    """Return the 0-based index and the number of parts."""
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count)):
        raise OptionsError(f"--part is '{text}'. Accepted: I/N with I from 1 to N. Write --part 3/100, for example.")
    return int(index) - 1, int(count)


def _tell(encoded: Encoded, job: EncodeJob, *, duration_s: float, as_json: bool) -> None:
    from crema_core.data.unusable import SKIPPED, summary, write_skipped
    from crema_core.features.cache.folder import folder_bytes

    folder = Path(job.folder)
    skipped = {place: own.unusable for place, own in zip(job.data, encoded.samples, strict=True)}
    lines = [str(encoded.filled)]
    if job.on_error == "skip":
        # Beside the cache: its folder belongs to all data files, and holds features alone.
        listing = folder.with_name(f"{folder.name}.{SKIPPED}")
        write_skipped(listing, skipped)
        lines += [
            f"{summary(own)} They are left out, and listed in {listing}." for own in encoded.samples if own.unusable
        ]
    size = folder_bytes(folder)
    facts = {"cache": str(folder), **dataclasses.asdict(encoded.filled), "num_bytes": size, "duration_s": duration_s}
    facts["skipped"] = {place: len(own) for place, own in skipped.items()}
    print_result(facts, "\n".join([*lines, f"{folder}: {size / 1e6:,.1f} MB"]), as_json=as_json)
