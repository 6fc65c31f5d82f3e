"""A plugin of somebody else: built as a wheel, installed beside the wheel of core, found and trained by its README."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from crema_core.testing.check import checks_up_to
from tests.support.environment import ROOT, User, new_user

pytestmark = pytest.mark.slow

IMU = ROOT / "examples" / "crema-imu"


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> User:
    return new_user(tmp_path_factory.mktemp("user"), [IMU])


def test_the_command_lists_the_installed_wheels_and_nothing_else(user: User) -> None:
    rows = user.run(str(user.python.with_name("crema")), "plugins", "list", "--kind", "modality").splitlines()
    assert rows[0] == "modality (crema.modalities)"
    assert [row.split()[:4] for row in rows[1:]] == [
        ["name", "package", "version", "status"],
        ["imu", "crema-imu", "0.3.0", "ok"],
        ["video", "crema-core", "0.1.0", "ok"],
    ]


def test_the_wheel_holds_every_file_core_reads(user: User) -> None:
    (installed,) = user.place.glob("environment/lib/python*/site-packages/crema_core")
    there = {str(path.relative_to(installed)) for path in installed.rglob("*") if "__pycache__" not in path.parts}
    source = user.place / "core" / "crema_core"
    assert {str(path.relative_to(source)) for path in source.rglob("*") if "__pycache__" not in path.parts} <= there


def test_its_own_tests_pass_and_it_reaches_gold(user: User) -> None:
    printed = user.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", str(IMU / "tests"))
    assert re.search(rf"^{len(checks_up_to('gold')) + 9} passed in ", printed, flags=re.MULTILINE), printed


def test_the_ten_lines_of_its_readme_train_it(user: User) -> None:
    (script,) = re.findall(r"```python\n(.*?)```", (IMU / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    before, after = (float(number) for number in user.run("-c", script).split()[-3::2])
    assert after >= 0.9
    assert before <= 0.8
    place = user.run("-c", "import crema_core; print(crema_core.__file__)")
    assert Path(place.strip()).is_relative_to(user.place)
