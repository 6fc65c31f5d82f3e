"""Write the reference pages from the code they describe: `python docs/reference.py`; `make docs` runs it.

A test compares the pages with what this writes, so they cannot fall behind.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from pydantic import BaseModel

from crema_core.plugins import hookspecs
from crema_core.plugins.spec import API_VERSION, Asset, Capabilities, InputSpec, MMQASpec, ModalitySpec
from crema_core.testing.check import checks_up_to
from crema_core.testing.report import TIERS

FOLDER = Path(__file__).parent / "reference"
NOTE = "<!-- Written by docs/reference.py from the code. -->"

TIER_TEXTS = {
    "bronze": "Static: metadata, declaration and files. Imports no torch.",
    "silver": "The sense alone on the CPU, with a stand-in for the backbone's vision encoder, without network.",
    "gold": "The sense in a model on the built-in tiny backbone.",
}

PROCESSES = {
    "crema_build_started": "main process of `build`",
    "crema_modality_built": "main process of `build` and `add_modality`, once per sense",
    "crema_model_built": "main process of `build`",
    "crema_train_started": "main process of `fit`",
    "crema_step_finished": "main process of `fit`, after each minibatch",
    "crema_evaluated": "main process of `evaluate` and of `fit`",
    "crema_checkpoint_saved": "main process of `fit`",
    "crema_register_commands": "the `crema` command, for help and unknown verbs",
    "crema_report_sections": "main process that writes the HTML report",
}
"""Who calls a hook; a test fails for a hook that is missing here."""


def conformance_page() -> str:
    """Return the page of the checks, by tier."""
    parts = [
        f"# Conformance checks\n\n{NOTE}",
        "`crema plugins check NAME|PATH` and `crema_core.testing.conformance` run these. A sense has a tier when every "
        "check of it and of the tiers below passed; it is computed, never declared. The names never change meaning.",
    ]
    for tier in TIERS:
        checks = [check for check in checks_up_to("gold") if check.tier == tier]
        parts.append(f"## {tier.capitalize()}: {len(checks)} checks\n\n{TIER_TEXTS[tier]}")
        parts += [f"### {check.name}\n\n{_emphasize(check.documentation)}" for check in checks]
    return "\n\n".join(parts) + "\n"


def spec_page() -> str:
    """Return the page of everything a spec may declare."""
    parts = [f"# What a spec declares\n\n{NOTE}", f"Version {API_VERSION} of the contract."]
    for model in (ModalitySpec, InputSpec, MMQASpec, Asset, Capabilities):
        summary = (inspect.getdoc(model) or "").split("\n\n")[0]
        parts.append(f"## {model.__name__}\n\n{summary}\n\n{_fields(model)}")
    return "\n\n".join(parts) + "\n"


def hooks_page() -> str:
    """Return the page of the hooks: arguments, who calls them, what they may return."""
    parts = [
        f"# Hooks\n\n{NOTE}",
        "A package observes a run with functions of these names, marked with `crema_core.plugins.hooks.hookimpl`, in a "
        "light module that an entry point in the group `crema.hooks` names. An implementation takes any of the "
        "arguments by name, without default values. Implementations are called one after the other, those "
        "registered last first, as everywhere in pluggy: objects given to `load_hooks`, then packages in reverse order "
        "of their names. One that fails is reported once "
        "and the run goes on; with `CREMA_PLUGINS_STRICT=1` it stops the run. A misspelt name or argument, a default "
        "value or a wrapper makes all hooks of the package unused, with a message.",
    ]
    events = {name: value for name, value in vars(hookspecs).items() if name.startswith("crema_")}
    for name, event in events.items():
        signature = ", ".join(inspect.signature(event).parameters)
        parts.append(
            f"## {name}({signature})\n\nCalled by: {PROCESSES[name]}.\n\n{_arguments(inspect.getdoc(event) or '')}"
        )
    return "\n\n".join(parts) + "\n"


PAGES = {"conformance.md": conformance_page, "spec.md": spec_page, "hooks.md": hooks_page}


def _emphasize(text: str) -> str:
    return re.sub(r"^(Why|Fix):", r"\n*\1:*", text, flags=re.MULTILINE).replace("\n\n\n", "\n\n")


def _arguments(text: str) -> str:
    """Turn a docstring's `Args:` block into a list."""
    before, found, after = text.partition("Args:\n")
    if not found:
        return before.strip()
    lines = re.sub(r"^    (\w+): ", r"- `\1`: ", after, flags=re.MULTILINE)
    return f"{before.strip()}\n\n{lines.strip()}"


def _fields(model: type[BaseModel]) -> str:
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
