"""What all strategies share: modalities on the major one's frames, their order, prefixes and weights by name.

Blocks are the identity on tokens one wide, so every expected value can be read off.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from crema_core.errors import OptionsError
from crema_core.fusion.base import Fusion, FusionPlan, FusionSizes, Layout, ModalitySet, spread
from crema_core.fusion.strategies import UngatedFusion
from crema_core.tokens import ModalityTokens, Segment
from tests.support.fusions import make_fusion

PREFIXES = {"wave": "Wave: ", "main": "Frame {index}: ", "other": "Other {index}: ", "points": "Points: "}
TRAINED = ("self_gated", "supporting_cross_attention", "token_mixture", "ungated")
"""Core's strategies that have weights and leave the major tokens as they are."""
LAYOUTS: tuple[Layout, ...] = ("paper", "released")
CLOCK = [(0.0, 1.0), (1.0, 2.0)]


def tokens(
    steps: list[list[float]], rows: list[int] | None = None, *, times: list[tuple[float, float]] | None = None
) -> ModalityTokens:
    """One query one wide at each step; a step of 0 is padding."""
    values = torch.tensor(steps)
    clock = None if times is None else torch.tensor(times).expand(len(steps), -1, -1)
    return ModalityTokens(
        values[:, :, None, None], values != 0, torch.tensor(range(len(steps)) if rows is None else rows), clock
    )


def batch(num_samples: int = 2, **modalities: ModalityTokens) -> ModalitySet:
    return ModalitySet(modalities, "main", num_samples, PREFIXES, frozenset({"main", "other"}))


def ungated(*names: str, **options: Any) -> UngatedFusion:
    """A fusion that adds up what it is given, plus its bias of 0.5."""
    fusion = make_fusion("ungated", names, FusionSizes(1, 1), options=options)
    assert isinstance(fusion, UngatedFusion)
    with torch.no_grad():
        for name in names:
            fusion.blocks[name].weight.fill_(1.0)
        fusion.bias.fill_(0.5)
    return fusion


def shown(segment: Segment) -> list[list[float | None]]:
    """Values of a segment by sample, its tokens of a step one after the other, None where masked."""
    values, mask = segment.values.flatten(1), segment.mask
    if mask.dim() == 2:
        mask = mask[:, :, None].expand(segment.values.shape[:3])
    mask = mask.flatten(1)
    return [
        [round(value, 4) if real else None for value, real in zip(row, kept, strict=True)]
        for row, kept in zip(values.tolist(), mask.tolist(), strict=True)
    ]


# What falls on a frame


@pytest.mark.parametrize(("layout", "expected"), [("paper", [2.5, 16.1]), ("released", [8.75, 8.75])])
def test_clocks_decide_what_falls_on_a_frame_but_not_in_the_released_layout(
    layout: Layout, expected: list[float]
) -> None:
    wave = tokens([[1.0, 3.0, 9.0, 20.0]], times=[(0, 0.5), (0.5, 1), (1, 1.4), (1.4, 2)])
    modalities = batch(1, main=tokens([[1.0, 1.0]], times=CLOCK), wave=wave)
    fused = ungated("wave", layout=layout)(modalities)[1]
    assert shown(fused) == [pytest.approx(expected)]


@pytest.mark.parametrize("name", TRAINED)
def test_every_trained_strategy_reads_clocks(name: str) -> None:
    torch.manual_seed(0)
    fusion = make_fusion(name, ["wave"], FusionSizes(8, 1))
    if name in ("self_gated", "ungated"):
        torch.nn.init.eye_(fusion.blocks["wave"].weight)
    values = torch.randn(1, 4, 1, 8)
    clock = torch.tensor([[(0, 0.5), (0.5, 1.0), (1.0, 1.5), (1.5, 2.0)]])
    wave = ModalityTokens(values, torch.ones(1, 4, dtype=torch.bool), torch.tensor([0]), clock)
    frames = ModalityTokens(
        values.unflatten(1, (2, 2)).mean(2), torch.ones(1, 2, dtype=torch.bool), torch.tensor([0]), None
    )
    main = ModalityTokens(torch.zeros(1, 2, 1, 8), frames.mask, torch.tensor([0]), torch.tensor([CLOCK]))
    per_frame = frozenset({"main", "wave"})
    by_clock = fusion(ModalitySet({"main": main, "wave": wave}, "main", 1, PREFIXES, frozenset({"main"})))[1]
    by_frame = fusion(ModalitySet({"main": main, "wave": frames}, "main", 1, PREFIXES, per_frame))[1]
    torch.testing.assert_close(by_clock.values, by_frame.values)
    assert not torch.allclose(by_clock.values[:, 0], by_clock.values[:, 1])


def test_aligning_without_time_averages_and_keeps_the_tokens_as_they_are() -> None:
    wave = tokens([[1.0, 3.0]], times=CLOCK)
    modalities = batch(1, main=tokens([[1.0, 1.0]], times=CLOCK), wave=wave)
    grid = modalities.grid()
    assert modalities.aligned("wave", grid).flatten().tolist() == [1.0, 3.0]
    assert modalities.aligned("wave", grid, by_time=False).flatten().tolist() == [2.0, 2.0]
    assert modalities.tokens["wave"].times is not None


def test_a_modality_framed_for_all_samples_is_masked_where_a_sample_lacks_it_or_the_step() -> None:
    modalities = batch(
        3, main=tokens([[1.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), other=tokens([[5.0, 6.0], [7.0, 0.0]], [0, 1])
    )
    values, mask = modalities.framed("other", modalities.grid())
    assert values.flatten(1).tolist() == [[5.0, 6.0], [7.0, 0.0], [0.0, 0.0]]
    assert mask.flatten(1).tolist() == [[True, True], [True, False], [False, False]]


# Who is absent


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_sample_without_any_supporting_modality_gets_no_fused_tokens(layout: Layout) -> None:
    modalities = batch(2, main=tokens([[1.0, 2.0], [3.0, 4.0]]), other=tokens([[5.0, 6.0]], [1]))
    main, fused = ungated("other", "wave", layout=layout)(modalities)
    assert shown(main) == [[1.0, 2.0], [3.0, 4.0]]
    assert shown(fused) == [[None, None], [5.5, 6.5]]
    assert (main.prefix, fused.prefix) == ("Frame {index}: ", "Frame {index}: ")
    assert (main.prefixes_first, fused.prefixes_first) == (False, layout == "released")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_supporting_modalities_that_different_samples_lack_are_summed_where_they_are(layout: Layout) -> None:
    modalities = batch(
        3,
        main=tokens([[1.0, 1.0], [1.0, 1.0], [1.0, 0.0]]),
        other=tokens([[10.0, 20.0], [30.0, 0.0]], [0, 2]),
        points=tokens([[2.0], [3.0]], [0, 1]),
    )
    fused = ungated("other", "points", layout=layout)(modalities)[1]
    assert shown(fused) == [[12.5, 22.5], [3.5, 3.5], [30.5, None]]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_added_tokens_leave_a_sample_without_supporting_modalities_as_it_was(layout: Layout) -> None:
    modalities = batch(
        2,
        main=tokens([[1.0, 2.0], [3.0, 0.0]]),
        other=tokens([[5.0, 0.0]], [1]),
        points=tokens([[8.0]], [0]),
    )
    added, points = ungated("other", layout=layout, append=False)(modalities)
    assert shown(added) == [[1.0, 2.0], [8.5, None]]
    assert added.prefix == "Frame {index}: "
    assert shown(points) == [[8.0], [None]], "a modality without weights follows"
    assert points.prefix == "Points: "


def test_added_tokens_stand_alone_where_the_whole_batch_lacks_the_major_modality() -> None:
    modalities = batch(2, other=tokens([[5.0, 6.0], [7.0, 0.0]]), points=tokens([[8.0]], [1]))
    fused, points = ungated("other", append=False)(modalities)
    assert shown(fused) == [[5.5, 6.5], [7.5, None]]
    assert fused.prefix == "Frame {index}: "
    assert shown(points) == [[None], [8.0]]


def test_a_sample_without_the_major_modality_is_fused_on_its_own_frames() -> None:
    modalities = batch(2, main=tokens([[1.0, 2.0]], [0]), other=tokens([[5.0, 6.0, 0.0], [7.0, 8.0, 9.0]]))
    main, fused = ungated("other")(modalities)
    assert shown(main) == [[1.0, 2.0], [None, None]]
    assert shown(fused) == [[5.5, 6.5, None], [7.5, 8.5, 9.5]]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_is_fused_where_no_supporting_modality_has_weights(layout: Layout) -> None:
    segments = ungated("wave", layout=layout)(batch(1, points=tokens([[8.0]]), main=tokens([[1.0, 2.0]])))
    assert [(shown(own), own.prefix) for own in segments] == [
        ([[1.0, 2.0]], "Frame {index}: "),
        ([[8.0]], "Points: "),
    ]


# Order and prefixes


def test_the_fused_tokens_come_after_the_major_modality_and_before_those_without_weights() -> None:
    modalities = batch(
        1, wave=tokens([[7.0]]), points=tokens([[8.0]]), main=tokens([[1.0, 2.0]]), other=tokens([[5.0, 6.0]])
    )
    assert list(modalities.supporting) == ["wave", "points", "other"]
    segments = ungated("other")(modalities)
    assert [own.prefix for own in segments] == ["Frame {index}: ", "Frame {index}: ", "Wave: ", "Points: "]
    assert [shown(own) for own in segments] == [[[1.0, 2.0]], [[5.5, 6.5]], [[7.0]], [[8.0]]]
    without = ungated("other")(batch(1, points=tokens([[8.0]]), other=tokens([[5.0, 6.0]])))
    assert [shown(own) for own in without] == [[[5.5, 6.5]], [[8.0]]], "nothing precedes them without a major modality"


def test_the_released_layout_puts_modalities_of_the_same_frames_into_them() -> None:
    modalities = batch(
        2,
        points=tokens([[8.0]], [0]),
        wave=tokens([[2.0, 4.0], [6.0, 0.0]], times=CLOCK),
        other=tokens([[5.0, 6.0]], [1]),
        main=tokens([[1.0, 2.0], [3.0, 4.0]]),
    )
    concat = make_fusion("concat", ["points", "wave", "other"], FusionSizes(1, 1), options={"layout": "released"})
    frames, points, wave = concat(modalities)
    assert shown(frames) == [[1.0, None, 2.0, None], [3.0, 5.0, 4.0, 6.0]]
    assert (shown(points), shown(wave)) == ([[8.0], [None]], [[2.0, 4.0], [6.0, None]])
    assert (frames.prefix, points.prefix, wave.prefix) == ("Frame {index}: ", "Points: ", None)


def test_the_released_layout_without_the_major_modality_leaves_all_apart() -> None:
    concat = make_fusion("concat", ["wave", "other"], FusionSizes(1, 1), options={"layout": "released"})
    segments = concat(batch(1, wave=tokens([[2.0, 4.0]], times=CLOCK), other=tokens([[5.0, 6.0]])))
    assert [(shown(own), own.prefix) for own in segments] == [
        ([[2.0, 4.0]], None),
        ([[5.0, 6.0]], "Other {index}: "),
    ]


def test_a_single_modality_keeps_its_prefix_in_the_released_layout() -> None:
    concat = make_fusion("concat", ["wave"], FusionSizes(1, 1), options={"layout": "released"})
    (only,) = concat(batch(1, wave=tokens([[2.0, 4.0]], times=CLOCK)))
    assert only.prefix == "Wave: "


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("clocked", [False, True], ids=["no clock", "clock"])
def test_a_sample_is_laid_out_as_if_it_were_alone_in_its_batch(layout: Layout, clocked: bool) -> None:
    """Samples: all modalities; a clocked one alone; one of the major's frames without it; a clockless one and more."""
    values = {
        "main": {0: [1.0, 2.0], 4: [7.0, 8.0]},
        "wave": {0: [2.0, 4.0], 1: [3.0, 5.0], 3: [6.0, 9.0], 4: [5.0, 3.0]},
        "other": {0: [5.0, 6.0], 2: [4.0, 4.0]},
        "points": {0: [8.0], 3: [9.0]},
    }
    with_clock = {0, 1, 4} if clocked else set()
    concat = make_fusion("concat", ["wave", "other", "points"], FusionSizes(1, 1), options={"layout": layout})

    def laid_out(samples: list[int]) -> list[list[tuple[str | None, list[float]]]]:
        found = {}
        for name, own in values.items():
            rows = [row for row, sample in enumerate(samples) if sample in own]
            if not rows:
                continue
            has = [samples[row] in with_clock for row in rows]
            found[name] = tokens([own[samples[row]] for row in rows], rows)
            if name == "wave" and any(has):
                clocks = torch.tensor([CLOCK if one else [(torch.nan, torch.nan)] * 2 for one in has])
                found[name] = found[name]._replace(times=clocks)
        segments = [(own.prefix, shown(own)) for own in concat(batch(len(samples), **found))]
        real = [(prefix, [[one for one in row if one is not None] for row in own]) for prefix, own in segments]
        return [[(prefix, own[row]) for prefix, own in real if own[row]] for row in range(len(samples))]

    together = laid_out([0, 1, 2, 3, 4])
    assert together == [laid_out([sample])[0] for sample in range(5)]


def test_the_papers_layout_leaves_all_apart_with_their_prefixes() -> None:
    modalities = batch(1, wave=tokens([[2.0, 4.0]], times=CLOCK), other=tokens([[5.0, 6.0]]), main=tokens([[1.0, 2.0]]))
    segments = make_fusion("concat", ["wave", "other"], FusionSizes(1, 1))(modalities)
    assert [(shown(own), own.prefix) for own in segments] == [
        ([[1.0, 2.0]], "Frame {index}: "),
        ([[2.0, 4.0]], "Wave: "),
        ([[5.0, 6.0]], "Other {index}: "),
    ]


def test_an_unknown_layout_is_refused() -> None:
    with pytest.raises(OptionsError) as caught:
        make_fusion("concat", [], FusionSizes(1, 1), options={"layout": "papre"})
    assert str(caught.value) == ("layout='papre' is not a layout. Accepted: paper, released. Use layout='paper'.")


def test_rows_are_placed_at_their_samples() -> None:
    values = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    assert spread(values, torch.tensor([2, 0]), 3).tolist() == [[2.0], [0.0], [1.0]]
    assert spread(values, torch.tensor([0, 1]), 2).tolist() == [[1.0], [2.0]]
    assert spread(values, torch.tensor([2, 0]), 3).dtype == torch.float64


# Weights by name


@pytest.mark.parametrize("name", TRAINED)
def test_names_of_which_one_begins_another_keep_their_own_weights(name: str) -> None:
    fusion = make_fusion(name, ["touch", "touch_left"], FusionSizes(8, 1))
    touch, left = fusion.block_parameters(["touch"]), fusion.block_parameters(["touch_left"])
    assert {key.split(".")[1] for key in touch} == {"touch"}
    assert {key.split(".")[1] for key in left} == {"touch_left"}
    assert len(touch) == len(left) > 0
    assert fusion.block_parameters(["touch", "touch_left"]).keys() == touch.keys() | left.keys()
    assert fusion.block_parameters([]) == {}
    assert not fusion.shared_parameters().keys() & (touch.keys() | left.keys())


@pytest.mark.parametrize("name", TRAINED)
def test_what_all_modalities_share_is_made_once_and_stays_when_a_modality_is_added(name: str) -> None:
    fusion = make_fusion(name, ["one"], FusionSizes(8, 1))
    before = {key: (value, value.detach().clone()) for key, value in fusion.named_parameters()}
    fusion.add_supporting("two", total=2)
    after = dict(fusion.named_parameters())
    assert fusion.supporting == ["one", "two"]
    for key, (parameter, value) in before.items():
        assert after[key] is parameter
        assert torch.equal(parameter, value)
    assert fusion.block_parameters(["two"]).keys() == {key for key in after if key not in before} != set()


@pytest.mark.parametrize("name", TRAINED)
def test_what_all_modalities_share_is_made_with_the_first_supporting_modality(name: str) -> None:
    fusion = make_fusion(name, [], FusionSizes(8, 1))
    assert list(fusion.parameters()) == []
    fusion.add_supporting("one", total=1)
    whole = make_fusion(name, ["one"], FusionSizes(8, 1))
    assert dict(fusion.named_parameters()).keys() == dict(whole.named_parameters()).keys()


@pytest.mark.parametrize("name", ["ungated", "token_mixture"])
def test_a_modality_added_at_zero_does_not_move_what_is_fused(name: str) -> None:
    torch.manual_seed(0)
    fusion = make_fusion(name, ["other"], FusionSizes(8, 1))
    fusion.add_supporting("points", total=2, zero=True)
    fusion.add_supporting("wave", total=3)
    value = torch.randn(1, 1, 1, 8)
    assert float(contribution(fusion, "points", value).abs().max()) == 0
    assert float(contribution(fusion, "wave", value).abs().max()) > 0.01


def contribution(fusion: Fusion, name: str, value: Tensor) -> Tensor:
    with torch.no_grad():
        found = fusion.blocks[name](value)
    result: Tensor = found[0] if isinstance(found, tuple) else found
    return result


def test_the_spread_of_a_block_and_the_bias_is_that_of_one_map_over_all_channels() -> None:
    width = 256
    fusion = make_fusion("ungated", ["one", "two"], FusionSizes(width, 1))
    fusion.add_supporting("three", total=4)
    for name, total in (("one", 2), ("two", 2), ("three", 4)):
        weight, bound = fusion.blocks[name].weight.detach(), (width * total) ** -0.5
        assert 0.99 * bound < float(weight.max()) <= bound
        assert -bound <= float(weight.min()) < -0.99 * bound
    assert isinstance(fusion, UngatedFusion)
    bound = (2 * width) ** -0.5
    assert 0.9 * bound < float(fusion.bias.detach().abs().max()) <= bound
    assert float(fusion.bias.detach().min()) < 0 < float(fusion.bias.detach().max())


def test_a_modality_remembers_the_width_of_its_tokens() -> None:
    fusion = make_fusion("concat", [], FusionSizes(8, 1))
    fusion.add_supporting("one", total=1)
    fusion.add_supporting("two", total=2, token_width=3)
    assert fusion.token_widths == {"one": 8, "two": 3}


def test_a_plan_holds_what_its_strategy_declares() -> None:
    def of_major(_: object) -> Any:
        raise AssertionError("nothing is built here")

    def of_supporting(_: object) -> Any:
        raise AssertionError("nothing is built here")

    class Declared(UngatedFusion):
        major_connector = staticmethod(of_major)
        supporting_connector = staticmethod(of_supporting)
        major_prefix = "Seen: "
        mixes_parts = True

    assert Declared.plan({"append": False}) == FusionPlan(
        Declared,
        {"append": False},
        major_connector=of_major,
        supporting_connector=of_supporting,
        major_prefix="Seen: ",
        mixes_parts=True,
    )
    assert UngatedFusion.plan({}) == FusionPlan(UngatedFusion, {}, None, None, None, False)


@pytest.mark.parametrize(("major", "supporting", "num_modalities", "needed"), [
    (False, False, 1, True), (False, True, 1, True), (True, False, 1, False), (True, False, 2, True),
    (True, True, 2, False),
])  # fmt: skip
def test_the_qformer_is_needed_where_a_connector_is_not_a_strategys_own(
    major: bool, supporting: bool, num_modalities: int, needed: bool
) -> None:
    def own(_: object) -> Any:
        raise AssertionError("nothing is built here")

    plan = FusionPlan(UngatedFusion, {}, own if major else None, own if supporting else None)
    assert plan.needs_qformer(num_modalities) == needed
