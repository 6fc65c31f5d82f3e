"""PAVE as a strategy: what supporting modalities do to the visual tokens of a batch, and what they leave alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from crema_core.errors import OptionsError
from crema_core.fusion.base import FusionSizes, ModalitySet
from crema_core.fusion.connector import VisualLayout
from crema_core.tokens import OWN_IDS, OWN_LAYOUT, ModalityTokens
from crema_pave.connectors import BEFORE_PROJECTOR
from crema_pave.strategy import PaveFusion
from tests.support.fusions import make_fusion

WIDTH, INNER, FRAMES, ROWS, COLUMNS = 8, 5, 3, 2, 3
WIDTHS = {"one": 6, "two": 4}
PREFIXES = {"main": "Frame {index}: ", "one": "One: ", "two": "Two: "}
SMALL = {"embed_dim": 16, "num_heads": 2}


def layout(*, newline: bool = True) -> VisualLayout:
    return VisualLayout(WIDTH, inner_width=INNER, closing=int(newline))


def fusion_of(*supporting: str, newline: bool = True, trained: bool = True, **options: Any) -> PaveFusion:
    torch.manual_seed(0)
    sizes = FusionSizes(WIDTH, ROWS * COLUMNS, token_widths=WIDTHS, visual=layout(newline=newline))
    fusion = make_fusion("pave", supporting, sizes, options={**SMALL, **options})
    assert isinstance(fusion, PaveFusion)
    if trained:
        for parameter in fusion.parameters():
            nn.init.normal_(parameter, std=0.3)
    return fusion


def modalities(
    rows: dict[str, list[int]], num_samples: int, *, times: bool = False, newline: bool = True
) -> ModalitySet:
    """A batch whose every sample has the same numbers whatever the batch has else; a clip ends with a newline."""
    tokens = {}
    for name, own in rows.items():
        seeds = [torch.Generator().manual_seed(row) for row in own]
        main = name == "main"
        shape = (FRAMES, ROWS * COLUMNS, WIDTH) if main else (5, 2, WIDTHS[name])
        values = [torch.randn(shape, generator=seed) for seed in seeds]
        inner = [torch.randn(*shape[:2], INNER, generator=seed) for seed in seeds]
        edges = torch.linspace(0, 10, shape[0] + 1)
        spans = torch.stack([edges[:-1], edges[1:]], 1).expand(len(own), -1, -1)
        steps = torch.ones(len(own), shape[0], dtype=torch.bool)
        tokens[name] = ModalityTokens(torch.stack(values), steps, torch.tensor(own), spans if times else None)
        if main:
            extras = {
                BEFORE_PROJECTOR: F.pad(torch.stack(inner), (0, 0, 0, int(newline))),
                OWN_IDS: torch.zeros(len(own), 1, dtype=torch.int64),
                OWN_LAYOUT: torch.tensor([[ROWS, COLUMNS]] * FRAMES).expand(len(own), -1, -1),
            }
            mask = torch.ones(*tokens[name].values.shape[:3], dtype=torch.bool)
            ended, mask = F.pad(tokens[name].values, (0, 0, 0, int(newline)), value=9.0), F.pad(mask, (0, int(newline)))
            mask[:, -1] = True
            tokens[name] = tokens[name]._replace(values=ended, token_mask=mask, extras=extras)
    return ModalitySet(tokens, "main", num_samples, PREFIXES, frozenset({"main"}))


def test_the_segment_is_the_visual_tokens_with_newlines_and_no_prefix() -> None:
    batch = modalities({"main": [0, 1]}, 2)
    (only,) = fusion_of("one")(batch)
    lines = only.values.unflatten(2, (ROWS, COLUMNS + 1))
    assert torch.equal(lines[:, :, :, :-1].flatten(2, 3), batch.tokens["main"].values[:, :, :-1])
    assert bool((lines[:, :, :, -1] == 9).all())
    assert bool(only.mask.all())
    assert only.prefix is None


def test_a_patch_adds_its_update_asked_by_the_tokens_before_the_projector() -> None:
    batch, fusion = modalities({"main": [0, 1], "one": [0, 1]}, 2), fusion_of("one", newlines="none")
    main, one = batch.tokens["main"], batch.tokens["one"]
    wanted = main.values[:, :, :-1] + fusion.blocks["one"](main.extras[BEFORE_PROJECTOR][:, :, :-1], side=one.values)
    assert torch.equal(fusion(batch)[0].values, wanted)


def test_a_newline_at_the_end_of_a_clip_is_not_updated() -> None:
    batch = modalities({"main": [0], "one": [0]}, 1)
    (only,) = fusion_of("one", newlines="one_token")(batch)
    assert bool((only.values[0, -1, -1] == 9).all())
    assert torch.equal(only.mask, batch.tokens["main"].token_mask)
    assert not torch.isclose(only.values[:, :, :-1], batch.tokens["main"].values[:, :, :-1]).all(-1).any()


def test_time_stamps_decide_what_a_frame_reads_unless_counting_is_asked_for() -> None:
    by_time, by_count = modalities({"main": [0], "one": [0]}, 1, times=True), modalities({"main": [0], "one": [0]}, 1)
    fusion = fusion_of("one")
    assert not torch.allclose(fusion(by_time)[0].values, fusion(by_count)[0].values)
    counting = fusion_of("one", alignment="count")
    assert torch.equal(counting(by_time)[0].values, counting(by_count)[0].values)


@pytest.mark.parametrize("order", ["parallel", "chained"])
def test_patches_combine_as_asked(order: str) -> None:
    fusion = fusion_of("one", "two", newlines="none", queries="projected", order=order)
    batch = modalities({"main": [0], "one": [0], "two": [0]}, 1)
    main, one, two = (batch.tokens[name].values for name in ("main", "one", "two"))
    main = main[:, :, :-1]
    first = main + fusion.blocks["one"](main, side=one)
    asked = first if order == "chained" else main
    torch.testing.assert_close(fusion(batch)[0].values, first + fusion.blocks["two"](asked, side=two))


@pytest.mark.parametrize("queries", ["inner", "projected", "learnable"])
@pytest.mark.parametrize("name", ["one", "two"])
def test_a_fresh_patch_changes_nothing_at_all(queries: str, name: str) -> None:
    batch = modalities({"main": [0, 1, 2], "one": [0, 2], "two": [1]}, 3)
    fresh = fusion_of("one", "two", trained=False, queries=queries)
    plain = fresh(modalities({"main": [0, 1, 2]}, 3))[0].values
    assert torch.equal(fresh(batch)[0].values, plain)
    fusion = fusion_of("one", queries=queries)
    before = fusion(batch)[0].values
    fusion.add_supporting("two", total=2, zero=True, token_width=WIDTHS["two"])
    assert torch.equal(fusion(batch)[0].values, before)
    assert [key.split(".")[1] for key in fusion.block_parameters([name])] == [name] * len(
        fusion.block_parameters([name])
    )


def test_samples_are_updated_by_their_own_modalities_alone() -> None:
    fusion = fusion_of("one", "two")
    rows = {"main": [0, 2, 3], "one": [0, 1, 3], "two": [3]}
    with pytest.warns(UserWarning, match="no main"):
        (mixed,) = fusion(modalities(rows, 4))
    for row in range(4):
        own = {name: [row] for name, having in rows.items() if row in having}
        alone = fusion(modalities(own, row + 1)) if "main" in own else []
        assert bool(mixed.mask[row].any()) == bool(alone)
        for segment in alone:
            torch.testing.assert_close(mixed.values[row], segment.values[row])


@pytest.mark.filterwarnings("ignore:A sample has one and no main")
def test_modalities_that_no_sample_has_together_change_nothing() -> None:
    (plain,) = fusion_of("one")(modalities({"main": [0]}, 2))
    (beside,) = fusion_of("one")(modalities({"main": [0], "one": [1]}, 2))
    assert torch.equal(beside.values, plain.values)
    assert torch.equal(beside.mask, plain.mask)


def test_side_modalities_without_visual_tokens_have_nothing_to_update_and_it_is_said_once(
    recwarn: pytest.WarningsRecorder,
) -> None:
    fusion = fusion_of("one", "two")
    assert fusion(modalities({"one": [0], "two": [0]}, 1)) == []
    assert fusion(modalities({"one": [0]}, 1)) == []
    assert [str(warning.message) for warning in recwarn] == [
        "A sample has one, two and no main. PAVE updates the tokens of 'main', so such samples are answered from the "
        "question alone. Give them 'main' too. Said once."
    ]


def test_every_parameter_belongs_to_one_modality() -> None:
    fusion = fusion_of("one", "two")
    assert fusion.shared_parameters() == {}
    assert len(fusion.block_parameters(["one"])) == len(fusion.block_parameters(["two"])) > 0


def test_a_model_without_newlines_gets_none() -> None:
    assert fusion_of("one", newline=False).newlines == "none"
    (only,) = fusion_of("one", newline=False)(modalities({"main": [0]}, 1, newline=False))
    assert only.values.shape[2] == ROWS * COLUMNS


MESSAGES = [
    (
        {"newlines": "rows"},
        "newlines='rows' is not known to PAVE. Accepted: grid, frame, one_token, none. Use newlines='grid', the "
        "default.",
    ),
    (
        {"queries": "text"},
        "queries='text' is not known to PAVE. Accepted: inner, projected, learnable. Use queries='inner', the default.",
    ),
    (
        {"order": "serial"},
        "order='serial' is not known to PAVE. Accepted: parallel, chained. Use order='parallel', the default.",
    ),
    (
        {"order": "chained"},
        "order='chained' with queries='inner': no patch would see what another wrote. Chained patches ask with the "
        "tokens they update. Use queries='projected', or order='parallel'.",
    ),
    (
        {"newlines": "grid", "newline": False},
        "newlines='grid' came, and this backbone has no newline token. Accepted: 'none'. Leave newlines out.",
    ),
    (
        {"num_heads": 3},
        "3 heads do not divide a width of 16. The width must be a multiple of the heads. Use num_heads=4 with a width "
        "of 512, as published.",
    ),
    (
        {"layers": 3},
        "fusion: PaveFusion has no option 'layers'. Accepted: num_layers, embed_dim, num_heads, rotary, alignment, "
        "shared_value, side_map, conv_stages, queries, num_frames, newlines, order. Did you mean 'num_layers'? Correct "
        "the name, or leave it out.",
    ),
]


@pytest.mark.parametrize(("options", "message"), MESSAGES, ids=lambda value: str(value)[:20])
def test_settings_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError) as caught:
        fusion_of(**options)
    assert str(caught.value) == message


def test_tokens_that_are_no_video_language_models_are_refused() -> None:
    with pytest.raises(OptionsError) as caught:
        make_fusion("pave", ["one"], FusionSizes(WIDTH, 6))
    assert str(caught.value) == (
        "fusion='pave' updates a vision-language model's own visual tokens, and the major modality's tokens are none. "
        "Accepted: a backbone of that kind. Use backbone='llava-hf/llava-onevision-qwen2-0.5b-ov-hf'."
    )
