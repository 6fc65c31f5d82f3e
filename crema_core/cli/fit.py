"""`crema fit`: train a model's adapters on a data file."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crema_core.cli.fit_config import FitConfig, complete, read_config, show
from crema_core.cli.inputs import (
    ON_ERROR,
    add_on_error,
    add_shared,
    assignments,
    given,
    help_text,
    model_folder,
    print_result,
    with_options,
)
from crema_core.cli.launch import add_processes, launch, wants_launch
from crema_core.errors import TrainingError
from crema_core.train.settings import NOT_A_FOLDER, TrainSettings, train_settings

if TYPE_CHECKING:
    from crema_core.api.describe import Description
    from crema_core.api.model import CremaModel
    from crema_core.common.processes import Processes
    from crema_core.plugins.hookspecs import ReportSection
    from crema_core.train.run import Run

USAGE = 2
HELP = help_text("fit", settings=", ".join(TrainSettings.model_fields))
CONFIG, MODEL = "fit.json", "model"
NUM_EXAMPLES = 64
CHANGES = "modalities backbone qformer language_model image_size eval_data out fusion major preset init_from".split()
"""Options that replace fields of the configuration."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the source and the options that replace single fields of the configuration."""
    parser.add_argument(
        "source", nargs="?", metavar="CONFIG.yaml|DATA.jsonl", help="a configuration, or the training data"
    )
    add_shared(parser, "modalities", "backbone", "qformer", "language-model", "image-size")
    add_on_error(parser)
    parser.add_argument("--eval-data", metavar="DATA.jsonl", help="validation data; with it the best weights are kept")
    parser.add_argument("--out", metavar="RUN", help="the run directory; default: a new one below runs/")
    add_shared(parser, "fusion", "preset")
    parser.add_argument("--major", metavar="MODALITY", help="modality on whose frames the others are fused")
    parser.add_argument("--init-from", metavar="RUN", help="saved model or run of an earlier stage, to start from")
    parser.add_argument("--show", action="store_true", help="print what --preset stands for, and do nothing")
    add_processes(parser)
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Check everything that needs no torch, then train."""
    values = assignments(arguments.set)
    settings = {key: value for key, value in values.items() if "." not in key} | given(arguments, *ON_ERROR)
    changes = given(arguments, *CHANGES)
    if arguments.show:
        print(show(arguments.preset, changes, settings))
        return 0
    if arguments.source is None:
        print("crema fit: name a configuration or a data file. Try: crema fit --help", file=sys.stderr)
        return USAGE
    config = read_config(arguments.source, changes, settings)
    train_settings(config.preset, config.settings)
    if wants_launch(arguments):
        return launch(arguments.words, arguments.processes)
    config = complete(config)
    requests = with_options(config.modalities or (), {key: value for key, value in values.items() if "." in key})
    config = config.model_copy(update={"modalities": tuple(requests)})
    folder = Path(config.out) if config.out else None
    return train(config, folder, resume=False, settings=config.settings, as_json=arguments.json)


def train(config: FitConfig, folder: Path | None, *, resume: bool, settings: dict[str, Any], as_json: bool) -> int:
    """Train as a complete configuration says, or continue, and return the exit code; in a launch every process does it.

    Without a folder the run directory is a new one below `runs/`; `settings` go before those of the configuration.
    """
    from crema_core.common.progress import StatusLine
    from crema_core.train.distributed import join_processes, leave_processes
    from crema_core.train.run import only_writer, run_folder

    processes = join_processes()
    with (
        run_folder(folder, processes) as place,
        only_writer(place, processes, StatusLine(enabled=processes.is_main).note),
        _told_how_to_go_on(place),
    ):
        code = _train(config, place, processes, resume=resume, settings=settings, as_json=as_json)
    if code == 0:
        leave_processes()
    return code


@contextmanager
def _told_how_to_go_on(place: Path) -> Iterator[None]:
    """Note, for whoever stops a training, what is saved and what to type next."""
    try:
        yield
    except KeyboardInterrupt as stop:
        from crema_core.train.run import LAST
        from crema_core.train.trainer import TrainingInterrupted

        if isinstance(stop, TrainingInterrupted):
            saved = "everything is saved"
        elif (place / LAST).exists():
            saved = "everything up to the last checkpoint is saved"
        elif (place / CONFIG).exists():
            saved = "there is no checkpoint yet, so it will start from its beginning"
        else:
            stop.add_note("nothing was written. Run the same command again.")
            raise
        stop.add_note(f"{saved}. Continue with: crema resume {place}")
        raise


def _train(
    config: FitConfig, place: Path, processes: Processes, *, resume: bool, settings: dict[str, Any], as_json: bool
) -> int:
    """Train in a run directory that belongs to this launch, and leave a saved model and a report in it."""
    from crema_core.api.build import build
    from crema_core.api.describe import describe_model
    from crema_core.common.atomic import write_text
    from crema_core.saving.bundle import init_from
    from crema_core.train.fit import fit
    from crema_core.train.run import CONFIG as STARTED

    if not resume:
        processes.from_main(lambda: _refuse_used(place))
    assert config.modalities is not None, "complete() fills them in"
    model = build(config.modalities, config.model())
    if not resume:
        processes.from_main(lambda: write_text(place / CONFIG, _as_json(config)))
    # Counted now, because a language model shared out over processes cannot be run by one of them.
    description = describe_model(model) if processes.is_main else None
    # A run that was stopped while its model was built has nothing to continue from.
    resume = processes.from_main(lambda: resume and (place / STARTED).exists())
    if config.init_from is not None and not resume:
        init_from(model, model_folder(config.init_from))
    run = fit(
        model,
        config.data,
        config.eval_data,
        preset=None if resume else config.preset,
        out=place,
        resume=resume,
        **(settings if resume else {**config.settings, **settings}),
    )
    config = config.model_copy(update={"settings": {**config.settings, **settings}})
    sections = [*_skipped(run), *_examples(model, run, config, processes)]
    if processes.is_main:
        _finish(model, run, sections, description)
        _tell(run, as_json=as_json)
    return 0


def _as_json(config: FitConfig) -> str:
    """Return the configuration as text; pydantic's own writer stops at names of files that are no UTF-8."""
    return json.dumps(config.model_dump(mode="json"), indent=2) + "\n"


def _refuse_used(folder: Path) -> None:
    from crema_core.train.run import has_begun, refuse_used

    if (folder / CONFIG).exists() and has_begun(folder):
        raise TrainingError(
            f"'{folder}' already holds a run. A new run needs a folder of its own. Continue that run with "
            f"crema resume {folder}, or give another --out."
        )
    refuse_used(folder)


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the options both verbs have."""
    add_shared(parser, "set", metavar="KEY=VALUE", help="a training setting; may be repeated")
    add_shared(parser, "json", help="print the result as JSON")


def _finish(model: CremaModel, run: Run, sections: list[ReportSection], description: Description | None) -> None:
    from crema_core.report.card import write_card
    from crema_core.report.run_report import write_run_report

    model.save_pretrained(run.path / MODEL)
    metrics = {} if run.best_score is None else {"validation accuracy": run.best_score}
    write_card(run.path / MODEL, model, metrics=metrics, description=description)
    write_run_report(run.path, title=f"Training run {run.path.name}", sections=sections)


def _skipped(run: Run) -> list[ReportSection]:
    """Return a section about the samples that were left out, where there are any."""
    from crema_core.data.unusable import NUM_SHOWN, SKIPPED
    from crema_core.plugins.hookspecs import ReportSection
    from crema_core.report.html import paragraphs, table_block

    left_out = [one for own in run.skipped.values() for one in own]
    if not left_out:
        return []
    more = f" The first {NUM_SHOWN} are shown." if len(left_out) > NUM_SHOWN else ""
    text = f"{len(left_out):,} samples have a file that cannot be used; {SKIPPED} lists them.{more}"
    rows = [["data", "line", "modality", "file", "reason"]]
    rows += [[own.data, f"{own.line:,}", own.modality, own.source, own.reason] for own in left_out[:NUM_SHOWN]]
    return [ReportSection("Samples that were left out", paragraphs(text) + table_block(rows, text=True))]


def _examples(model: CremaModel, run: Run, config: FitConfig, processes: Processes) -> list[ReportSection]:
    """Answer some of the validation questions with the saved weights, to be looked at."""
    from crema_core.common.progress import StatusLine
    from crema_core.data.data_file import scan_data_file
    from crema_core.evaluation.run import evaluate
    from crema_core.model.precision import computing_in
    from crema_core.plugins.hookspecs import ReportSection
    from crema_core.report.html import ANSWERED, examples_block, read_lines
    from crema_core.report.thumbnails import samples_shown
    from crema_core.train.trainer import make_cache

    if config.eval_data is None:
        return []
    left_out = {own.line for own in run.skipped.get("eval_data", ())}
    scanned = scan_data_file(Path(config.eval_data), modalities=model.names).records  # fit() said what is ignored
    records, folder = [record for record in scanned if record.line not in left_out], run.path
    settings = train_settings(config.preset, config.settings)
    cache = None if settings.cache in NOT_A_FOLDER else make_cache(model, settings)
    with computing_in(settings.precision, model.device):
        some = records[:: -(-len(records) // NUM_EXAMPLES)]
        # Some of what fit() evaluated: nothing to warn of again, and no accuracy of the validation data.
        evaluate(model, some, out=folder / ANSWERED, cache=cache, measures=(), announce=False, processes=processes)
    if not processes.is_main:
        return []
    status = StatusLine()
    cards = examples_block(read_lines(folder / ANSWERED), about=samples_shown(model, some, status=status))
    status.done()
    return [ReportSection("Validation questions and answers", cards)]


def _tell(run: Run, *, as_json: bool) -> None:
    facts = {
        "run": str(run.path),
        "model": str(run.path / MODEL),
        "report": str(run.path / "report.html"),
        "best_score": run.best_score,
        "num_steps": run.num_steps,
        "exited": run.exited,
        "stopped": run.stopped,
        "skipped": {name: len(own) for name, own in run.skipped.items()},
    }
    best = "" if run.best_score is None else f", best validation accuracy {run.best_score:.1%}"
    exited = "\n".join(run.exited.values()) or "no modality exited early"
    if run.stopped is not None:
        exited += f"\n{run.stopped}. Continue with: crema resume {run.path}"
    if num_skipped := sum(map(len, run.skipped.values())):
        exited += f"\n{num_skipped:,} samples left out: {run.path / 'skipped.jsonl'}"
    updates = f"{run.num_steps:,} update{'s' * (run.num_steps != 1)}"
    text = f"{updates}{best}\n{exited}\nmodel:  {facts['model']}\nreport: {facts['report']}"
    print_result(facts, text, as_json=as_json)
