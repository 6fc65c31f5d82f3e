"""`crema plugins new`: a package of a new sense that works as it is."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the action's arguments."""
    parser.add_argument("name", metavar="NAME", help="what the sense is called, for example radar")
    parser.add_argument(
        "--encoder",
        choices=("own", "vision", "features"),
        default="own",
        help="own: an encoder in the package; vision: the backbone's; features: computed before, read from files",
    )
    parser.add_argument("--output", type=Path, default=Path(), metavar="DIR", help="where to write; default: here")


def run(arguments: argparse.Namespace) -> int:
    """Write the package and say what to type next."""
    from crema_core.cli.scaffold import new_package

    place = new_package(arguments.name, encoder=arguments.encoder, output=arguments.output)
    print(f"{place}: a package that works as it is. Next:")
    print(f"  pip install -e '{place}[test]'")
    print(f"  pytest {place}")
    print(f"  crema plugins check {arguments.name}")
    return 0
