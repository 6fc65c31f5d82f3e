"""Bronze: what the installed package's metadata and files say."""

from __future__ import annotations

from packaging.requirements import InvalidRequirement, Requirement

from crema_core.errors import ConformanceError
from crema_core.plugins.policy import CORE_DISTRIBUTION
from crema_core.plugins.requirements import unmet_requirements
from crema_core.testing.check import check, require
from crema_core.testing.subject import PluginUnderTest, Subject

STACK = ("torch", "torchvision", "torchaudio", "transformers", "peft", "accelerate", "timm", "numpy")
"""Libraries whose upper bounds core owns."""
LOADED = ("entry_point_names_a_spec", "entry_point_names_a_fusion")
UPPER = ("<", "<=", "==", "~=", "===")


@check("bronze", needs=("entry_point_names_a_spec",))
def requirements_are_met(subject: Subject) -> None:
    """Every text of `requires` is a PEP 508 requirement, and what is installed here meets it.

    Why: core compares them with the installed versions before it imports the class, so that a missing library is named
    with the command that installs it.
    Fix: write `requires=("einops>=0.7",)`, and install what the message names before checking further.
    """
    for text in subject.spec.requires:
        try:
            Requirement(text)
        except InvalidRequirement as error:
            raise ConformanceError(
                f"requires has '{text}', which is no requirement ({str(error).splitlines()[0]}). Write for example "
                "'einops>=0.7'."
            ) from None
    missing = unmet_requirements(subject.spec)
    named = ", ".join(f"{text} ({found})" for text, found in missing.items())
    command = " ".join(f"'{text}'" for text in missing)
    require(not missing, f"Not met: {named}. The checks need what the sense needs. Run: pip install {command}")


@check("bronze", needs=LOADED, package=True, kinds=("modality", "fusion"))
def core_is_bounded(subject: PluginUnderTest) -> None:
    """The package depends on `crema-core` with a lower and an upper bound.

    Why: another major version of core has another contract; pip should refuse the pair instead of the user's first run.
    Fix: `dependencies = ["crema-core>=0.1,<1"]`.
    """
    package = subject.distribution
    assert package is not None
    if package.name == CORE_DISTRIBUTION:
        return
    core = [wanted for wanted in _requirements(subject) if wanted.name == CORE_DISTRIBUTION]
    operators = {part.operator for wanted in core for part in wanted.specifier}
    require(
        bool(operators & {">=", ">", "~=", "=="}) and bool(operators & set(UPPER)),
        f"{package.name} requires {', '.join(map(str, core)) or 'no crema-core'}. A package gives a lower and an upper "
        'bound. Write: dependencies = ["crema-core>=0.1,<1"]',
    )


@check("bronze", needs=LOADED, package=True, kinds=("modality", "fusion"))
def torch_stack_is_not_pinned(subject: PluginUnderTest) -> None:
    """The package gives no upper bound for torch, transformers, peft, numpy and their kin.

    Why: core owns these ranges; a pin in one package keeps users of all others from upgrading.
    Fix: give lower bounds only, and open an issue when a new version breaks you.
    """
    pinned = [
        str(wanted)
        for wanted in _requirements(subject)
        if wanted.name.lower() in STACK and any(part.operator in UPPER for part in wanted.specifier)
    ]
    require(
        not pinned,
        f"The package pins {', '.join(pinned)}. Core owns the upper bounds of these. Give lower bounds only.",
    )


@check("bronze", needs=LOADED, package=True, kinds=("modality", "fusion"))
def readme_and_licence_are_there(subject: PluginUnderTest) -> None:
    """The package's metadata have a readme and a licence.

    Why: nobody may use a package without a licence, and nobody knows how without a readme.
    Fix: `readme = "README.md"` and `license = "Apache-2.0"` (or yours) in `pyproject.toml`.
    """
    package = subject.distribution
    assert package is not None
    facts = {"readme": package.readme, "license": package.license}
    missing = [key for key, there in facts.items() if not there]
    require(
        not missing,
        f"The metadata of {package.name} lack {' and '.join(missing)}. Both belong to a package. Add them to the "
        "[project] table of pyproject.toml.",
    )


@check("bronze", needs=LOADED, package=True, kinds=("modality", "fusion"))
def types_are_shipped(subject: PluginUnderTest) -> None:
    """The package has a `py.typed` file where it is installed.

    Why: without it type checkers treat everything of the package as unknown; it is also the file that is forgotten
    first when package data are not declared.
    Fix: an empty `py.typed` beside the package's modules, and `[tool.setuptools.package-data]` or your build tool's
    equivalent.
    """
    require(
        any((place / "py.typed").is_file() for place in subject.packages),
        f"There is no py.typed in {subject.packages[0].name if subject.packages else subject.module}. Type checkers "
        "look for it. Add an empty file and declare it as package data.",
    )


def _requirements(subject: PluginUnderTest) -> list[Requirement]:
    assert subject.distribution is not None
    wanted = [Requirement(text) for text in subject.distribution.requires]
    return [requirement for requirement in wanted if "extra" not in str(requirement.marker or "")]
