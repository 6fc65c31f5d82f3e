"""From a resolved plugin to its heavy class: requirements first, then the import, then the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crema_core.errors import ContractError, MissingRequirementError, PluginLoadError
from crema_core.plugins._metadata import unmet
from crema_core.plugins.loading import ResolvedPlugin
from crema_core.plugins.spec import ModalitySpec
from crema_core.plugins.versions import adapter_for

if TYPE_CHECKING:
    from crema_core.modality import Modality


def check_requirements(plugin: ResolvedPlugin) -> None:
    """Compare what the spec requires with the installed metadata; nothing is imported.

    Raises:
        MissingRequirementError: naming every requirement that is not met and the command that installs them.
    """
    problems = unmet_requirements(plugin.spec)
    if problems:
        needs = ", ".join(f"{text} ({found})" for text, found in problems.items())
        command = " ".join(f"'{text}'" for text in problems)
        raise MissingRequirementError(
            f"'{plugin.spec.name}' ({plugin.provider}) needs {needs}. Run: pip install {command}"
        )


def unmet_requirements(spec: ModalitySpec) -> dict[str, str]:
    """Return what a spec requires and this environment lacks: requirement -> what is there instead."""
    return {text: found for text in spec.requires if (found := unmet(text)) is not None}


def load_modality_class(plugin: ResolvedPlugin) -> type[Modality]:
    """Import the class a spec names, check it and give it its spec.

    Raises:
        MissingRequirementError: when a requirement is not met.
        PluginLoadError: when the import fails; the cause is chained.
        ContractError: when the object is not a complete subclass of `Modality`.
    """
    check_requirements(plugin)
    from crema_core.modality import Modality

    spec = plugin.spec
    subject = f"'{spec.name}' ({plugin.provider}): {spec.factory}"
    try:
        factory = spec.load_factory()
    except ContractError as error:
        raise ContractError(f"{subject} breaks the contract: {error}") from error
    except Exception as error:
        raise PluginLoadError(
            f"{subject} could not be imported: {type(error).__name__}: {error}. "
            f'See the whole traceback: python -c "import {spec.factory.partition(":")[0]}"'
        ) from error
    if isinstance(factory, type) and (adapter := adapter_for(spec.api_version)):
        factory = adapter.modality(factory)
    if not (isinstance(factory, type) and issubclass(factory, Modality)):
        raise ContractError(
            f"{subject} is not a subclass of Modality. The factory must name one. "
            f"Write: class {spec.factory.partition(':')[2]}(crema_core.Modality)"
        )
    if factory.__abstractmethods__:
        missing = ", ".join(sorted(factory.__abstractmethods__))
        raise ContractError(f"{subject} lacks {missing}. A modality has prepare, encode and example. Define: {missing}")
    own = factory.__dict__.get("spec")
    if own is not None and own.name != spec.name:
        raise ContractError(
            f"{subject} already belongs to '{own.name}'. One class serves one spec. "
            f"Write a subclass of it for '{spec.name}'"
        )
    factory.spec = spec
    return factory
