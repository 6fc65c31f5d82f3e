"""Side tokens among the visual tokens, PAVE's baseline: their order, their number, and a training of everything."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from crema_core.api.build import build
from crema_core.api.load import load
from crema_core.api.model import CremaModel
from crema_core.common.progress import StatusLine
from crema_core.errors import OptionsError
from crema_core.features.feature_cache import prepare_batch
from crema_core.fusion.base import FusionSizes, ModalitySet
from crema_core.fusion.connector import VisualLayout
from crema_core.plugins import registry
from crema_core.plugins.preset import find_preset
from crema_core.tokens import OWN_IDS, OWN_LAYOUT, ModalityTokens
from crema_core.train.fit import fit
from crema_pave.grouping import home_frames
from crema_pave.interleave import InterleaveFusion
from tests.support.fusions import make_fusion
from tests.support.modalities import wave_spec
from tests.support.numeric import assert_close_to_scale
from tests.support.pave_models import side_example
from tests.support.vlm import save_vlm
from tests.train.file_modalities import file_modalities
from tests.train.wave_questions import write_wave_questions

WIDTH = 8
NEWLINE = 9.0


def clip(frames: int, rows: int, columns: int, *, row: int = 0, width: int = WIDTH, seconds: float = 10) -> Any:
    """Visual tokens that hold their own number, and the newline at the end of the clip."""
    count = rows * columns
    values = torch.arange(float(frames * count)).view(1, frames, count, 1).expand(-1, -1, -1, width)
    values = torch.cat([values, torch.full((1, frames, 1, width), NEWLINE)], dim=2)
    mask = torch.ones(1, frames, count + 1, dtype=torch.bool)
    mask[:, :-1, -1] = False
    layout = torch.tensor([[[rows, columns]] * frames])
    extras = {OWN_IDS: torch.zeros(1, 1, dtype=torch.int64), OWN_LAYOUT: layout}
    steps = torch.ones(1, frames, dtype=torch.bool)
    return ModalityTokens(values, steps, torch.tensor([row]), spans(frames, seconds), mask, extras)


def spans(count: int, seconds: float) -> Tensor:
    edges = torch.linspace(0, seconds, count + 1)
    return torch.stack([edges[:-1], edges[1:]], dim=1)[None]


def side(steps: int, tokens: int, *, row: int = 0, start: float = 100, seconds: float | None = None) -> ModalityTokens:
    """Side tokens that hold their own number from `start` on, in the first channel."""
    values = torch.zeros(1, steps, tokens, 4)
    values[..., 0] = start + torch.arange(float(steps * tokens)).view(steps, tokens)
    times = None if seconds is None else spans(steps, seconds)
    return ModalityTokens(values, torch.ones(1, steps, dtype=torch.bool), torch.tensor([row]), times)


def fusion_of(*names: str, **options: Any) -> InterleaveFusion:
    """A fusion whose maps hand the first channel on."""
    sizes = FusionSizes(WIDTH, 4, token_widths=dict.fromkeys(names, 4), visual=VisualLayout(WIDTH, closing=1))
    fusion = make_fusion("pave_interleave", names, sizes, options=options)
    assert isinstance(fusion, InterleaveFusion)
    for name in names:
        fusion.blocks[name] = torch.nn.Linear(4, WIDTH, bias=False)
        torch.nn.init.zeros_(fusion.blocks[name].weight)  # type: ignore[arg-type]
        fusion.blocks[name].weight.data[:, 0] = 1  # type: ignore[index, operator, union-attr]
    return fusion


def written(fusion: InterleaveFusion, num_samples: int = 1, **tokens: ModalityTokens) -> list[list[int]]:
    """Return the numbers of every sample's tokens in the order of the prompt."""
    modalities = ModalitySet(tokens, "main", num_samples, dict.fromkeys(tokens, ""), frozenset({"main"}))
    (segment,) = fusion(modalities)
    assert segment.prefix is None
    return [segment.values[row][segment.mask[row]][:, 0].int().tolist() for row in range(num_samples)]


def test_each_frames_tokens_are_followed_by_the_side_tokens_of_its_time() -> None:
    fusion = fusion_of("one", newlines="one_token")
    found = written(fusion, main=clip(2, 1, 2), one=side(3, 2, seconds=10))
    # Frames change at second 5, in the middle of the second step: that step belongs to the first of them.
    assert found == [[0, 1, 100, 101, 102, 103, 2, 3, 9, 104, 105]]
    early = written(fusion, main=clip(2, 1, 2), one=side(3, 2, seconds=5))
    assert early == [[0, 1, 100, 101, 102, 103, 104, 105, 2, 3, 9]]
    counted = fusion_of("one", newlines="one_token", alignment="count")
    assert written(counted, main=clip(2, 1, 2), one=side(3, 2, seconds=5)) == found


def test_newlines_end_rows_before_the_side_tokens_and_modalities_follow_in_their_order() -> None:
    found = written(fusion_of("one", "two"), main=clip(2, 2, 2), two=side(2, 1, start=200), one=side(2, 1))
    assert found == [[0, 1, 9, 2, 3, 9, 100, 200, 4, 5, 9, 6, 7, 9, 101, 201]]


def test_samples_of_a_batch_are_laid_out_as_alone() -> None:
    fusion = fusion_of("one", newlines="none")
    main = clip(2, 1, 2)
    both = main._replace(
        values=torch.cat([main.values, main.values + 50]),
        mask=main.mask.expand(2, -1),
        rows=torch.tensor([0, 2]),
        times=None,
        token_mask=None if main.token_mask is None else main.token_mask.expand(2, -1, -1),
        extras={name: extra.expand(2, *extra.shape[1:]) for name, extra in main.extras.items()},
    )
    with pytest.warns(UserWarning, match="A sample has one and no main"):
        found = written(fusion, 3, main=both, one=side(2, 1, row=2)._replace(rows=torch.tensor([2])))
        written(fusion, 3, main=both, one=side(2, 1, row=1))
    assert found == [[0, 1, 2, 3], [], [50, 51, 100, 52, 53, 101]]


def test_the_number_of_tokens_is_the_papers() -> None:
    # 32 frames of 14 x 14 tokens, 32 views of 24 x 24; with 40 of the question 24,744, whose arithmetic it prints.
    (tokens,) = written(fusion_of("one", newlines="none"), main=clip(32, 14, 14), one=side(32, 576))
    assert len(tokens) == 32 * 196 + 32 * 576 == 24_744 - 40


@pytest.mark.parametrize(
    ("steps", "by_count", "by_time"),
    [
        (2, [0, 1], [0, 1]),  # fewer steps than frames: the first frame that reads each
        (3, [0, 1, 2], [0, 1, 2]),
        (7, [0, 0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 2, 2]),
    ],
)
def test_every_step_belongs_to_one_frame(steps: int, by_count: list[int], by_time: list[int]) -> None:
    frames, real = torch.ones(1, 3, dtype=torch.bool), torch.ones(1, steps, dtype=torch.bool)
    assert home_frames(frames, real, None).tolist() == [by_count]
    assert home_frames(frames, real, (spans(3, 9), spans(steps, 9))).tolist() == [by_time]
    assert home_frames(frames, real, (spans(3, 9), spans(steps, 9) + torch.nan)).tolist() == [by_count]


def test_steps_beside_all_frames_go_to_the_nearest() -> None:
    frame_times = torch.tensor([[[0.0, 1.0], [6.0, 7.0], [0.0, 9.0]]])
    step_times = torch.tensor([[[1.0, 2.0], [4.0, 5.0], [8.0, 9.0], [6.0, 6.5]]])
    frames, steps = torch.tensor([[True, True, False]]), torch.ones(1, 4, dtype=torch.bool)
    assert home_frames(frames, steps, (frame_times, step_times)).tolist() == [[0, 1, 1, 1]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"newlines": "rows"},
            "newlines='rows' is not known here. Accepted: grid, frame, one_token, none. Use newlines='grid', the "
            "default.",
        ),
        (
            {"alignment": "seconds"},
            "alignment='seconds' is not known here. Accepted: time, count. Use alignment='time', the default.",
        ),
    ],
)
def test_unknown_settings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError) as caught:
        fusion_of("one", **options)
    assert str(caught.value) == message


@pytest.mark.parametrize("visual", [None, VisualLayout(WIDTH)])
def test_other_backbones_are_refused(visual: VisualLayout | None) -> None:
    with pytest.raises(OptionsError) as caught:
        make_fusion("pave_interleave", ["one"], FusionSizes(WIDTH, 4, visual=visual))
    assert str(caught.value) == (
        "fusion='pave_interleave' puts tokens among the visual tokens of a clip, and this backbone's have no place for "
        "any. Accepted: LLaVA-OneVision. Use backbone='llava-hf/llava-onevision-qwen2-0.5b-ov-hf', or fusion='pave'."
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vlm(tmp_path_factory.mktemp("video") / "model", "llava_onevision")


@torch.no_grad()
def prompt_lengths(model: CremaModel, *samples: dict[str, Tensor]) -> list[int]:
    features = model.encode(prepare_batch(model, list(samples)))
    questions = ["what is there ?"] * len(samples)
    return [int(count) for count in model.prompt(model.tokens(features, questions), questions).mask.sum(1)]


def test_the_prompt_of_a_model_grows_by_the_side_tokens_and_answers_do_not_depend_on_the_batch(folder: Path) -> None:
    registry.register(wave_spec())
    torch.manual_seed(0)
    model = build([{"name": "video", "num_frames": 2}, "wave"], backbone=folder, fusion="pave_interleave")
    seen = torch.randint(0, 256, (2, 3, 40, 40), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    plain, full = {"video": seen}, {"video": seen, "wave": side_example("wave", 0)}
    alone, beside = prompt_lengths(model, plain, full)
    assert beside - alone == 5 * 3  # five steps of three tokens
    items = [{"question": "what ?", "choices": ["red", "blue"], **own} for own in (plain, full)]
    together = [list(answer.scores.values()) for answer in model.answer_many(items)]
    for item, scores in zip(items, together, strict=True):
        (single,) = model.answer_many([item])
        assert_close_to_scale(torch.tensor(scores), torch.tensor(list(single.scores.values())), ulps=64)


@pytest.mark.slow  # two trainings
@pytest.mark.parametrize("tuning", ["full", {"rank": 2, "alpha": 4, "dropout": 0.0}])
def test_training_lowers_the_loss_and_moves_language_model_and_maps(folder: Path, tmp_path: Path, tuning: Any) -> None:
    data = write_wave_questions(tmp_path / "data", side=40)
    _, _, wave, _ = file_modalities()
    torch.manual_seed(0)
    model = build([{"name": "video", "num_frames": 2}, wave], backbone=folder, fusion="pave_interleave", tuning=tuning)
    before = {name: own.detach().clone() for name, own in model.trainable_parameters().items()}
    assert any(name.startswith("fusion.blocks.wave.") for name in before)
    quiet = StatusLine(io.StringIO(), enabled=False)
    fit(model, data, out=tmp_path / "run", status=quiet, seed=0, mode="joint", epochs=12, batch_size=3, lr=3e-3,
        log_every=1)  # fmt: skip
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [value for line in lines for name, value in line.items() if name.startswith("loss")]
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])
    moved = {name for name, own in model.trainable_parameters().items() if not torch.equal(own, before[name])}
    assert any(name.startswith("fusion.blocks.wave.") for name in moved)
    assert any(not name.startswith("fusion.") for name in moved)
    registry.register(wave)
    model.save_pretrained(tmp_path / "model")
    saved = load(tmp_path / "model")
    assert isinstance(saved.fusion, InterleaveFusion)
    again = saved.trainable_parameters()
    for name, own in model.trainable_parameters().items():
        assert torch.equal(again[name], own), name


def test_the_preset_trains_the_whole_language_model() -> None:
    preset = find_preset("pave-interleave")
    assert (preset.config["fusion"], preset.config["tuning"]) == ({"name": "pave_interleave"}, "full")
    assert preset.settings == find_preset("pave").settings
    assert {"lr", "epochs", "batch_size", "early_exit", "fusion", "tuning"} <= preset.notes.keys()
