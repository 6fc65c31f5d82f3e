"""`crema extract`: estimate depth, flow and normals from RGB videos."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from crema_core.cli.inputs import add_on_error
from crema_core.errors import OptionsError
from crema_core.plugins.spec import parse_settings
from crema_geometry.extract.settings import MODALITIES, ExtractSettings

DONE, USAGE, FINDINGS = 0, 2, 3
SETTINGS = tuple(name for name in ExtractSettings.model_fields if name != "modalities")

HELP = """\
Estimate depth, flow and normals from RGB videos with frozen experts, as CREMA made its inputs.

For every video below --root: NAME.depth.npz (metres), NAME.flow.npz (pixels right and down), NAME.normals.npz (right,
up, to the viewer), which the modalities depth, flow and normals read; of a part such as clip.mp4#t=2,6 the files are
called clip.2-6s.depth.npz. What is there is kept, so an interrupted run continues. Videos that are missing, empty or of
another kind stop it before it begins; with --on-error skip they are left out. Videos that turn out to be unreadable are
listed at the end (exit code 3), the others are done; with --on-error skip they are left out too (exit code 0), all of
them are listed in OUT/skipped.jsonl, and more than --max-skipped of all videos stop the run.

Examples:
  crema extract depth,flow clips/*.mp4 --out geometry --flow-model raft_small
  crema extract depth,normals --data train.jsonl --out geometry --out-data train.geometry.jsonl --processes 4
  crema extract depth clips --out geometry --depth-model depth-anything/Depth-Anything-V2-Small-hf"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what, from where, to where, and one option per setting."""
    parser.add_argument("modalities", metavar="A,B", help=f"what to estimate: {', '.join(MODALITIES)}")
    parser.add_argument("videos", nargs="*", metavar="VIDEO", help="clips, or folders of pictures")
    parser.add_argument("--out", required=True, metavar="DIR", help="where the files go")
    parser.add_argument(
        "--root", metavar="DIR", help="files are named after the path below it; default: what is common"
    )
    parser.add_argument("--data", metavar="DATA.jsonl", help="take the videos from a data file")
    parser.add_argument("--key", default="video", metavar="MODALITY", help="its field with the videos; default: video")
    parser.add_argument("--out-data", metavar="NEW.jsonl", help="write a copy of it that names the results")
    add_on_error(parser)
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="work in several processes")
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")
    for name in SETTINGS:
        field = ExtractSettings.model_fields[name]
        text = f"{field.description}; default: {field.default}"
        parser.add_argument(f"--{name.replace('_', '-')}", metavar="X", help=text.replace("%", "%%"))


def run(arguments: argparse.Namespace) -> int:
    """Check everything, load the experts, work."""
    if bool(arguments.videos) == bool(arguments.data):
        print("crema extract: name videos, or --data, not both and not neither.", file=sys.stderr)
        return USAGE
    if arguments.out_data and not arguments.data:
        print("crema extract: --out-data writes a copy of --data; name that too.", file=sys.stderr)
        return USAGE
    settings = _settings(arguments)
    from crema_core.common.owner import owned_folder
    from crema_core.common.progress import StatusLine
    from crema_core.data.unusable import MAX_SKIPPED, SKIPPED, Unusable, settle, write_skipped
    from crema_geometry.extract.lines import samples_of, videos_of, with_failed, write_with_results
    from crema_geometry.extract.run import check_record, find_unusable, plan, refuse_unusable, run_jobs

    out, data_file = Path(arguments.out), Path(arguments.data) if arguments.data else None
    skips = arguments.on_error == "skip"
    max_skipped = MAX_SKIPPED if arguments.max_skipped is None else arguments.max_skipped
    samples = None if data_file is None else samples_of(data_file, key=arguments.key)
    if samples is not None:
        settle([samples], on_error="skip" if skips else "stop", max_skipped=max_skipped)
    videos = videos_of(samples, key=arguments.key) if samples is not None else _expanded(arguments.videos)
    unusable = find_unusable(videos)
    if not skips:
        refuse_unusable(unusable, total=len(videos))
    root = Path(arguments.root) if arguments.root else None
    jobs = plan([video for video in videos if video not in unusable], settings, out=out, root=root)
    status = StatusLine()
    with owned_folder(out, work="an extraction", advice="give another out=", say=status.note):
        check_record(settings, out)
        outcome = run_jobs(
            jobs,
            settings,
            num_processes=arguments.processes,
            status=status,
            failed_before=unusable,
            max_skipped=max_skipped if skips else 1.0,
        )
        if skips:
            left_out = [
                Unusable("", number, "", arguments.key, source, "unreadable", reason)
                for number, (source, reason) in enumerate(outcome.failed.items(), start=1)
            ]
            if samples is not None:
                left_out = with_failed(samples, outcome.failed, key=arguments.key).unusable
            write_skipped(out / SKIPPED, {"videos" if samples is None else "data": left_out})
    gained = None
    if data_file is not None and arguments.out_data:
        results = {job.source: job.targets for job in jobs}
        gained = write_with_results(data_file, Path(arguments.out_data), results, key=arguments.key)
    _report(outcome, arguments, gained)
    return FINDINGS if outcome.failed and not skips else DONE


def _settings(arguments: argparse.Namespace) -> ExtractSettings:
    values: dict[str, Any] = {
        name: getattr(arguments, name) for name in SETTINGS if getattr(arguments, name) is not None
    }
    modalities = tuple(name.strip() for name in arguments.modalities.split(",") if name.strip())
    unknown = [name for name in modalities if name not in MODALITIES]
    if unknown or not modalities:
        found = f"'{unknown[0]}' is" if unknown else "Nothing was named that is"
        raise OptionsError(
            f"{found} not something to estimate. Accepted: {', '.join(MODALITIES)}. Write crema extract depth,flow ..."
        )
    if arguments.processes < 1:
        raise OptionsError(
            f"--processes is {arguments.processes}. At least one process works. Leave it out, or write --processes 2."
        )
    return parse_settings(ExtractSettings, {"modalities": modalities, **values}, title="extract")


def _expanded(words: list[str]) -> list[str]:
    """Return the videos: a folder with clips inside stands for them, a folder of pictures for itself."""
    from crema_core.data.media import CLIP_SUFFIXES

    found: list[str] = []
    for word in words:
        inside = Path(word).rglob("*") if Path(word).is_dir() else ()
        clips = sorted(str(path) for path in inside if path.suffix.lower() in CLIP_SUFFIXES)
        found += clips or [word]
    return found


def _report(outcome: Any, arguments: argparse.Namespace, gained: int | None) -> None:
    if arguments.json:
        print(json.dumps({**outcome._asdict(), "lines": gained}, indent=2))
        return
    print(f"{outcome.written:,} files written below {arguments.out}, {outcome.kept:,} kept.")
    if gained is not None:
        print(f"{gained:,} lines of {Path(arguments.out_data).name} name results.")
    for source, problem in outcome.failed.items():
        print(f"could not be read: {source}: {problem}")
