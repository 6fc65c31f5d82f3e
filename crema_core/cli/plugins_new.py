"""`crema plugins new`: a package of any kind that works as it is."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the action's arguments."""
    parser.add_argument("name", metavar="NAME", help="what the new thing is called, for example radar")
    parser.add_argument(
        "--kind",
        choices=("modality", "fusion", "backbone", "encoder", "dataset", "metric", "verb"),
        default="modality",
        help="what the package adds; default: modality",
    )
    parser.add_argument(
        "--encoder",
        choices=("own", "vision", "features"),
        help="of a modality: own, an encoder in the package (default); vision, the backbone's; features, computed "
        "before and read from files",
    )
    parser.add_argument("--output", type=Path, default=Path(), metavar="DIR", help="where to write; default: here")


def run(arguments: argparse.Namespace) -> int:
    """Write the package and print what to type next."""
    from crema_core.cli.scaffold import look_at, new_package

    place = new_package(arguments.name, kind=arguments.kind, encoder=arguments.encoder, output=arguments.output)
    print(f"{place}: a package that works as it is. Next:")
    print(f"  pip install -e '{place}[test]'")
    print(f"  pytest {place}")
    print(f"  {look_at(arguments.name, arguments.kind)}")
    return 0
