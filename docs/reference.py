"""Write the reference pages from the code they describe: `python docs/reference.py`; `make docs` runs it.

A test compares the pages with what this writes, so they cannot fall behind.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from crema_core.datasets.read import Entry, Place
from crema_core.datasets.spec import AnnotationFile, Column, DatasetSpec, Media, Wording
from crema_core.evaluation.metric import Metric
from crema_core.evaluation.settings import EvaluationSettings
from crema_core.fusion.base import Fusion, FusionPlan, FusionSizes, FusionWatch, ModalitySet
from crema_core.fusion.connector import Connector, ConnectorRequest
from crema_core.model.backbone import Backbone
from crema_core.model.backbone_family import BackboneFamily, BackboneRequest, NamedCheckpoint, NamedShape
from crema_core.model.settings import ModelSettings
from crema_core.plugins import hookspecs
from crema_core.plugins.groups import KINDS
from crema_core.plugins.hookspecs import Command, ReportSection
from crema_core.plugins.preset import Preset, PresetFamily
from crema_core.plugins.spec import API_VERSION, Asset, Capabilities, InputSpec, MMQASpec, ModalitySpec
from crema_core.testing.check import TIERS, CheckedKind, Tier, checks_up_to
from crema_core.tokens import ModalityTokens, Segment
from crema_core.train.settings import TrainSettings
from crema_core.video.vision_encoder import Preprocessing, VisionEncoder

FOLDER = Path(__file__).parent / "reference"
NOTE = "<!-- Written by docs/reference.py from the code. -->"

TIER_TEXTS: dict[CheckedKind, dict[Tier, str]] = {
    "modality": {
        "bronze": "Static: metadata, declaration and files. Imports no torch.",
        "silver": "The modality alone on the CPU, with a stand-in for the backbone's vision encoder, without network.",
        "gold": "The modality in a model on the built-in tiny backbone.",
    },
    "fusion": {
        "bronze": "Static: metadata, the class and its arguments.",
        "silver": "What it lays out, from the tokens of its own connectors, with every set of its `test_options`.",
        "gold": "The fusion in a model on a built-in tiny backbone: gradients, saving, adding a modality.",
    },
}

PROCESSES = {
    "crema_build_started": "main process of `build`",
    "crema_modality_built": "main process of `build` and `add_modality`, once per modality",
    "crema_model_built": "main process of `build`",
    "crema_train_started": "main process of `fit`",
    "crema_tokens_ready": "main process of `fit`, in each sub-step before its forward passes",
    "crema_gradients_ready": "main process of `fit`, in each sub-step before its optimizer step",
    "crema_step_finished": "main process of `fit`, after each minibatch",
    "crema_evaluated": "main process of `evaluate` and of `fit`",
    "crema_checkpoint_saved": "main process of `fit`",
    "crema_register_commands": "the `crema` command, for help and unknown verbs",
    "crema_report_sections": "main process that writes the HTML report",
}
"""Who calls a hook; a test fails for a hook that is missing here."""


def conformance_page() -> str:
    """Return the page of the checks, by kind and tier."""
    parts = [
        f"# Conformance checks\n\n{NOTE}",
        "`crema plugins check NAME|PATH` and `crema_core.testing.conformance` run these on a modality or a fusion. It "
        "has a tier when every check of that tier and of those below passed; the tier is computed, never declared. The "
        "names never change meaning.",
    ]
    for kind, texts in TIER_TEXTS.items():
        for tier in TIERS:
            checks = [check for check in checks_up_to("gold", kind=kind) if check.tier == tier]
            title = tier.capitalize() if kind == "modality" else f"Fusions, {tier}"
            parts.append(f"## {title}: {len(checks)} checks\n\n{texts[tier]}")
            own = [check for check in checks if kind == "modality" or "modality" not in check.kinds]
            parts += [f"### {check.name}\n\n{_emphasize(check.documentation)}" for check in own]
            shared = [f"`{check.name}`" for check in checks if check not in own]
            parts += [f"As for modalities: {', '.join(shared)}."] if shared else []
    return "\n\n".join(parts) + "\n"


def spec_page() -> str:
    """Return the page of everything a spec may declare."""
    parts = [f"# What a spec declares\n\n{NOTE}", f"Version {API_VERSION} of the contract."]
    for model in (ModalitySpec, InputSpec, MMQASpec, Asset, Capabilities):
        summary = (inspect.getdoc(model) or "").split("\n\n")[0]
        parts.append(f"## {model.__name__}\n\n{summary}\n\n{fields(model)}")
    return "\n\n".join(parts) + "\n"


def settings_page() -> str:
    """Return the page of what `build`, `evaluate` and `fit` can be told."""
    parts = [
        f"# Settings\n\n{NOTE}",
        "What `build`, `evaluate` and `fit` take by name, or, the first two, whole as one object of these classes. A "
        "YAML file of `crema fit` has the fields of a model and those of a training, the latter below `settings`.",
    ]
    for model in (ModelSettings, EvaluationSettings, TrainSettings):
        summary = (inspect.getdoc(model) or "").split("\n\n")[0]
        parts.append(f"## {model.__module__}.{model.__name__}\n\n{summary}\n\n{fields(model)}")
    return "\n\n".join(parts) + "\n"


def hooks_page() -> str:
    """Return the page of the hooks: arguments, who calls them, what they may return."""
    parts = [
        f"# Hooks\n\n{NOTE}",
        "A package observes a run with functions of these names, marked with `crema_core.plugins.hooks.hookimpl`, in a "
        "light module that an entry point in the group `crema.hooks` names. An implementation takes any of the "
        "arguments by name, without default values. Implementations are called one after the other, those "
        "registered last first, as everywhere in pluggy: objects given to `load_hooks`, then packages in reverse order "
        "of their names. One that fails, calls `sys.exit` or returns something else is reported once "
        "and the run continues; with `CREMA_PLUGINS_STRICT=1` it stops the run. What hooks of packages print goes to "
        "standard error. A misspelt name or argument, a default "
        "value or a wrapper makes all hooks of the package unused, with a message.",
    ]
    events = {name: value for name, value in vars(hookspecs).items() if name.startswith("crema_")}
    for name, event in events.items():
        signature = ", ".join(inspect.signature(event).parameters)
        parts.append(
            f"## {name}({signature})\n\nCalled by: {PROCESSES[name]}.\n\n{_arguments(inspect.getdoc(event) or '')}"
        )
    parts += [_class(Command), _class(ReportSection), _example("hooks", HOOKS_PRINT)]
    return "\n\n".join(parts) + "\n"


@dataclass(frozen=True)
class Seam:
    """The page of one kind of extension.

    Attributes:
        title: heading.
        intro: what one is for, and how it is used.
        entries: lines below the heading of the group in `pyproject.toml`.
        things: classes the page describes.
        prints: what the complete example prints.
    """

    title: str
    intro: str
    entries: str
    things: tuple[type, ...]
    prints: str


SEAMS: dict[str, Seam] = {
    "fusions": Seam(
        "Fusions",
        "A fusion lays out the tokens of all modalities before the question. It is used by its name: "
        '`build(..., fusion="weighted")`, or with options `fusion={"name": "weighted", "heads": 4}`: keyword arguments '
        "of its `__init__` with defaults. Tokens come from connectors, which a fusion may bring itself. "
        "`crema plugins check NAME` and `check_fusion` hold it to the [checks](conformance.md). Shapes: B samples of "
        "the batch, R of them that have a modality, T steps, Q or K tokens of a step, L width of the language model.",
        'weighted = "crema_weighted.fusion:WeightedFusion"',
        (
            Fusion,
            ModalitySet,
            Segment,
            ModalityTokens,
            FusionSizes,
            FusionPlan,
            FusionWatch,
            Connector,
            ConnectorRequest,
        ),
        "['blocks.touch.weight']\n()",
    ),
    "backbones": Seam(
        "Backbones",
        "A backbone family turns checkpoints of certain model types into a frozen `Backbone`. The entry's name is the "
        "`model_type` in the checkpoint's `config.json`; further types are further lines with the same object. An "
        "entry whose name begins with `any` is asked, by `recognises`, about types that have none. An entry may also "
        "name a `NamedCheckpoint`, or a `NamedShape` to count without weights: `backbone=` then takes its name.",
        'echo_blip = "crema_echo.backbone:FAMILY"',
        (BackboneFamily, BackboneRequest, NamedCheckpoint, NamedShape, Backbone),
        "echo_blip",
    ),
    "encoders": Seam(
        "Encoders",
        'A vision encoder is frozen and looks for any modality that sees: `{"name": "video", "encoder": '
        '"patches_of_8", "weights": "path/to/folder"}`. Its weights are read in `load`; its sizes are known before.',
        'patches_of_8 = "crema_patches.encoder:PatchEncoder"',
        (VisionEncoder, Preprocessing),
        "48 ('video',)",
    ),
    "datasets": Seam(
        "Data sets",
        "A data set turns its official files into a data file: `crema data prepare birdsong --root birds --split train "
        "--out train.jsonl`. Its module imports no torch. Paths in `files` and `Media` are below the folder the user "
        "names; `Place` is that folder while one split is read, and what is not in the official layout becomes an "
        "error that names file and entry.",
        'birdsong = "crema_birdsong.dataset:SPEC"',
        (DatasetSpec, Media, AnnotationFile, Wording, Column, Place, Entry),
        "1 birds/clips/7.mp4",
    ),
    "metrics": Seam(
        "Metrics",
        'A metric judges free answers: one by one (`is_right`; `evaluate(..., scorer="first_word")`), all together '
        "(`compute`; `measures=[...]`), or both.",
        'first_word = "crema_first_word.metric:METRIC"',
        (Metric,),
        "{'first_word': 0.5, 'words': 2.0}",
    ),
    "presets": Seam(
        "Presets",
        "A preset is a whole setting by name: `crema fit --preset glance`; `--show` prints it with what each value "
        "rests on. A `PresetFamily` makes many that differ in one word. Its module imports no torch.",
        'glance = "crema_glance.presets:GLANCE"',
        (Preset, PresetFamily),
        "{'epochs': 1, 'batch_size': 2} {'epochs': 12}",
    ),
}
"""By page, and by group of entry points `crema.<page>`; the example is `docs/reference/examples/<page>.py`."""
HOOKS_PRINT = "1 {'video': 0.5}\n['hello']\n['<p>From mine.</p>']"


def seam_page(name: str) -> str:
    """Return the page of one kind of extension: what it is for, the entry point, the classes, a complete example."""
    seam, (kind,) = SEAMS[name], [kind for kind in KINDS.values() if kind.group == f"crema.{name}"]
    new = "" if kind.name == "preset" else f" `crema plugins new NAME --kind {kind.name}` writes a package that works."
    parts = [
        f"# {seam.title}\n\n{NOTE}",
        f"{seam.intro}{new}",
        f'```toml\n[project.entry-points."{kind.group}"]\n{seam.entries}\n```',
        f'Until there is a package: `crema_core.registry.register(..., kind="{kind.name}")`.',
        *(_class(thing) for thing in seam.things),
        _example(name, seam.prints),
    ]
    return "\n\n".join(parts) + "\n"


def _example(name: str, prints: str) -> str:
    code = (FOLDER / "examples" / f"{name}.py").read_text(encoding="utf-8").rstrip()
    return f"## Complete example\n\n```python\n{code}\n```\n\nIt prints:\n\n```text\n{prints}\n```"


def _class(thing: type) -> str:
    """Return the section of a class: its docstring, then its public methods with their first sentence."""
    text = inspect.cleandoc(thing.__doc__ or "")
    for block in ("Args", "Attributes", "Raises"):
        text = re.sub(rf"^{block}:$", f"*{block}:*\n", text, flags=re.MULTILINE)
    text = re.sub(r"^Example:\n.*?(?=\n\n|\Z)", "", text, flags=re.MULTILINE | re.DOTALL).rstrip()
    text = re.sub(r"\n {8}", " ", text)  # an item is one line
    text = re.sub(r"^    (\w[\w, .]*?): ", _item, text, flags=re.MULTILINE)
    text = re.sub(r"<(\w+)>", r"&lt;\1&gt;", text)
    rows = []
    for name, member in vars(thing).items():
        function = getattr(member, "__func__", getattr(member, "fget", member))
        if name.startswith("_") or not inspect.isfunction(function) or not function.__doc__:
            continue
        arguments = ", ".join(own for own in inspect.signature(function).parameters if own not in ("self", "cls"))
        call = name if isinstance(member, property) else f"{name}({arguments})"
        rows.append(
            f"| `{call}` | {_cell(' '.join(inspect.cleandoc(function.__doc__).split(chr(10) * 2)[0].split()))} |"
        )
    table = "\n\n" + "\n".join(["| member | |", "|---|---|", *rows]) if rows else ""
    return f"## {thing.__name__}\n\n{text}{table}"


def _item(found: re.Match[str]) -> str:
    return f"- {', '.join(f'`{name}`' for name in found[1].split(', '))}: "


PACKAGES = FOLDER.parent / "packages.json"
"""The directory of known packages, which anybody may send a change to."""


def packages_page() -> str:
    """Return the page of known packages, from the data beside the pages."""
    parts = [
        f"# Known packages\n\n{NOTE}",
        "Packages that add something to core, by name. `crema plugins list` shows those of an environment, "
        "`crema plugins show NAME` what one of them declares. Code of packages runs with your rights; an entry "
        "here is no review of it.",
        "The page is made from [packages.json](../packages.json). To add a package or to correct an entry, send a "
        "change to that file: `package`, `summary` (one sentence), `license` (SPDX), `source` (its address) "
        'and `provides`, names by kind of plugin; a package that only observes runs provides `"hook": []`. Entries are '
        "sorted by name, and two packages must not provide the same name of a kind. `python docs/reference.py` writes "
        "the page, and `pytest tests/docs/test_packages.py` checks both.",
    ]
    packages = json.loads(PACKAGES.read_text(encoding="utf-8"))
    rows = [
        f"| {kind} | {', '.join(f'`{name}`' for name in names)} | [{own['package']}](#{own['package']}) |"
        for kind in [*KINDS, "verb"]
        for own in packages
        if (names := own["provides"].get(kind))
    ]
    parts.append("\n".join(["| kind | names | package |", "|---|---|---|", *rows]))
    parts += [_package(own) for own in packages]
    return "\n\n".join(parts) + "\n"


def _package(own: Mapping[str, Any]) -> str:
    source = f"<{own['source']}>" if "://" in own["source"] else f"`{own['source']}` of this repository"
    # One command to a line of a code block: such lines scroll and are never wrapped.
    commands = f"```sh\npip install {own['package']}\nuv pip install {own['package']}\n```"
    return f"## {own['package']}\n\n{own['summary']}\n\nLicence: {own['license']}. Source: {source}.\n\n{commands}"


PAGES: dict[str, Callable[[], str]] = {
    "conformance.md": conformance_page,
    "spec.md": spec_page,
    "settings.md": settings_page,
    "hooks.md": hooks_page,
    "packages.md": packages_page,
    **{f"{name}.md": partial(seam_page, name) for name in SEAMS},
}


def _emphasize(text: str) -> str:
    return re.sub(r"^(Why|Fix):", r"\n*\1:*", text, flags=re.MULTILINE).replace("\n\n\n", "\n\n")


def _arguments(text: str) -> str:
    """Turn a docstring's `Args:` block into a list."""
    before, found, after = text.partition("Args:\n")
    if not found:
        return before.strip()
    lines = re.sub(r"^    (\w+): ", r"- `\1`: ", after, flags=re.MULTILINE)
    return f"{before.strip()}\n\n{lines.strip()}"


def fields(model: type[BaseModel]) -> str:
    """Return a table of the fields of a pydantic model."""
    rows = ["| field | type | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        default = "required" if field.is_required() else f"`{field.default!r}`"
        if isinstance(field.default, BaseModel | type):
            default = "no option" if isinstance(field.default, type) else "all defaults"
        rows.append(f"| `{name}` | `{_type(field.annotation)}` | {_cell(default)} | {_cell(field.description or '')} |")
    return "\n".join(rows)


def _type(annotation: object) -> str:
    text = annotation.__name__ if isinstance(annotation, type) and "[" not in str(annotation) else str(annotation)
    return _cell(re.sub(r"\b(typing|crema_core\.plugins\.spec)\.", "", text))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Write the pages."""
    FOLDER.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
