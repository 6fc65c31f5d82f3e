"""`crema answer`: ask a saved model one question about media files. Every installed modality is an option."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from crema_core.cli.inputs import Parser, add_saved_model, add_shared, assignments, help_text, load_saved, print_result
from crema_core.common.tables import table
from crema_core.errors import did_you_mean
from crema_core.plugins import registry

if TYPE_CHECKING:
    from crema_core.api.predict import Answer

HELP = help_text("answer")

OWN = "choices source cache backbone language-model without device max-new-tokens json traceback help".split()
"""Options that no modality can have."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the model, the question and an option per installed modality."""
    add_saved_model(parser)
    parser.add_argument("question", metavar="QUESTION", help="in quotes")
    for name in registry.installed_names():
        if name not in OWN:
            parser.add_argument(
                f"--{name}", dest=f"modality_{name}", nargs="+", metavar="FILE", help=f"source of '{name}'"
            )
    if isinstance(parser, Parser):
        parser.explain = _no_modality
    parser.add_argument("--source", action="append", default=[], metavar="MODALITY=FILE", help="source of any modality")
    parser.add_argument("--choices", nargs="+", metavar="TEXT", help="choose among these instead of writing freely")
    parser.add_argument("--max-new-tokens", type=int, default=10, help="longest free answer")
    parser.add_argument("--cache", metavar="DIR", help="folder of kept features")
    add_shared(
        parser, "json", help="print JSON: text, scores (by choice, and in order), modalities used, choices that tie"
    )


def _no_modality(name: str) -> str:
    """Return what to say of an option that is neither this verb's nor an installed modality."""
    known = registry.installed_names()
    return (
        f"'{name}' is neither an option nor an installed modality. Installed: {', '.join(known)}."
        f"{did_you_mean(name, [*known, *OWN])} If the model was trained with it, its package is not installed: the "
        f"same command without --{name} names it."
    )


def run(arguments: argparse.Namespace) -> int:
    """Load, answer, print."""
    from crema_core.api.answer import answer_many

    sources = {
        key.removeprefix("modality_"): files[0] if len(files) == 1 else files
        for key, files in vars(arguments).items()
        if key.startswith("modality_") and files
    }
    sources |= {name: str(file) for name, file in assignments(arguments.source).items()}
    model = load_saved(arguments)
    item = {"question": arguments.question, "choices": arguments.choices, **sources}
    answer = answer_many(model, [item], max_new_tokens=arguments.max_new_tokens, cache=arguments.cache)[0]
    facts = {
        "text": answer.text,
        "scores": answer.scores,
        "choice_scores": answer.choice_scores,
        "used": answer.used,
        "tied": answer.tied,
    }
    print_result(facts, _as_text(answer), as_json=arguments.json)
    return 0


def _as_text(answer: Answer) -> str:
    if not answer.scores:
        return answer.text
    best = sorted(answer.scores.items(), key=lambda entry: -entry[1])
    rows = [["choice", "log-probability"], *([text, f"{score:.3f}"] for text, score in best)]
    return f"{answer.text}\n\n{table(rows)}"
