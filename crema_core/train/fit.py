"""`crema_core.fit`: from a model and a data file to a trained model and a run directory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from crema_core.api.model import CremaModel
from crema_core.api.saved import record_of_today
from crema_core.common.processes import Processes
from crema_core.common.progress import StatusLine
from crema_core.data.check import check_records
from crema_core.data.data_file import Data, Record, Samples, read_samples
from crema_core.data.unusable import SKIPPED, Unusable, read_skipped, settle, write_skipped
from crema_core.errors import CheckpointError, DataFileError, OptionsError, TrainingError, did_you_mean
from crema_core.evaluation.answer_tokens import check_answer_tokens, describe_clashes, require_choices
from crema_core.modality import Modality
from crema_core.model.precision import require_trainable
from crema_core.plugins.hooks import Hooks, load_hooks
from crema_core.saving.fingerprint import feature_fingerprint
from crema_core.saving.upgrades import FEATURES, SavedModality, compare_features, require_widths
from crema_core.train.checkpoints import Checkpoint, pointed, read_checkpoint
from crema_core.train.distributed import join_processes
from crema_core.train.early_exit import why_no_exit
from crema_core.train.metrics import METRICS, MetricsFile, read_metrics
from crema_core.train.run import (
    LAST,
    Run,
    describe_run,
    only_writer,
    read_config,
    record_changes,
    refuse_changes,
    refuse_differences,
    refuse_used,
    run_folder,
    write_start,
)
from crema_core.train.settings import CHANGEABLE, RESUMABLE, TrainSettings, preset_settings, train_settings
from crema_core.train.trainer import Readable, Trainer


def fit(
    model: CremaModel,
    data: Data,
    eval_data: Data | None = None,
    *,
    preset: str | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    check_features: bool = True,
    hooks: Hooks | None = None,
    status: StatusLine | None = None,
    **settings: object,
) -> Run:
    """Train a model's adapters and fusion; everything else stays as it is.

    In a launch of several processes (`crema fit --processes`, `accelerate launch`, `torchrun`) each of them makes this
    same call. They share every minibatch and evaluation and end with equal models; the main one prints and writes.

    Args:
        model: a built model. It ends with its best weights when `eval_data` is given, else with the last ones.
        data: a data file, or samples: records, or mappings with the keys of a line.
        eval_data: validation data, in the same forms.
        preset: name of a set of settings, see `crema_core.train.settings`.
        out: the run directory, new or to be continued; None: a new one below `runs/`.
        resume: continue the run in `out` from its last checkpoint, or from its beginning when it has none, with the
            numbers of an uninterrupted one. Its settings are taken from its `config.json`; those that change no number
            may be given anew, and the number of processes may be another. Of those that do, the ones in
            `crema_core.train.settings.CHANGEABLE`, such as lr, may be given to change them from here on, which
            `config.json` and `metrics.jsonl` record.
        check_features: with `resume`, compare the features of every modality's example with those the run began with:
            an upgraded package may make others. What differs is a warning, with `CREMA_PLUGINS_STRICT=1` an error.
        hooks: called in the main process, see `crema_core.plugins.hookspecs`; None: those of the installed packages.
        status: where progress is shown; None: standard error.
        **settings: see `crema_core.train.settings.TrainSettings`.

    Returns:
        The run directory with its metrics, best score, the modalities that exited early, and who stopped the run.

    Raises:
        OptionsError: for an unknown preset or setting.
        PrecisionError: for frozen parts in fp16.
        DataFileError: for unusable data.
        TrainingError: when training cannot start or continue.
        CheckpointError: when a run cannot be continued.
        TrainingInterrupted: after Ctrl-C or SIGTERM, with everything saved.
        HookError: when a hook changed what it was given to read.

    Example:
        >>> run = crema_core.fit(model, "train.jsonl", "valid.jsonl", preset="tiny", epochs=3)    # doctest: +SKIP
    """
    if resume and out is None:
        raise TrainingError("resume=True without a run. Continuing needs the run directory. Pass out='runs/...'.")
    processes = join_processes()
    status = (status if status is not None else StatusLine()) if processes.is_main else StatusLine(enabled=False)
    with run_folder(out, processes) as folder, only_writer(folder, processes, status.note):
        return _fit(
            model,
            data,
            eval_data,
            folder=folder,
            processes=processes,
            preset=preset,
            resume=resume,
            check_features=check_features,
            hooks=hooks,
            status=status,
            settings=settings,
        )


def _fit(
    model: CremaModel,
    data: Data,
    eval_data: Data | None,
    *,
    folder: Path,
    processes: Processes,
    preset: str | None,
    resume: bool,
    check_features: bool,
    hooks: Hooks | None,
    status: StatusLine,
    settings: Mapping[str, object],
) -> Run:
    """Train in a run directory that belongs to this launch."""
    saved = read_config(folder) if resume else None
    if saved is not None:  # settings that came later than the run had their defaults
        saved["settings"] = TrainSettings().model_dump(mode="json") | saved["settings"]
    if saved is None:
        processes.from_main(lambda: refuse_used(folder))
        chosen = train_settings(preset, settings)
    else:
        chosen = train_settings(None, saved["settings"] | preset_settings(preset) | dict(settings))
    require_trainable(model.config["backbone"]["precision"])
    _check_modalities(model, chosen)
    given: dict[str, Data] = {"data": data} | ({} if eval_data is None else {"eval_data": eval_data})
    skips = chosen.on_error == "skip"
    everything = {
        name: read_samples(own, modalities=model.names, specs=model.specs, check_records=skips)
        for name, own in given.items()
    }
    known = processes.from_main(lambda: _known_skipped(folder) if saved is not None and skips else None)
    samples = everything if known is None else _left_out_again(everything, known)
    if known is None:
        settle(list(samples.values()), on_error=chosen.on_error, max_skipped=chosen.max_skipped)
    for name, own in given.items():
        require_choices(samples[name].usable, model.template, name=_name(own, name))
        _note_findings(own, samples[name].usable, status)
    records = everything["data"].records
    eval_records = everything["eval_data"].records if eval_data is not None else []
    _check_data(model, chosen, samples["data"].usable)
    for name, own in (("data", records), ("eval_data", eval_records)) if processes.is_main else ():
        place = {"data": data, "eval_data": eval_data}[name]
        clashes = check_answer_tokens(
            own, chat_format=model.language.chat_format, template=model.template, say=status.show
        )
        if clashes:
            status.note(describe_clashes(_name(place, name), clashes))
    for line in _defaults(model) if processes.is_main else ():
        status.note(line)
    if (cannot := why_no_exit(chosen)) is not None:
        status.note(cannot)
    features = processes.from_main(
        lambda: {name: _starting_features(model.branch(name).modality) for name in model.names}
    )
    config = describe_run(
        model,
        chosen.model_dump(mode="json"),
        records=records,
        eval_data=eval_records,
        inputs={"data": _place(data), "eval_data": _place(eval_data)},
        features=features,
    )
    refuse_differences(processes.gather(config))
    checkpoint, changes = None, list[dict[str, Any]]()
    if saved is None:
        processes.from_main(lambda: write_start(folder, config))
    else:
        named = CHANGEABLE & settings.keys()
        for line in refuse_changes(_of_today(folder, saved, model), config, resumable=RESUMABLE | named):
            status.note(line)
        checkpoint = pointed(folder, LAST)
        # a damaged one is refused before any work
        reached = None if checkpoint is None else read_checkpoint(checkpoint)
        step = 0 if reached is None else int(reached.state["position"][2])
        changes = processes.from_main(lambda: record_changes(folder, config["settings"], named, step=step))
        for change in changes:
            if change["step"] == step:
                status.note(f"{change['setting']}: {change['was']} -> {change['now']}, from update {step + 1:,} on")
        if check_features:
            processes.from_main(lambda: compare_features(folder, _as_saved(saved, model, reached), stacklevel=6))
        if checkpoint is None and processes.is_main:
            status.note("This run stopped before its first checkpoint; it starts from its beginning.")
            MetricsFile(folder / METRICS).truncate(0)
    usable = {name: own.usable for name, own in samples.items()}
    trainer = Trainer(
        model,
        usable["data"],
        usable.get("eval_data", []),
        chosen,
        folder=folder,
        hooks=hooks if hooks is not None else load_hooks(),
        status=status,
        readable=Readable(samples, known=known is not None) if skips else None,
    )
    if skips:
        _check_data(model, chosen, trainer.records)
        if known is None:
            processes.from_main(lambda: write_skipped(folder / SKIPPED, trainer.skipped))
    trainer.train(resume_from=checkpoint, changes=changes)
    processes.wait()
    return Run(
        folder,
        tuple(read_metrics(folder / METRICS)),
        best_score=trainer.best_score,
        exited={name: str(found) for name, found in trainer.early_exit.exits.items()},
        num_steps=trainer.step,
        stopped=trainer.stopped,
        skipped={name: tuple(own) for name, own in trainer.skipped.items()},
    )


def _known_skipped(folder: Path) -> dict[str, list[Unusable]] | None:
    """Return the samples that a run to continue has left out; None when it stopped before it knew them all."""
    return read_skipped(folder / SKIPPED) if (folder / SKIPPED).exists() else None


def _left_out_again(everything: Mapping[str, Samples], known: Mapping[str, Sequence[Unusable]]) -> dict[str, Samples]:
    """Return samples without those that a run has left out at its beginning.

    Raises:
        DataFileError: when others have become unusable since.
    """
    found = {}
    for name, own in everything.items():
        left_out = {one.line for one in known.get(name, ())}
        if new := [one for one in own.unusable if one.line not in left_out]:
            settle([own._replace(unusable=new)], on_error="stop")
        found[name] = own._replace(unusable=list(known.get(name, ())))
    return found


def _of_today(folder: Path, saved: Mapping[str, Any], model: CremaModel) -> dict[str, Any]:
    """Return the description of a run with its modalities' options as the installed packages call them.

    Raises:
        CheckpointError: when features have another width, or a package does not take the options the run began with.
    """
    require_widths(folder, _as_saved(saved, model))
    entries = []
    for entry in saved["model"]["modalities"]:
        if entry["name"] in model.names:
            branch = model.branch(entry["name"])
            try:
                entry = record_of_today(folder, entry, branch.spec, branch.provenance)
            except OptionsError as error:
                raise CheckpointError(str(error)) from error
        entries.append(entry)
    return {**saved, "model": {**saved["model"], "modalities": entries}}


def _starting_features(modality: Modality) -> dict[str, Any]:
    """Return what a run records of a modality's features; those of a trainable encoder are in its checkpoints."""
    return {"feature_dim": modality.feature_dim} if modality.trainable else feature_fingerprint(modality)


def _as_saved(saved: Mapping[str, Any], model: CremaModel, checkpoint: Checkpoint | None = None) -> list[SavedModality]:
    """Return the modalities as a run records them, those of trainable encoders as its checkpoint does."""
    found = []
    for entry in saved["model"]["modalities"]:
        if (name := entry["name"]) not in model.names:
            continue
        features, weights = saved.get(FEATURES, {}).get(name), {}
        if checkpoint is not None and model.branch(name).modality.trainable:
            features = checkpoint.state.get(FEATURES, {}).get(name)
            start = f"modalities.{name}."
            weights = {
                key.removeprefix(start): own for key, own in checkpoint.adapters.items() if key.startswith(start)
            }
        found.append(SavedModality(entry, features, model.branch(name), weights))
    return found


def _note_findings(data: Data, records: Sequence[Record], status: StatusLine) -> None:
    if isinstance(data, str | os.PathLike):
        for finding in check_records(records):
            status.note(f"{Path(data).name}: {finding.text}")


def _name(data: Data | None, argument: str) -> str:
    """Return what messages call some data: the file, or the argument that holds the samples."""
    return Path(data).name if isinstance(data, str | os.PathLike) else argument


def _place(data: Data | None) -> str | None:
    return str(Path(data).absolute()) if isinstance(data, str | os.PathLike) else None


def _check_modalities(model: CremaModel, settings: TrainSettings) -> None:
    for name in settings.modalities or ():
        if name not in model.names:
            raise TrainingError(
                f"modalities names '{name}', which this model does not have. It has: {', '.join(model.names)}."
                f"{did_you_mean(name, model.names)} Correct the name, or add the modality with "
                f"model.add_modality('{name}')."
            )
    if settings.modalities is not None and not settings.modalities:
        raise TrainingError(
            f"modalities is empty, so there is nothing to train. This model has: {', '.join(model.names)}. "
            "Name at least one, or leave modalities out to train all."
        )
    chosen = settings.modalities or model.names
    shared = model.shared_parameters()
    if not shared and not any(model.adapter_parameters(name) or model.fusion_parameters([name]) for name in chosen):
        raise TrainingError(
            f"Nothing of {', '.join(chosen)} is trained: the backbone takes that as it is. A training needs a modality "
            "that passes an adapter, or a language model that is tuned. Add one with model.add_modality, or build with "
            'tuning={"rank": 64}.'
        )


def _defaults(model: CremaModel) -> Iterator[str]:
    """Yield what modalities chose for this backbone where the user left it open."""
    for name in model.names:
        branch = model.branch(name)
        kind = "pretrained" if branch.modality.context.pretrained else "tiny"
        for option, value in branch.defaults.items():
            yield f"{name}: {option}={value!r}, the default on a {kind} backbone. Name the option to choose another."


def _check_data(model: CremaModel, settings: TrainSettings, records: Sequence[Record]) -> None:
    if not records:
        raise DataFileError("There is nothing to train on: the data have no samples. Give at least one.")
    found = {name for record in records for name in record.sources}
    absent = [name for name in settings.modalities or model.names if name not in found]
    if absent:
        raise TrainingError(
            f"No sample has a source of {', '.join(absent)}, so these modalities would not be trained. Every trained "
            "modality needs samples. Add their files to the data, or pass modalities=["
            + ", ".join(repr(name) for name in model.names if name not in absent)
            + "]."
        )
