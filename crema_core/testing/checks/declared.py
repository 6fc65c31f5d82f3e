"""Bronze: what the declaration, its import and the installed package say; nothing of it imports torch."""

from __future__ import annotations

import ast
import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from crema_core.errors import ConformanceError, OptionsError, PluginError
from crema_core.plugins.loading import CORE_DISTRIBUTION, HEAVY_MODULES, unmet_requirements
from crema_core.plugins.spec import PLACEHOLDERS
from crema_core.plugins.trial import Trial
from crema_core.testing.check import require
from crema_core.testing.probing import light_import
from crema_core.testing.under_test import LIGHT_IMPORT, FusionUnderTest, PluginUnderTest, UnderTest


def entry_point_names_a_spec(under_test: UnderTest) -> None:
    """The entry point can be imported and names a valid `ModalitySpec` of its own name."""
    require(not isinstance(under_test.declared, PluginError), str(under_test.declared))


def name_is_no_placeholder(under_test: UnderTest) -> None:
    """The modality's name is not one that examples use."""
    name = under_test.spec.name
    require(name not in PLACEHOLDERS, f"'{name}' is a placeholder.")


def declaration_is_json(under_test: UnderTest) -> None:
    """The declaration can be written as JSON, options and all."""
    facts = under_test.spec.describe()
    require(
        json.loads(json.dumps(facts)) == json.loads(json.dumps(under_test.spec.describe())),
        "The declaration reads differently each time it is written as JSON.",
    )


def inputs_are_declared(under_test: UnderTest) -> None:
    """At least one input is declared, each with a description and with file endings such as `.csv`."""
    inputs = under_test.spec.inputs
    require(bool(inputs), "No input is declared. A modality states what it reads. Give SPEC inputs=(InputSpec(...),).")
    silent = [source.kind for source in inputs if not source.description.strip()]
    require(not silent, f"The inputs {', '.join(silent)} have no description. Say layout, units and ranges.")
    wrong = [suffix for source in inputs for suffix in source.suffixes if not _is_suffix(suffix)]
    require(not wrong, f"{', '.join(wrong)} is no file ending. Endings have a dot and lower case. Write '.csv'.")


def width_is_declared(under_test: UnderTest) -> None:
    """`feature_dim` is given, unless the features come from the backbone's vision encoder."""
    spec = under_test.spec
    if spec.encoder == "vision":
        require(
            spec.feature_dim is None,
            f"feature_dim is {spec.feature_dim}, but encoder='vision' takes the width of each backbone.",
        )
    else:
        require(
            spec.feature_dim is not None,
            f"feature_dim is not given. With encoder='{spec.encoder}' only the package knows it.",
        )


def _is_suffix(text: str) -> bool:
    return text.startswith(".") and len(text) > 1 and text == text.lower()


NO_OPTION = "no_option_has_this_name"


def options_are_described(under_test: UnderTest) -> None:
    """Every option has a description."""
    silent = [name for name, field in under_test.spec.options.model_fields.items() if not field.description]
    require(not silent, f"The options {', '.join(silent)} have no description.")


def options_are_strict(under_test: UnderTest) -> None:
    """An option that does not exist is refused."""
    required = {name: None for name, field in under_test.spec.options.model_fields.items() if field.is_required()}
    try:
        under_test.spec.parse_options({**required, NO_OPTION: 1})
    except OptionsError as error:
        refused = NO_OPTION in str(error)
    else:
        refused = False
    require(refused, "The options accept a name that does not exist.")


def test_options_are_given(under_test: UnderTest) -> None:
    """`test_options` has at least one set of options: small, quick, and needing no download."""
    require(bool(under_test.spec.test_options), "test_options is empty.")


def entry_point_names_a_fusion(under_test: FusionUnderTest) -> None:
    """The entry point can be imported and names a subclass of `Fusion` that defines `forward`."""
    require(not isinstance(under_test.declared, PluginError), str(under_test.declared))
    missing = sorted(under_test.strategy.__abstractmethods__)
    require(
        not missing,
        f"{under_test.strategy.__name__} lacks {', '.join(missing)}. A fusion lays out the modalities. Define: "
        f"{', '.join(missing)}",
    )


def options_have_defaults(under_test: FusionUnderTest) -> None:
    """Every argument of `__init__` beside `supporting`, `width` and `num_queries` is keyword-only and has a default."""
    parameters = list(inspect.signature(under_test.strategy.__init__).parameters.values())[2:]
    wrong = [
        own.name
        for own in parameters
        if own.kind not in (own.KEYWORD_ONLY, own.VAR_KEYWORD)
        or (own.default is own.empty and own.kind is own.KEYWORD_ONLY and own.name not in SIZES)
    ]
    if "for_sizes" in vars(under_test.strategy):  # it may fill in sizes of its own
        wrong = [name for name in wrong if any(own.name == name and own.kind != own.KEYWORD_ONLY for own in parameters)]
    require(
        not wrong, f"{', '.join(wrong)} of {under_test.strategy.__name__}.__init__ cannot be left out or given by name."
    )


SIZES = ("width", "num_queries")


MOST_SECONDS = 0.3
TRIES = 3


def declaration_is_light(under_test: UnderTest) -> None:
    """Importing the declaration imports neither torch nor transformers, peft or numpy."""
    heavy = [name for name in HEAVY_MODULES if name in _first_import(under_test).modules]
    require(not heavy, f"{under_test.module} imports {', '.join(heavy)}.")


def declaration_is_quick(under_test: UnderTest) -> None:
    """Importing the declaration takes less than 0.3 s beyond core's own; the best of three tries counts."""
    best = _first_import(under_test).seconds
    for _ in range(TRIES - 1):
        if best > MOST_SECONDS:
            best = min(best, light_import(under_test.module).seconds)
    require(best <= MOST_SECONDS, f"Importing {under_test.module} takes {best:.1f} s. Accepted are {MOST_SECONDS} s.")


def import_prints_nothing(under_test: PluginUnderTest[Any]) -> None:
    """Importing the entry point's module writes nothing to standard output."""
    printed = _first_import(under_test).printed
    require(not printed, f"Importing {under_test.module} prints {printed.splitlines()[0]!r}." if printed else "")


def package_init_imports_nothing(under_test: UnderTest) -> None:
    """The package's `__init__.py` imports nothing but the standard library."""
    imported = [
        f"{name} ({place.name}/__init__.py)"
        for place in under_test.packages
        for name in _imports(place / "__init__.py")
        if name.partition(".")[0] not in sys.stdlib_module_names
    ]
    require(not imported, f"A package's __init__ imports {', '.join(imported)}.")


def _first_import(under_test: PluginUnderTest[Any]) -> Trial:
    return under_test.once(LIGHT_IMPORT, lambda: light_import(under_test.module))


def _imports(path: Path) -> Iterator[str]:
    """Yield what a file imports when it is imported itself: at its top, outside `if TYPE_CHECKING` and functions."""
    if not path.exists():
        return
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            yield "." * node.level + (node.module or "")


STACK = ("torch", "torchvision", "torchaudio", "transformers", "peft", "accelerate", "timm", "numpy")
"""Libraries whose upper bounds core owns."""
UPPER = ("<", "<=", "==", "~=", "===")


def requirements_are_met(under_test: UnderTest) -> None:
    """Every text of `requires` is a PEP 508 requirement, and what is installed here meets it."""
    for text in under_test.spec.requires:
        try:
            Requirement(text)
        except InvalidRequirement as error:
            raise ConformanceError(
                f"requires has '{text}', which is no requirement ({str(error).splitlines()[0]}). Write for example "
                "'einops>=0.7'."
            ) from None
    missing = unmet_requirements(under_test.spec)
    named = ", ".join(f"{text} ({found})" for text, found in missing.items())
    command = " ".join(f"'{text}'" for text in missing)
    require(not missing, f"Not met: {named}. The checks need what the modality needs. Run: pip install {command}")


def core_is_bounded(under_test: PluginUnderTest[Any]) -> None:
    """The package depends on `crema-core` with a lower and an upper bound."""
    package = under_test.distribution
    assert package is not None
    if package.name == CORE_DISTRIBUTION:
        return
    core = [wanted for wanted in _requirements(under_test) if wanted.name == CORE_DISTRIBUTION]
    operators = {part.operator for wanted in core for part in wanted.specifier}
    require(
        bool(operators & {">=", ">", "~=", "=="}) and bool(operators & set(UPPER)),
        f"{package.name} requires {', '.join(map(str, core)) or 'no crema-core'}.",
    )


def torch_stack_is_not_pinned(under_test: PluginUnderTest[Any]) -> None:
    """The package gives no upper bound for torch, transformers, peft, numpy and their kin."""
    pinned = [
        str(wanted)
        for wanted in _requirements(under_test)
        if wanted.name.lower() in STACK and any(part.operator in UPPER for part in wanted.specifier)
    ]
    require(not pinned, f"The package pins {', '.join(pinned)}.")


def readme_and_licence_are_there(under_test: PluginUnderTest[Any]) -> None:
    """The package's metadata have a readme and a licence."""
    package = under_test.distribution
    assert package is not None
    facts = {"readme": package.readme, "license": package.license}
    missing = [key for key, there in facts.items() if not there]
    require(not missing, f"The metadata of {package.name} lack {' and '.join(missing)}.")


def types_are_shipped(under_test: PluginUnderTest[Any]) -> None:
    """The package has a `py.typed` file where it is installed."""
    require(
        any((place / "py.typed").is_file() for place in under_test.packages),
        f"There is no py.typed in {under_test.packages[0].name if under_test.packages else under_test.module}.",
    )


def _requirements(under_test: PluginUnderTest[Any]) -> list[Requirement]:
    assert under_test.distribution is not None
    wanted = [Requirement(text) for text in under_test.distribution.requires]
    return [requirement for requirement in wanted if "extra" not in str(requirement.marker or "")]
