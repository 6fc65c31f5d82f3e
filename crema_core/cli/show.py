"""`crema show`: what a modality makes of a file, as a picture."""

from __future__ import annotations

import argparse
import io
import os
import re
from pathlib import Path

from crema_core.cli.inputs import add_shared, assignments, help_text
from crema_core.common.reading import shown
from crema_core.data.files import absent
from crema_core.data.sampling import split_span
from crema_core.data.unusable import SourceCheck
from crema_core.errors import MediaError, OptionsError
from crema_core.plugins import registry
from crema_core.plugins.spec import ModalitySpec

HELP = help_text("show")
MOST_LETTERS = 80
"""Of a source's name in the name of its picture: file systems allow 255 bytes for the whole."""
_ELSEWHERE_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f#%<>:"/\\|?*]')
"""Characters that a file system, a shell or a source's part (FILE#t=...) gives a meaning."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the source, the modality and where the picture goes."""
    parser.add_argument("source", metavar="FILE", help="a file or folder the modality reads")
    parser.add_argument("--modality", required=True, metavar="MODALITY", help="which modality")
    parser.add_argument("--out", metavar="PICTURE.png", help="default: FILE.MODALITY.show.png in this folder")
    parser.add_argument("--force", action="store_true", help="replace a picture that is there")
    add_shared(parser, "set", metavar="OPTION=VALUE", help="option; may be repeated")


def run(arguments: argparse.Namespace) -> int:
    """Find the modality, draw, write."""
    plugin = registry.resolve(arguments.modality)
    options = plugin.spec.parse_options(assignments(arguments.set))
    out = Path(arguments.out or picture_name(arguments.source, plugin.spec.name))
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
    refuse_unread(arguments.source, plugin.spec)  # in milliseconds; from here on torch is imported
    from PIL import Image

    from crema_core.common.atomic import write_bytes
    from crema_core.data import modality_calls
    from crema_core.data.doubts import collect_doubts
    from crema_core.modality import BuildContext

    modality = modality_calls.construct(plugin, options, BuildContext())
    with collect_doubts() as doubts:
        pixels = modality_calls.show(modality, arguments.source)
    packed = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(packed, format="PNG")
    write_bytes(out, packed.getvalue())
    print(f"{out}  {pixels.shape[1]} x {pixels.shape[0]}")
    for text in dict.fromkeys(own.text for own in doubts):
        print(text)
    if doubts:
        print("Options are set with --set NAME=VALUE.")
    return 0


def picture_name(source: str, modality: str) -> str:
    """Return the name of the picture of a source, a plain file name.

    >>> picture_name("clips/a.mp4#t=1.5,3", "video")
    'a.1.5-3s.video.show.png'
    """
    part = split_span(source)
    stem = _ELSEWHERE_FORBIDDEN.sub("_", Path(os.path.realpath(part.path)).stem) or "source"
    while len(stem.encode(errors="replace")) > MOST_LETTERS * 2 or len(stem) > MOST_LETTERS:
        stem = stem[:-1]
    return ".".join([stem, *([part.label] if part.label else []), modality, "show.png"])


def refuse_unread(source: str, spec: ModalitySpec) -> None:
    """Refuse a file that is absent, or of an ending that the modality does not read; torch is not imported.

    Raises:
        MediaError: with what the modality reads, and which other modalities read the file.
    """
    check = SourceCheck({spec.name: spec})
    endings, fault = check.endings(spec.name), check.fault(spec.name, source)
    if endings is None or fault is None:
        return
    declared = [suffix.lower() for own in spec.inputs for suffix in own.suffixes]
    accepted = f"'{spec.name}' reads {', '.join([*dict.fromkeys(declared), *sorted(endings - set(declared))])}."
    file = Path(split_span(source).path)
    if fault[0] == "missing":
        raise absent(Path(source), accepted)
    if fault[0] == "blocked":
        raise MediaError(f"{shown(file)} {fault[1]}. {accepted} Name another file. Nothing was written.")
    if fault[0] == "ending":
        ending = f"ends in '{file.suffix}'" if file.suffix else "has no ending"
        raise MediaError(f"'{file}' {ending}. {accepted} {_who_reads(file.suffix.lower())} Nothing was written.")


def _who_reads(suffix: str) -> str:
    """Return which modalities read files of an ending, as advice."""
    every = SourceCheck()
    names = [name for name in registry.installed_names() if suffix and suffix in (every.endings(name) or ())]
    if not names:
        return "Convert the file, or rename it if its ending is wrong."
    return f"Convert the file, or name a modality that reads it: --modality {' or '.join(names)}."
