"""Equal to the released module on its own tensors: outputs, what lies between, and every gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from crema_pave.alignment import align_side
from crema_pave.layer import FrameAttention, plan_keys
from crema_pave.released import export_released_patch
from crema_pave.rotary import Angles, Rotary, rotation, square_grid
from crema_pave.side_map import MappedSide
from tests.support.numeric import assert_close_to_scale, largest
from tests.support.pave import PatchCase, cases_of, description, load_case, tensors_of

CASES = cases_of("patch_norope", "patch_fresh_init", "patch_conv_mapping")
ATTENTION = sorted(description("attention_rope_2heads")["cases"])


@pytest.fixture(scope="module", params=CASES, ids="/".join)
def case(request: pytest.FixtureRequest) -> PatchCase:
    return load_case(*request.param)


def test_there_are_golden_cases() -> None:
    assert (len(CASES), len(ATTENTION)) == (14, 3)


def test_update_and_gradients(case: PatchCase) -> None:
    queries, side = case.queries.requires_grad_(), case.side.requires_grad_()
    update = case.patch(queries, side=side, side_mask=case.side_mask, side_grid=case.grid)
    assert_close_to_scale(update.flatten(1, 2), case.tensors["out"])
    (update.flatten(1, 2) * case.tensors["loss_weights"]).sum().backward()
    assert side.grad is not None
    assert queries.grad is not None
    assert_close_to_scale(side.grad, case.tensors["grad_side_padded"].flatten(2, 3), name="side")
    for number, gradient in enumerate(queries.grad):
        assert_close_to_scale(gradient, case.tensors[f"grad_query_{number}"], name=f"query {number}")
    # Some gradients are zero but for the released code's rounding: the largest of all is their scale.
    scale = largest(*(value for key, value in case.tensors.items() if key.startswith("param_grad/")))
    checked = 0
    for name, parameter in case.patch.named_parameters():
        (released,) = export_names(case, name)
        assert parameter.grad is not None
        assert_close_to_scale(parameter.grad, case.tensors[f"param_grad/{released}"], scale=scale, name=released)
        checked += 1
    assert checked == sum(key.startswith("param_grad/") for key in case.tensors)


def export_names(case: PatchCase, name: str) -> list[str]:
    exported = export_released_patch(case.patch, prefix="")
    names = [key for key in exported if "v_linear" not in key]
    return [released for own, released in zip(case.patch.state_dict(), names, strict=True) if own == name]


def test_what_lies_between_input_and_output(case: PatchCase) -> None:
    seen: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(lambda _module, _inputs, output, name=name: seen.update({name: output}))
        for name, module in case.patch.named_modules()
    ]
    case.patch(case.queries, side=case.side, side_mask=case.side_mask, side_grid=case.grid)
    for handle in handles:
        handle.remove()
    names = {"after_query_projection": "query_map", "after_adapter_mlp": "adapter"}
    for layer in range(len(case.patch.layers)):
        names |= {
            f"layer{layer}_attention_only": f"layers.{layer}.attention",
            f"layer{layer}_output": f"layers.{layer}",
        }
    if isinstance(case.patch.side_map, torch.nn.Linear):
        names["after_side_projection"] = "side_map"
    middle = [key for key in case.tensors if key.startswith("mid/")]
    assert {key.removeprefix("mid/").split("#")[0] for key in middle} == set(names)
    for key in middle:
        stage, number = key.removeprefix("mid/").split("#")
        ours, expected = seen[names[stage]][int(number)], case.tensors[key]
        if stage == "after_adapter_mlp":
            ours, expected = seen["adapter"].flatten(1, 2), case.tensors[key]
        if stage == "after_side_projection":
            ours = ours[: expected.shape[0]]
        assert_close_to_scale(ours.reshape(expected.shape), expected, name=key)


@pytest.mark.parametrize("rotary", ["none", "released_3d"])
@pytest.mark.parametrize("name", ATTENTION)
def test_attention_alone_with_and_without_rotary(name: str, rotary: Rotary) -> None:
    weights = tensors_of("attention_rope_2heads", "param/")
    tensors = tensors_of("attention_rope_2heads", f"case/{name}/")
    attention = FrameAttention(256, side_dim=16, num_heads=2, shared_value=True)
    attention.load_state_dict(
        {
            f"{ours}.{end}": weights[f"{theirs}.{end}"]
            for ours, theirs in (("query", "q_linear"), ("key", "k_linear"))
            for end in ("weight", "bias")
        }
    )
    query, side = (tensors[name].double().requires_grad_() for name in ("in_query", "in_side"))
    attention.double()
    mapped = MappedSide(side, torch.ones(side.shape[:3], dtype=torch.bool), None)
    aligned = align_side(mapped, torch.ones(query.shape[:2], dtype=torch.bool), None)
    angles: Angles | None = None
    if rotary != "none":
        angles = rotation(
            rotary,
            128,
            query_times=aligned.query_times,
            key_times=aligned.key_times,
            query_grid=square_grid(query.shape[2], None, of="query"),
            key_grid=square_grid(side.shape[2], None, of="side"),
        )
    out = attention(query, side=side, plan=plan_keys(aligned.groups, mapped.mask), angles=angles)
    kind = "rope" if angles else "norope"
    assert_close_to_scale(out[0], tensors[f"{kind}/out"])
    (out[0] * tensors[f"{kind}/loss_weights"]).sum().backward()
    assert query.grad is not None
    assert side.grad is not None
    assert_close_to_scale(query.grad, tensors[f"{kind}/grad_query"], name="query")
    assert_close_to_scale(side.grad, tensors[f"{kind}/grad_side"], name="side")
