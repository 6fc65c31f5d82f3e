"""The three packages of hooks: installed as wheels, trained with, stopped, resumed; their own tests and their types."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.environment import ROOT, User, new_user

EXAMPLES = ROOT / "examples"
PACKAGES = [EXAMPLES / name for name in ("crema-gradients", "crema-plateau", "crema-live-plot")]
SCRIPT = """
import sys, crema_core
from crema_imu.clips import write_clips
train, valid = write_clips("train", count=16, seed=0), write_clips("valid", count=8, seed=1)
model = crema_core.build(modalities=["imu"], backbone="crema-tiny")
run = crema_core.fit(
    model, train, valid, preset="tiny", epochs=8, batch_size=8, lr=1e-9, log_every=1,
    early_exit=None, out="run", resume="-r" in sys.argv
)
from crema_core.report.run_report import write_run_report
write_run_report(run.path, title="Run")
print(run.num_steps, run.stopped)
"""


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_the_module_that_help_imports_imports_no_torch(package: Path) -> None:
    module = next(package.glob("src/*/hooks.py"))
    code = f"import sys, {module.parent.name}.hooks; print({{'torch', 'matplotlib'}} & set(sys.modules))"
    path = {"PYTHONPATH": f"{package / 'src'}:{ROOT}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=path)
    assert done.stdout == "set()\n"


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> User:
    return new_user(tmp_path_factory.mktemp("user"), [EXAMPLES / "crema-imu", *PACKAGES])


@pytest.mark.slow
def test_they_are_listed(user: User) -> None:
    printed = user.run(str(user.python.with_name("crema")), "plugins", "list", "--kind", "hook")
    listed = [row.split()[:2] for row in printed.splitlines()[2:]]
    assert listed == [
        ["gradients", "crema-gradients"],
        ["live_plot", "crema-live-plot"],
        ["plateau", "crema-plateau"],
    ]


@pytest.mark.slow
def test_their_own_tests_pass(user: User) -> None:
    for package in PACKAGES:
        words = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", str(package / "tests"))
        assert re.search(r"^\d+ passed in ", user.run(*words), flags=re.MULTILINE)


@pytest.mark.slow
def test_a_training_that_stands_still_is_slowed_stopped_and_resumed(user: User) -> None:
    ended = user.run("-c", SCRIPT).splitlines()[-1]
    assert re.sub(r"\d+\.\d%", "x%", ended) == (
        "14 crema-plateau 0.1.0 (plateau) stopped the run after update 14: "
        "accuracy has not risen above x% in 6 evaluations"
    )
    run = user.place / "home" / "run"
    gradients = [json.loads(line) for line in (run / "gradients.jsonl").read_text().splitlines()]
    assert [line["step"] for line in gradients] == [1, 10]
    assert all(sum(line["norms"].values()) > 0 for line in gradients)
    assert 'http-equiv="refresh"' in (run / "live.html").read_text()
    report = (run / "report.html").read_text()
    assert "<h2>Gradients</h2>" in report
    assert "crema-plateau 0.1.0 (plateau) stopped the run after update 14 (epoch 7)" in report
    assert user.run("-c", SCRIPT, "-r").splitlines()[-1] == "16 None"
