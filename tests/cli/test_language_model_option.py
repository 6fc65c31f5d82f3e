"""`--language-model`, from training to answering, on an InstructBLIP backbone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from crema_core.cli.fit_config import read_config
from crema_core.cli.main import main
from tests.support.checkpoints import Language, Published
from tests.support.world import MODALITIES, QUICK


@pytest.fixture(scope="module")
def run(
    published: Callable[[Published], Path],
    languages: Callable[[Language], Path],
    clips: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A finished run with another language model than its backbone's."""
    out = tmp_path_factory.mktemp("override") / "run"
    backbone, language = published("instructblip-vicuna"), languages("qwen2")
    words = [
        "--modalities",
        MODALITIES,
        "--backbone",
        str(backbone),
        "--language-model",
        str(language),
        "--out",
        str(out),
    ]
    assert main(["fit", str(clips), *words, *QUICK, "--set", "epochs=1"]) == 0
    return out


@pytest.mark.slow
def test_fit_records_the_language_model_and_saves_a_model_that_answers(
    run: Path, languages: Callable[[Language], Path], clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert json.loads((run / "fit.json").read_text())["language_model"] == str(languages("qwen2"))
    assert f"- language_model: `{languages('qwen2')}`" in (run / "model" / "README.md").read_text()
    depth = str(clips.parent / "clips" / "000000.depth.png")
    assert main(["answer", str(run), "which object is nearest?", "--depth", depth, "--choices", "left", "right"]) == 0
    assert capsys.readouterr().out.splitlines()[0] in ("left", "right")


def test_a_language_model_that_moved_is_named_anew(
    run: Path, languages: Callable[[Language], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = shutil.copytree(languages("qwen2"), tmp_path / "moved")
    assert main(["describe", str(run), "--language-model", str(moved), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["language_model"] == str(moved)


@pytest.mark.slow
def test_describe_counts_a_shape_with_another_language_model(
    languages: Callable[[Language], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--modalities", "video", "--backbone", "instructblip-flan-t5-xl", "--language-model"]
    assert main(["describe", *words, str(languages("mistral")), "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["components"]}
    assert rows["vision encoder"]["frozen"] > 985e6
    assert rows["video"]["trainable"] == 2_359_296 + 24_576 + 2_816 + 768 * 32 + 32


def test_a_configuration_file_may_name_it(tmp_path: Path) -> None:
    (tmp_path / "fit.yaml").write_text("data: train.jsonl\nlanguage_model: some/model\nlanguage_revision: v2\n")
    config = read_config(str(tmp_path / "fit.yaml"), {}, {})
    assert (config.language_model, config.language_revision) == ("some/model", "v2")
    changed = read_config(str(tmp_path / "fit.yaml"), {"language_model": "other/model"}, {})
    assert changed.language_model == "other/model"
