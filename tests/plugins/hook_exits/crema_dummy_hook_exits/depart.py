"""`crema depart`: prints a result and leaves with sys.exit."""

from __future__ import annotations

import argparse
import sys

HELP = """\
Print and leave.

Example:
  crema depart"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--code", type=int, default=0)


def run(arguments: argparse.Namespace) -> int:
    print("departed")
    sys.exit(arguments.code)
