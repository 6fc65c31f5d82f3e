"""`crema greet`: a verb that a package adds."""

from __future__ import annotations

import argparse

HELP = """\
Say hello.

Example:
  crema greet world"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("whom")


def run(arguments: argparse.Namespace) -> int:
    print(f"hello {arguments.whom}")
    return 0
