"""`crema data`: named data sets and the state of data files. Listing and preparing import no torch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from crema_core.cli.inputs import add_shared, help_text, model_folder, print_result
from crema_core.common.tables import counted, table
from crema_core.errors import OptionsError

if TYPE_CHECKING:
    from crema_core.data.check import CheckReport, Finding
    from crema_core.evaluation.answer_tokens import Clash

FINDINGS = 3
NUM_LINES = 20
TINY = "crema-tiny"
"""The backbone that `crema fit` takes where none is named."""

HELP = help_text("data")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the three actions and their options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="{list,prepare,check}")
    listing = actions.add_parser("list", help="one line per data set; --json has layouts, prompts and licences")
    add_shared(listing, "json")
    make = actions.add_parser("prepare", help="write the data file of one split")
    make.add_argument("name", metavar="NAME", help="a name from the list, or distribution:name")
    make.add_argument("--root", required=True, metavar="DIR", help="folder with the official files")
    make.add_argument("--split", required=True, metavar="S", help="one of the data set's splits")
    make.add_argument("--out", required=True, metavar="FILE.jsonl", help="the data file to write")
    add_shared(make, "modalities", help="default: those installed whose folder exists")
    make.add_argument("--skip-missing", action="store_true", help="leave out questions whose media are missing")
    make.add_argument("--replace", action="store_true", help="overwrite an existing file")
    check = actions.add_parser("check", help="look for what is wrong; exit code 3 when something is")
    check.add_argument("files", nargs="+", metavar="FILE.jsonl", help="data files, for example of all splits")
    add_shared(check, "modalities", help="modalities to check; default: every installed one")
    check.add_argument("--deep", action="store_true", help="read every source once")
    check.add_argument("--processes", type=int, default=1, metavar="N", help="of --deep: processes that read")
    check.add_argument(
        "--keep",
        metavar="FILE",
        help="of --deep: file that keeps what was read; given again, only what is new or has changed is read",
    )
    add_shared(
        check,
        "backbone",
        help="tokenizer that answers are compared with, of a folder or hub id; default: crema-tiny, without findings",
    )
    add_shared(check, "language-model")
    check.add_argument(
        "--model", metavar="MODEL", help="the same, of a saved model or run, with its scoring of choices"
    )
    add_shared(check, "json")


def run(arguments: argparse.Namespace) -> int:
    """Run one action."""
    return {"list": _list, "prepare": _prepare, "check": _check}[arguments.action](arguments)


def _list(arguments: argparse.Namespace) -> int:
    from crema_core.datasets.prepare import list_datasets

    records = list_datasets()
    facts = [
        {"distribution": own.distribution, "version": own.version, "name": own.name, "error": own.error}
        | (own.spec.describe() if own.spec else {})
        for own in records
    ]
    rows = [["name", "splits", "modalities", "package", "summary"]]
    rows += [
        [own.name, " ".join(own.spec.splits), " ".join(own.spec.modalities), own.distribution, own.spec.summary]
        for own in records
        if own.spec
    ]
    errors = [own.error for own in records if own.error]
    print_result(facts, "\n".join([table(rows), *errors]), as_json=arguments.json)
    return 0


def _prepare(arguments: argparse.Namespace) -> int:
    from crema_core.datasets.prepare import find_dataset, prepare

    done = prepare(
        arguments.name,
        root=arguments.root,
        split=arguments.split,
        out=arguments.out,
        modalities=arguments.modalities,
        missing="skip" if arguments.skip_missing else "error",
        replace=arguments.replace,
    )
    print(f"{counted(done.num_lines, 'question')} with {', '.join(done.modalities)}: {done.path}")
    if done.num_skipped:
        print(f"{counted(done.num_skipped, 'question')} left out, because a source of theirs is missing")
    for modality, reason in done.left_out.items():
        print(f"without {modality}: {reason}")
    for note in find_dataset(arguments.name).notes:
        print(f"note: {note}")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from crema_core.data.check import check_data_file, check_shared, check_sources

    _refuse_two(arguments)
    _refuse_shallow(arguments)
    reports = {path: check_data_file(path, modalities=arguments.modalities) for path in arguments.files}
    shared = check_shared(arguments.files, modalities=arguments.modalities)
    if arguments.deep:
        from crema_core.common.progress import StatusLine

        status = StatusLine()
        deep = check_sources(
            arguments.files,
            modalities=arguments.modalities,
            num_processes=arguments.processes,
            keep=arguments.keep,
            say=status.show,
        )
        status.done()
        reports = {path: replace(own, findings=(*own.findings, *deep.findings[path])) for path, own in reports.items()}
        shared += deep.shared
    tokens = _tokens(arguments)
    if not tokens.default:
        reports = {
            path: replace(own, findings=(*own.findings, *_found(tokens.clashes[path]))) for path, own in reports.items()
        }
    facts = {
        "files": {path: asdict(own) for path, own in reports.items()},
        "shared": [asdict(own) for own in shared],
        "answer_tokens": asdict(tokens),
    }
    parts = [_page(path, own, tokens) for path, own in reports.items()]
    if len(reports) > 1:
        parts.append("\n".join(["shared between files:", *([f"  {own.text}" for own in shared] or ["  nothing"])]))
    print_result(facts, "\n\n".join(parts), as_json=arguments.json)
    return FINDINGS if shared or any(own.findings for own in reports.values()) else 0


@dataclass(frozen=True)
class _Tokens:
    """What a tokenizer makes of the answers."""

    tokenizer: str  # whose it is
    default: bool  # nobody named it, so what it does not know is no fault of the data
    clashes: dict[str, tuple[Clash, ...]]  # by data file


def _refuse_two(arguments: argparse.Namespace) -> None:
    if arguments.model and (arguments.backbone or arguments.language_model):
        raise OptionsError(
            "--model came with --backbone or --language-model. A saved model names its own tokenizer. Leave one out."
        )


def _refuse_shallow(arguments: argparse.Namespace) -> None:
    if arguments.processes < 1:
        raise OptionsError(f"--processes is {arguments.processes}. At least 1 is needed. Write --processes 2.")
    if not arguments.deep and (arguments.keep or arguments.processes > 1):
        raise OptionsError(
            "--keep and --processes came without --deep. Sources are read with --deep alone. Add --deep, or leave them "
            "out."
        )


def _tokens(arguments: argparse.Namespace) -> _Tokens:
    """Compare the answers of every file after tokenization, without loading a model."""
    from crema_core.data.data_file import scan_data_file
    from crema_core.evaluation.answer_tokens import check_answer_tokens
    from crema_core.model.load_backbone import read_answer_format
    from crema_core.model.settings import ModelSettings
    from crema_core.model.template import PromptTemplate
    from crema_core.saving.bundle import read_model_config

    if arguments.model:
        settings = ModelSettings.of_saved(read_model_config(model_folder(arguments.model)))
    else:
        settings = ModelSettings(backbone=arguments.backbone or TINY, language_model=arguments.language_model)
    answers, wording = read_answer_format(settings)
    template = PromptTemplate(**{**wording, **settings.template})
    clashes = {
        path: check_answer_tokens(
            scan_data_file(Path(path), modalities=arguments.modalities).records, chat_format=answers, template=template
        )
        for path in arguments.files
    }
    named = arguments.model or arguments.language_model or arguments.backbone
    return _Tokens(named or TINY, named is None, clashes)


def _found(clashes: Sequence[Clash]) -> list[Finding]:
    from crema_core.data.check import Finding

    return [Finding("tokens", " ".join((own.text, *own.advice)), own.lines) for own in clashes]


def _page(path: str, report: CheckReport, tokens: _Tokens) -> str:
    modalities = ", ".join(f"{name} {count:,}" for name, count in report.modalities.items()) or "no modality"
    parts = [f"{path}: {counted(report.num_samples, 'sample')} ({modalities})"]
    if report.balance:
        rows = [["questions", "number", "answers", "most frequent answer", "share"]]
        for own in report.balance:
            counts = [f"{own.num_questions:,}", f"{own.num_answers:,}"]
            rows.append([own.type or "without type", *counts, own.answer, f"{own.share:.1%}"])
        parts.append(table(rows))
    for installed, what in ((True, "modalities not asked for"), (False, "keys that are no field or modality")):
        if keys := [str(own) for own in report.ignored if own.installed is installed]:
            parts.append(f"{what}: {', '.join(keys)}")
    if tokens.default and tokens.clashes[path]:
        listed = [f"- {own.text}" for own in tokens.clashes[path]]
        parts.append(
            "\n".join([f"with the tokenizer of {TINY}, the default; name yours with --backbone or --model:", *listed])
        )
    found = [f"- {own.text}{_lines(own)}" for own in report.findings]
    parts.append("\n".join([f"{counted(len(found), 'finding')}:", *found]) if found else "nothing to correct")
    return "\n\n".join(parts)


def _lines(finding: Finding) -> str:
    """Return the lines of a finding whose text does not have them: of several, and of a file that cannot be read."""
    from crema_core.data.check import numbers

    lines = finding.lines
    if not lines or (len(lines) == 1 and finding.kind not in ("damaged", "modality")):
        return ""
    word, listed = ("Line", str(lines[0])) if len(lines) == 1 else ("Lines", numbers(lines, most=NUM_LINES))
    # A text that ends in what to type has no full stop.
    return f" {word} {listed}." if finding.text.endswith(".") else f" ({word.lower()} {listed})"
