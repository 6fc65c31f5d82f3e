"""A package whose modality fails: every verb says which, in which call, for which sample and file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import create_model

import crema_core
from crema_core.cli.main import main
from crema_core.errors import ContractError
from crema_core.plugins import registry
from crema_core.plugins.spec import ModalityOptions, ModalitySpec
from tests.support.dummies import Installer, dummies, install
from tests.support.fixtures import t5_folder
from tests.support.modalities import WaveModality, wave_spec

__all__ = ["dummies", "install", "t5_folder"]

OWNER = "'bad_calls' (crema-dummy-bad-calls 0.3.0)"
WORKERS = pytest.mark.parametrize("num_workers", [0, 1])


@pytest.fixture(autouse=True)
def _installed(install: Installer) -> None:
    install("bad_calls")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three samples of which the second is the one the modality fails for."""
    lines = []
    for row, number in enumerate((1, -1, 2)):
        (tmp_path / f"{row}.txt").write_text(str(number))
        lines.append({"id": f"s{row}", "question": "what ?", "answer": "red", "bad_calls": f"{row}.txt"})
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def last(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.splitlines()[-1]


def words(verb: str, data: Path, backbone: Path, fault: str, *more: str) -> list[str]:
    model = ["--modalities", "bad_calls", "--backbone", str(backbone), "--set", f"bad_calls.fault={fault}"]
    return [verb, str(data), *model, *more]


@WORKERS
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("prepare raises", "Sample 's1' (line 2): {owner}: prepare() raised ValueError: boom (modality.py, line"),
        ("prepare exits", "Sample 's1' (line 2): {owner}: prepare() raised SystemExit: 0 (modality.py, line"),
        ("prepare gives nan", "Sample 's1' (line 2): {owner}: prepare() returned a Sample of which 8 of 8 numbers"),
        ("encode gives int64", "{owner}: encode() returned features of type int64, for sample 's"),
        (
            "encode gives nan",
            "{owner}: encode() returned features of which 8 of 24 numbers are not finite (float32), for sample 's1' "
            "(line 2), '{folder}/1.txt'. Accepted are finite numbers",
        ),
        ("collate raises", "{owner}: collate() raised IndexError: boom (modality.py, line"),
    ],
)
def test_fit(
    data: Path,
    t5_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    fault: str,
    said: str,
    num_workers: int,
) -> None:
    more = ["--out", str(tmp_path / "run"), "--set", "cache=none", "--set", f"num_workers={num_workers}"]
    assert main(words("fit", data, t5_folder, fault, *more, "--set", "epochs=1", "--set", "batch_size=3")) == 1
    assert last(capsys).startswith(f"crema: {said.format(owner=OWNER, folder=tmp_path)}")


@WORKERS
def test_fit_with_a_cache_says_the_same_before_it_trains(
    data: Path, t5_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], num_workers: int
) -> None:
    more = ["--out", str(tmp_path / "run"), "--set", "epochs=1", "--set", f"num_workers={num_workers}"]
    assert main(words("fit", data, t5_folder, "encode gives nan", *more)) == 1
    assert "numbers are not finite (float32), for sample 's1' (line 2), " in last(capsys)


@pytest.mark.parametrize("fault", ["load_assets raises", "init raises"])
def test_building_names_the_package(
    data: Path, t5_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    assert main(words("fit", data, t5_folder, fault, "--out", str(tmp_path / "run"))) == 1
    assert f"{OWNER}: {fault.split()[0].replace('init', '__init__')}() raised " in last(capsys)


def test_encode(data: Path, t5_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words("encode", data, t5_folder, "encode raises", "--cache", str(tmp_path / "cache"))) == 1
    assert last(capsys).startswith(f"crema: {OWNER}: encode() raised ValueError: boom (modality.py, line ")


@WORKERS
def test_evaluate(data: Path, t5_folder: Path, num_workers: int) -> None:
    model = crema_core.build([{"name": "bad_calls", "fault": "prepare raises"}], backbone=t5_folder)
    with pytest.raises(ContractError) as caught:
        crema_core.evaluate(model, data, num_workers=num_workers)
    assert str(caught.value).startswith(f"Sample 's1' (line 2): {OWNER}: prepare() raised ValueError: boom")


def test_answer(data: Path, t5_folder: Path) -> None:
    guilty = data.with_name("1.txt")
    model = crema_core.build([{"name": "bad_calls", "fault": "prepare raises"}], backbone=t5_folder)
    with pytest.raises(ContractError) as caught:
        model.answer("what ?", bad_calls=guilty)
    text = str(caught.value)
    assert text.startswith(f"{OWNER}: prepare() raised ValueError: boom (modality.py, line ")
    assert f", reading '{guilty}'. " in text
    assert isinstance(caught.value.__cause__, ValueError)
    model = crema_core.build([{"name": "bad_calls", "fault": "encode gives None"}], backbone=t5_folder)
    with pytest.raises(ContractError, match=r"encode\(\) returned None, for Tensor of shape \(1, 8\) and type float32"):
        model.answer("what ?", bad_calls=-torch.ones(1, 8))


def test_describe_and_show(t5_folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = crema_core.build([{"name": "bad_calls", "fault": "example raises"}], backbone=t5_folder)
    with pytest.raises(ContractError, match=r"example\(\) raised ValueError: boom"):
        model.describe()
    out = ["--modality", "bad_calls", "--out", str(tmp_path / "p.png"), "--set", "fault=show raises"]
    assert main(["show", str(data.with_name("1.txt")), *out]) == 1
    assert last(capsys).startswith(f"crema: {OWNER}: show() raised ValueError: boom (modality.py, line ")
    assert not (tmp_path / "p.png").exists()


def test_a_deep_check_reports_every_line_of_every_modality_and_goes_on(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = registry.find("modality", "bad_calls").load()
    failing = spec.model_copy(update={"options": default_fault(spec, "prepare exits")})
    broken = wave_spec("broken").model_copy(update={"factory": f"{__name__}:BrokenModality"})
    registry.register(failing, replace=True)
    registry.register(broken)
    (tmp_path / "3.txt").write_text("-2")
    (tmp_path / "4.txt").write_text("no number")
    more = [{"bad_calls": "3.txt"}, {"bad_calls": "4.txt"}, {"bad_calls": "0.txt", "broken": "0.txt"}]
    more += [{"bad_calls": "1.txt"}, {"broken": "1.txt"}]
    lines = [{"id": f"m{row}", "question": f"{row} ?", "answer": "red", **own} for row, own in enumerate(more)]
    data.write_text(data.read_text() + "".join(json.dumps(line) + "\n" for line in lines))
    assert main(["data", "check", str(data), "--deep", "--json"]) == 3
    (report,) = json.loads(capsys.readouterr().out)["files"].values()
    found = {
        (one["kind"], one["text"].partition(" (modality.py")[0], tuple(one["lines"])) for one in report["findings"]
    }
    owner = "bad_calls: 'bad_calls' (given in this process): prepare() raised SystemExit: 0"
    broken_text = next(text for kind, text, lines in found if lines == (6, 8))
    assert found == {
        ("modality", broken_text, (6, 8)),
        ("modality", owner, (2, 4, 7)),
        ("damaged", f"bad_calls: '{tmp_path / '4.txt'}' holds no number. Accepted is one. Write it.", (5,)),
    }
    assert broken_text.startswith("broken: 'broken' (given in this process): __init__() raised RuntimeError: no device")


class BrokenModality(WaveModality):
    """Cannot be built."""

    def __init__(self, *arguments: Any) -> None:
        raise RuntimeError("no device")


def default_fault(spec: ModalitySpec, fault: str) -> type[ModalityOptions]:
    """Return the options with a fault as their default."""
    return create_model("Options", __base__=spec.options, fault=(str, fault))
