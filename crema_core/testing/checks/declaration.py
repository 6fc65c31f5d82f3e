"""Bronze: the entry point names a declaration that people and tools can read."""

from __future__ import annotations

import json

from crema_core.errors import PluginError
from crema_core.plugins.names import PLACEHOLDERS
from crema_core.testing.check import check, require
from crema_core.testing.subject import Subject


@check("bronze")
def entry_point_names_a_spec(subject: Subject) -> None:
    """The entry point can be imported and names a valid `ModalitySpec` of its own name.

    Why: everything else starts from the declaration; a name that differs from the entry point's could be listed but
    never asked for.
    Fix: in `pyproject.toml` write `radar = "crema_radar.plugin:SPEC"` with `SPEC.name == "radar"`, install the package
    again, and correct what the message says about the spec.
    """
    require(not isinstance(subject.declared, PluginError), str(subject.declared))


@check("bronze", needs=("entry_point_names_a_spec",))
def name_is_no_placeholder(subject: Subject) -> None:
    """The sense's name is not one that examples use.

    Why: two packages made from one example would both be called so, and nobody could install them together.
    Fix: name the sense after what it senses, in `SPEC.name` and in the entry point.
    """
    name = subject.spec.name
    require(
        name not in PLACEHOLDERS,
        f"'{name}' is a placeholder. A sense is named after what it senses, for example 'radar'. Rename it in SPEC and "
        "in the entry point.",
    )


@check("bronze", needs=("entry_point_names_a_spec",))
def declaration_is_json(subject: Subject) -> None:
    """The declaration can be written as JSON, options and all.

    Why: `crema plugins show --json`, saved models and web indexes carry it.
    Fix: give options types that have a JSON form: numbers, texts, booleans, literals, lists of these, None.
    """
    facts = subject.spec.describe()
    require(
        json.loads(json.dumps(facts)) == json.loads(json.dumps(subject.spec.describe())),
        "The declaration reads differently each time it is written as JSON. It must be constant. Look for defaults "
        "that change.",
    )


@check("bronze", needs=("entry_point_names_a_spec",))
def inputs_are_declared(subject: Subject) -> None:
    """At least one input is declared, each with a description and with file endings such as `.csv`.

    Why: `crema plugins show` is where a user learns which files to bring, in which layout and units.
    Fix: `inputs=(InputSpec(kind="array", suffixes=(".npy",), description="(sweeps, 64) magnitudes"),)`.
    """
    inputs = subject.spec.inputs
    require(bool(inputs), "No input is declared. A sense says what it reads. Give SPEC inputs=(InputSpec(...),).")
    silent = [source.kind for source in inputs if not source.description.strip()]
    require(not silent, f"The inputs {', '.join(silent)} have no description. Say layout, units and ranges.")
    wrong = [suffix for source in inputs for suffix in source.suffixes if not _is_suffix(suffix)]
    require(not wrong, f"{', '.join(wrong)} is no file ending. Endings have a dot and lower case. Write '.csv'.")


@check("bronze", needs=("entry_point_names_a_spec",))
def width_is_declared(subject: Subject) -> None:
    """`feature_dim` is given, unless the features come from the backbone's vision encoder.

    Why: parameters and costs are counted from the declaration, before anything is built.
    Fix: set `feature_dim` to the width of your features; with `encoder="vision"` leave it out.
    """
    spec = subject.spec
    if spec.encoder == "vision":
        require(
            spec.feature_dim is None,
            f"feature_dim is {spec.feature_dim}, but encoder='vision' takes the width of each backbone. Leave "
            "feature_dim out.",
        )
    else:
        require(
            spec.feature_dim is not None,
            f"feature_dim is not given. With encoder='{spec.encoder}' only the package knows it. Set feature_dim in "
            "SPEC.",
        )


def _is_suffix(text: str) -> bool:
    return text.startswith(".") and len(text) > 1 and text == text.lower()
