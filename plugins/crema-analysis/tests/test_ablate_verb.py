"""`crema ablate` on a saved model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crema_analysis import ablate_verb
from crema_core.api.build import build
from crema_core.cli.main import main
from tests.support.official_datasets import write_clip


@pytest.mark.slow
def test_ablate_prints_a_table_and_writes_a_report(
    trained: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "ablation"
    words = ["ablate", str(trained), str(clips), "--what", "leave-one-out,shuffled", "--max-new-tokens", "2"]
    assert main([*words, "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["modalities", "behind", "color"]
    assert [line[:20].strip() for line in lines[1:6]] == [
        "all modalities",
        "without video",
        "without depth",
        "video of another cli",
        "depth of another cli",
    ]
    assert lines[-1] == f"report: {out / 'ablation.html'}"
    assert len(list((out / "answers").glob("*.jsonl"))) == 5
    assert main([*words, "--out", str(out), "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((out / "ablation.json").read_text())


@pytest.mark.slow
def test_ablate_goes_on_only_with_a_folder(trained: Path, clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ablate", str(trained), str(clips), "--resume"]) == 1
    assert capsys.readouterr().err == (
        "crema: --resume without --out. Answers are taken up from a folder. Add --out DIR.\n"
    )


def test_what_cannot_be_compared_is_refused_before_the_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ablate_verb, "load_saved", lambda arguments: pytest.fail("the model is loaded"))
    model = build(["video"], backbone="crema-tiny")
    model.save_pretrained(tmp_path / "model")
    write_clip(tmp_path / "a.mp4", num_frames=2)
    lines = [{"id": i, "question": f"{i}?", "answer": "red", "video": "a.mp4"} for i in range(3)]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["ablate", str(tmp_path / "model"), str(data), "--what", "shuffled"]) == 1
    assert "Nothing can be compared: video of another clip" in capsys.readouterr().err
    assert main(["ablate", str(tmp_path / "model"), str(data), "--order", "audio"]) == 1
    assert "is not an order of the modalities" in capsys.readouterr().err
