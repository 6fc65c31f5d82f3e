"""`crema show`: what a modality makes of a file, as a picture."""

from __future__ import annotations

import argparse
import io
from pathlib import Path

from crema_core.cli.inputs import add_shared, assignments, help_text
from crema_core.data.sampling import split_span
from crema_core.errors import OptionsError

HELP = help_text("show")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the source, the modality and where the picture goes."""
    parser.add_argument("source", metavar="FILE", help="a file or folder the modality reads")
    parser.add_argument("--modality", required=True, metavar="MODALITY", help="which modality")
    parser.add_argument("--out", metavar="PICTURE.png", help="default: FILE.MODALITY.show.png in this folder")
    parser.add_argument("--force", action="store_true", help="replace a picture that is there")
    add_shared(parser, "set", metavar="OPTION=VALUE", help="option; may be repeated")


def run(arguments: argparse.Namespace) -> int:
    """Find the modality, draw, write."""
    from crema_core.plugins import registry

    plugin = registry.resolve(arguments.modality)
    options = plugin.spec.parse_options(assignments(arguments.set))
    part = split_span(arguments.source)
    name = Path(part.path).resolve().stem or "source"
    name += f".{part.label}" if part.label else ""
    out = Path(arguments.out or f"{name}.{plugin.spec.name}.show.png")
    if out.suffix.lower() != ".png":
        raise OptionsError(
            f"--out is '{out}'. Pictures are written as .png. Write --out {out.with_suffix('.png')}. Nothing was "
            "written."
        )
    if out.exists() and not arguments.force:
        raise OptionsError(
            f"'{out}' exists. A picture is written to a new file. Name another --out, or pass --force to replace it. "
            "Nothing was written."
        )
    from PIL import Image

    from crema_core.common.atomic import write_bytes
    from crema_core.data import modality_calls
    from crema_core.modality import BuildContext

    modality = modality_calls.construct(plugin, options, BuildContext())
    pixels = modality_calls.show(modality, arguments.source)
    packed = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(packed, format="PNG")
    write_bytes(out, packed.getvalue())
    print(f"{out}  {pixels.shape[1]} x {pixels.shape[0]}")
    return 0
