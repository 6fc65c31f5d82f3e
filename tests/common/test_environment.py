"""The environment names versions and the machine's kind, nothing private."""

from __future__ import annotations

import getpass
import platform
from pathlib import Path

import torch

import crema_core
from crema_core.common.environment import environment


def test_versions_are_named() -> None:
    found = environment()
    assert found["crema_core"] == crema_core.__version__
    assert found["torch"] == torch.__version__
    assert found["python"] == platform.python_version()


def test_no_name_of_the_machine_and_no_path_is_named() -> None:
    text = "\n".join(environment().values())
    assert platform.node() not in text
    assert str(Path.home()) not in text
    assert getpass.getuser() not in text.split()
