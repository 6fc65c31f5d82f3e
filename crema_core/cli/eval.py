"""`crema eval`: score a saved model on a data file."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING

from crema_core.cli.inputs import (
    add_evaluation,
    add_on_error,
    add_saved_model,
    add_shared,
    evaluation_settings,
    help_text,
    load_saved,
    print_result,
)
from crema_core.cli.launch import add_processes, launch, wants_launch
from crema_core.common.tables import counted, table
from crema_core.data.unusable import NUM_SHOWN

if TYPE_CHECKING:
    from crema_core.api.model import CremaModel
    from crema_core.evaluation.result import EvaluationResult

HELP = help_text("eval")


@dataclasses.dataclass(frozen=True)
class Price:
    """What an answer costs."""

    trainable_parameters: int  # of the modalities that take part and, unless bypassed, of the fusion
    tokens_per_answer: float  # mean number of tokens given to the language model
    gflops_per_answer: float  # 10^9 operations of an answer to a synthetic sample, a multiply-add counted as two


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the model, the data and what takes part."""
    add_saved_model(parser, device="for example cuda; several processes choose their own")
    parser.add_argument("data", metavar="DATA.jsonl", help="questions with answers")
    add_evaluation(parser, "modalities", "shuffle", "seed", "batch_size", "max_new_tokens", "num_beams")
    add_evaluation(parser, "scorer", "measures", "prompts", "fusion")
    parser.add_argument("--cache", metavar="DIR", help="folder of kept features; the encoders run for the rest alone")
    add_on_error(parser)
    add_processes(parser)
    parser.add_argument("--out", metavar="FILE.jsonl", help="write every answer, one JSON object per line")
    parser.add_argument("--resume", action="store_true", help="continue with the answers that --out already has")
    add_shared(parser, "json")


def run(arguments: argparse.Namespace) -> int:
    """Load, evaluate, print."""
    if wants_launch(arguments):
        return launch(arguments.words, arguments.processes)
    from crema_core.common.progress import StatusLine
    from crema_core.errors import OptionsError
    from crema_core.evaluation.run import evaluate
    from crema_core.train.distributed import join_processes, leave_processes, own_device

    if arguments.resume and not arguments.out:
        raise OptionsError("--resume without --out. Answers are taken up from a file. Add --out FILE.jsonl.")
    settings = evaluation_settings(arguments, out=arguments.out, resume=arguments.resume)
    processes = join_processes()
    model = load_saved(arguments, device=own_device() if processes.count > 1 else None)
    status = StatusLine(enabled=processes.is_main)
    result = evaluate(model, arguments.data, settings, cache=arguments.cache, status=status, processes=processes)
    status.done()
    leave_processes()
    if not processes.is_main:
        return 0
    from crema_core.evaluation.intervals import METHOD

    price = _price(model, result)
    facts = dataclasses.asdict(result) | {"intervals": METHOD, "cost": dataclasses.asdict(price)}
    print_result(facts, _page(result, price, METHOD), as_json=arguments.json)
    return 0


def _price(model: CremaModel, result: EvaluationResult) -> Price:
    from crema_core.api.describe import cost_of
    from crema_core.evaluation.run import chosen_fusion

    parameters = [parameter for name in result.modalities for parameter in model.adapter_parameters(name).values()]
    fusion = chosen_fusion(model, result.fusion)
    parameters += fusion.parameters()
    gflops = cost_of(model, result.modalities, fusion=fusion).total_gflops
    return Price(sum(own.numel() for own in parameters), result.tokens_per_answer, gflops)


def _page(result: EvaluationResult, price: Price, intervals: str) -> str:
    rows = [["questions", "number", "accuracy", "95% interval", *(["ties"] if result.num_ties else [])]]
    for row in result.table:
        ties = [f"{row.ties:,}"] if result.num_ties else []
        rows.append([row.name, f"{row.number:,}", f"{row.accuracy:.1%}", f"{row.low:.1%} to {row.high:.1%}", *ties])
    shuffled = f", {result.shuffled} exchanged between samples" if result.shuffled else ""
    fusion = ", fusion bypassed" if result.fusion == "concat" else ""
    wording = ", wording of the data set" if result.prompts == "dataset" else ""
    parts = [
        f"modalities: {', '.join(result.modalities) or 'none'}{shuffled}{fusion}{wording}",
        f"judged by: {', '.join(result.scorers)}",
        table(rows),
    ]
    if result.num_ties:
        parts.append(
            f"{counted(result.num_ties, 'answer')} of {result.num_samples:,} tied: the best choices have equal scores. "
            "A tie counts as a draw among them, not as the first. crema data check DATA.jsonl --model MODEL names "
            "choices with equal tokens."
        )
    if result.skipped:
        text = f"{counted(len(result.skipped), 'sample')} left out, because a file of theirs cannot be used"
        shown = [f"- {own}" for own in result.skipped[:NUM_SHOWN]]
        more = [f"- and {len(result.skipped) - NUM_SHOWN:,} more"] if len(result.skipped) > NUM_SHOWN else []
        parts.append("\n".join([f"{text}:", *shown, *more]))
    if result.measures:
        parts.append(table([["measure", "value"], *([key, f"{value:.4f}"] for key, value in result.measures.items())]))
    for output, means in result.extras.items():
        names = list(next(iter(means.values())))
        numbers = [[kind, *(f"{own[name]:.3f}" for name in names)] for kind, own in means.items()]
        parts.append(table([[f"mean {output.replace('_', ' ')}", *names], *numbers]))
    cost = {
        "trainable parameters": f"{price.trainable_parameters:,}",
        "tokens per answer": f"{price.tokens_per_answer:.0f}",
        "GFLOPs per answer": f"{price.gflops_per_answer:,.4g}",
        "seconds": f"{result.duration_s:.1f}",
    }
    return "\n\n".join([*parts, table([list(cost), list(cost.values())]), f"Intervals: {intervals}."])
