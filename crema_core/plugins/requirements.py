"""What a modality requires beside its package, compared with what is installed; nothing is imported."""

from __future__ import annotations

from crema_core.errors import MissingRequirementError
from crema_core.plugins._metadata import unmet
from crema_core.plugins.loading import ResolvedPlugin
from crema_core.plugins.spec import ModalitySpec


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
