"""Which packages of this repository a test needs: core is installed and tested alone too."""

from __future__ import annotations

import pytest
from importlib_metadata import PackageNotFoundError, distribution

from crema_core.plugins.groups import KindName
from crema_core.plugins.registry import known_packages


def needs(*packages: str) -> pytest.MarkDecorator:
    """Return the mark of a test, or of one case of it, that is skipped where one of these packages is not installed.

    Args:
        packages: distributions, for example "crema-audio".

    Example:
        >>> needs("crema-core").args
        (False,)
    """
    absent = [package for package in dict.fromkeys(packages) if not _is_installed(package)]
    return pytest.mark.skipif(bool(absent), reason=f"not installed: {', '.join(absent)}")


def needs_names(kind: KindName, *names: str) -> pytest.MarkDecorator:
    """Return the mark of a test about things that packages of this repository add; without names, about all of a kind.

    Raises:
        KeyError: for a name that no package of this repository provides.
    """
    known = known_packages(kind)
    return needs(*(known[name] for name in names or known))


def _is_installed(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True
