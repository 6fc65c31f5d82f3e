import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from crema_core.contract import Command, ReportSection, hookimpl
from crema_core.plugins.hooks import load_hooks

# In a package the hooks, the verb and the state stand in modules of their own; the entry point names that of the hooks:
# [project.entry-points."crema.hooks"]
# hello = "crema_hello.hooks"

HELP = """\
Say hello.

Example:
  crema hello world"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("whom")


def run(arguments: argparse.Namespace) -> int:
    print(f"hello {arguments.whom}")
    return 0


class Hooks:
    @hookimpl
    def crema_step_finished(self, step: int, losses: Mapping[str, float]) -> None:
        print(step, dict(losses))

    @hookimpl
    def crema_register_commands(self) -> Sequence[Command]:
        return [Command("hello", "say hello", "crema_hello.verb")]  # the module with HELP, add_arguments and run

    @hookimpl
    def crema_report_sections(self, run: Path) -> Sequence[ReportSection]:
        return [ReportSection("Hello", f"<p>From {run.name}.</p>")]


hooks = load_hooks([Hooks()])
hooks.call("crema_step_finished", trainer=None, step=1, losses={"video": 0.5})
commands, *_ = hooks.call("crema_register_commands")
print([command.name for command in commands])
sections, *_ = hooks.call("crema_report_sections", run=Path("runs/mine"))
print([section.html for section in sections])
