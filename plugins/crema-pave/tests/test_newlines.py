"""The four layouts of newlines: equal to the released input of the language model, and masked right."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from crema_core.errors import OptionsError
from crema_pave.compose import add_patches
from crema_pave.newlines import Newlines, add_newlines
from crema_pave.released import from_released_patch
from tests.support.numeric import assert_close_to_scale
from tests.support.pave import cases_of, description, tensors_of

FILE = "hook_llm_input"
LAYOUTS = {"grid": "grid", "frame": "frame", "one_token": "one_token", "no_token": "none"}
NEWLINE = torch.full((2,), -1.0)


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    own = tensors_of(FILE, "")
    given = ("visual_", "in_side_BCTHW", "param/")
    return {key: value.double() if key.startswith(given) else value for key, value in own.items()}


@pytest.fixture(scope="module")
def visual(tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Tokens before and after the projector, pooled: `(B, F, S, Q)` and `(B, F, S, L)`."""
    before, after = (
        torch.stack([tensors[f"visual_{place}_projector_pooled_{number}"] for number in (0, 1)])
        for place in ("before", "after")
    )
    return before, after


@pytest.mark.parametrize("case", [case for _, case in cases_of(FILE)])
def test_the_language_models_input_as_released(
    case: str, tensors: dict[str, Tensor], visual: tuple[Tensor, Tensor]
) -> None:
    layout = LAYOUTS[description(FILE)["cases"][case]["config"]["mm_newline_position"]]
    patch = from_released_patch(tensors_of("patch_norope", "param/")).build().double()
    side = tensors["in_side_BCTHW"].movedim(1, -1).flatten(2, 3)
    lengths = torch.tensor(description(FILE)["side_lengths"])
    mask = torch.arange(side.shape[1]) < lengths[:, None]
    queries, tokens = visual
    updated = add_patches(tokens, [lambda asked: patch(asked, side=side, side_mask=mask)], queries=queries)
    values, real = add_newlines(updated, tensors["param/image_newline"], layout=layout)  # type: ignore[arg-type]
    for row in range(2):
        ids = tensors["in_ids"][row][tensors["in_attention_mask"][row].bool()]
        place = int((ids == -200).nonzero())
        text = F.embedding(ids.clamp(min=0), tensors["param/embed_tokens.weight"])
        sequence = torch.cat([text[:place], values[row][real[row]], text[place + 1 :]])
        expected_mask = tensors[f"case/{case}/out_attention_mask"][row].bool()
        expected = tensors[f"case/{case}/out_inputs_embeds"][row][expected_mask]
        assert_close_to_scale(sequence, expected)
        labels = tensors[f"case/{case}/out_labels"][row][expected_mask]
        assert bool((labels[place : place + int(real[row].sum())] == -100).all())


@pytest.mark.parametrize(("layout", "count"), [("grid", 6720), ("frame", 6304), ("one_token", 6273), ("none", 6272)])
def test_tokens_of_a_released_prompt(layout: Newlines, count: int) -> None:
    values, mask = add_newlines(torch.zeros(1, 32, 196, 2), NEWLINE, layout=layout)
    assert int(mask.sum()) == count
    assert values.shape[:3] == mask.shape


@settings(max_examples=40, deadline=None)
@given(
    layout=st.sampled_from(["grid", "frame", "one_token", "none"]),
    frames=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    rows=st.integers(1, 3),
    columns=st.integers(1, 3),
)
def test_a_ragged_batch_has_every_samples_own_sequence(
    layout: Newlines, frames: list[int], rows: int, columns: int
) -> None:
    most, size = max(frames) + 1, rows * columns
    tokens = torch.arange(1.0, most * size + 1).reshape(1, most, size, 1).expand(len(frames), -1, -1, 2)
    mask = torch.arange(most) < torch.tensor(frames)[:, None]
    values, real = add_newlines(tokens, NEWLINE, layout=layout, frame_mask=mask, grid=(rows, columns))
    for row, count in enumerate(frames):
        numbers: list[float] = list(range(1, count * size + 1))
        every = {"grid": columns, "frame": size, "one_token": count * size, "none": 0}[layout]
        expected = [
            value for number in numbers for value in ([number, -1] if every and number % every == 0 else [number])
        ]
        assert values[row][real[row]][:, 0].tolist() == expected


def test_an_unknown_layout_is_refused() -> None:
    with pytest.raises(OptionsError) as caught:
        add_newlines(torch.zeros(1, 1, 4, 2), NEWLINE, layout="row")  # type: ignore[arg-type]
    assert str(caught.value) == (
        "newlines='row' is not a layout. Accepted: grid, frame, one_token, none. Use newlines='grid', as "
        "LLaVA-OneVision for clips."
    )
