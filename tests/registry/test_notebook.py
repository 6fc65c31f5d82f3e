"""Before packaging: a class and a spec in a notebook, which is a script whose cells are run again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from crema_core.modality import Modality
from crema_core.plugins.spec import ModalitySpec

ROOT = Path(__file__).parents[2]

CELL = """
import torch
from crema_core import Batch, Features, Modality, ModalitySpec, Sample, build, load, registry


class RadarModality(Modality):
    def prepare(self, source):
        return Sample({"sweeps": torch.as_tensor(source)})

    def encode(self, batch):
        return Features(batch["sweeps"][:, :, None] * SCALE, batch.mask)

    def example(self, generator):
        return torch.rand(3, 8, generator=generator)


SCALE = 1.0
SPEC = ModalitySpec(
    name="radar", summary="Radar.", factory=RadarModality, encoder="own", feature_dim=8, prefix="Radar: "
)
registry.register(SPEC)
"""

USE = """
def scores(model):
    source = model.branch("radar").modality.example(torch.Generator().manual_seed(0))
    return model.answer("what is it ?", ["red", "blue"], radar=source).scores


by_name, by_spec = build(["radar"]), build(modalities=[SPEC])
assert scores(by_name) == scores(by_spec)
listed = {record.name: record.reference for record in registry.list_modalities()}
assert listed["radar"] == "__main__:RadarModality"
by_name.save_pretrained("model")
assert scores(load("model")) == scores(by_name)
print("fine")
"""

LOAD = 'import crema_core\ncrema_core.load("model")\n'


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_class_in_a_notebook_is_built_saved_and_loaded(tmp_path: Path) -> None:
    done = run(CELL + CELL + USE, tmp_path)
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr
    done = run(LOAD, tmp_path)
    assert done.stderr.splitlines()[-1] == (
        "- 'model' was saved with specs of radar given by hand. Give them again first: "
        "crema_core.registry.register(SPEC)."
    )


def test_a_class_inside_a_function_is_refused() -> None:
    class RadarModality(Modality):
        """Cannot be imported by anybody."""

    with pytest.raises(ValidationError) as caught:
        ModalitySpec(name="radar", summary="Radar.", factory=RadarModality, encoder="own", prefix="")
    assert caught.value.errors()[0]["msg"].endswith(
        "RadarModality' is a class inside a function. Worker processes must be able to import it. Move it to the top "
        "of a module or of a notebook."
    )
