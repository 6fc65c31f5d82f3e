"""`crema resume`: continue with a run of `crema fit` from its last checkpoint."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from crema_core.cli.fit import CONFIG, add_common, train
from crema_core.cli.fit_config import FitConfig
from crema_core.cli.inputs import assignments, help_text
from crema_core.cli.launch import add_processes, launch, wants_launch
from crema_core.common.reading import read_object
from crema_core.errors import CheckpointError, ReadError, first_line
from crema_core.plugins.spec import parse_settings
from crema_core.train.settings import CHANGEABLE, RESUMABLE

HELP = help_text("resume", settings=", ".join(sorted(RESUMABLE)), changeable=", ".join(sorted(CHANGEABLE)))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the run directory."""
    parser.add_argument("folder", metavar="RUN", help="directory that crema fit wrote")
    add_processes(parser)
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Read the settings of the run and continue."""
    folder = Path(arguments.folder)
    file = folder / CONFIG
    if not file.is_file():
        raise CheckpointError(
            f"'{folder}' holds no run of crema fit (there is no {CONFIG} in it). Accepted: a directory that crema fit "
            "wrote. Check the path; a run of crema_core.fit is continued in Python with fit(..., resume=True), a "
            "pretraining with the words it was begun with and --resume: crema pretrain ... --out RUN --resume."
        )
    if wants_launch(arguments):
        return launch(arguments.words, arguments.processes)
    try:
        config = parse_settings(FitConfig, read_object(file), title=CONFIG)
    except ReadError as error:
        raise CheckpointError(
            f"The run '{folder}' cannot be continued: {CONFIG} cannot be read, {first_line(error)}. Needed is the file "
            "that crema fit wrote. Copy the folder again. Nothing was changed."
        ) from error
    config = config.model_copy(update={"modalities": _modalities(folder, config)})
    with _commits(folder):
        return train(config, folder, resume=True, settings=assignments(arguments.set), as_json=arguments.json)


def _commits(folder: Path) -> AbstractContextManager[None]:
    """Return a block in which the hub is read as it was when the run began."""
    from crema_core.model.revisions import REVISIONS, pinned
    from crema_core.train.run import CONFIG as STARTED
    from crema_core.train.run import read_config

    return pinned(read_config(folder)["model"].get(REVISIONS, {}) if (folder / STARTED).is_file() else {})


def _modalities(folder: Path, config: FitConfig) -> tuple[str | dict[str, Any], ...] | None:
    """Return what the run was asked to build, with options as the packages that are installed now call them."""
    from crema_core.api.requests import name_and_options
    from crema_core.api.saved import continued_request
    from crema_core.fusion import fusion_class
    from crema_core.saving.records import ContinuedRecord, check_record
    from crema_core.train.run import CONFIG as STARTED
    from crema_core.train.run import read_config

    if config.modalities is None or not (folder / STARTED).is_file():  # it was stopped before it began
        return config.modalities
    built = read_config(folder)["model"]
    check_record(folder / STARTED, built, ContinuedRecord, writer="fit")
    entries = built["modalities"]
    extended = fusion_class(name_and_options(config.fusion, "fusion")[0]).extended
    return tuple(continued_request(folder, item, entries, extended=extended) for item in config.modalities)
