"""Released PAVE patches: sizes read from shapes, what is dead is reported, what does not fit is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from crema_core.errors import CheckpointError
from crema_pave.patch import PavePatch
from crema_pave.released import PREFIX, export_released_patch, from_released_patch, read_released_patch
from tests.support.pave import random_patch, tensors_of

SIZES: dict[str, dict[str, Any]] = {
    "linear": {"shared_value": True},
    "three layers, other widths": {"shared_value": True, "num_layers": 3, "embed_dim": 8, "hidden_dim": 12},
    "learnable": {"shared_value": True, "queries": "learnable", "num_frames": 3, "tokens_per_frame": 4},
    "convolutions": {
        "shared_value": True,
        "side_map": "conv",
        "conv_stages": [(8, 4, 1, 1), (12, 4, 2, 2)],
    },
}


def released(name: str = "linear") -> dict[str, Tensor]:
    return export_released_patch(random_patch(**SIZES[name]))


@pytest.mark.parametrize("name", SIZES)
def test_there_and_back_again_with_sizes_from_shapes(name: str) -> None:
    patch = random_patch(**SIZES[name], alignment="count")
    strides = [1, 2] if name == "convolutions" else []
    back = from_released_patch(export_released_patch(patch), num_heads=2, conv_strides=strides).build()
    assert {key: value.tolist() for key, value in back.state_dict().items()} == {
        key: value.tolist() for key, value in patch.state_dict().items()
    }
    queries, side = torch.randn(1, 3, 4, 5), torch.randn(1, 4, 4, 6)
    assert torch.equal(patch(queries, side=side), back(queries, side=side))


@pytest.mark.parametrize("before", [PREFIX, "model.temporal_aggregator.", "temporal_aggregator.", ""])
def test_whatever_stands_before_the_names_is_cut_off(before: str) -> None:
    patch = random_patch(shared_value=True)
    back = from_released_patch(export_released_patch(patch, prefix=before), num_heads=2)
    assert set(back.state) == set(patch.state_dict())
    assert back.left_aside == [
        f"{before}cross_attn_layers.{layer}.attn.v_linear.{end}" for layer in (0, 1) for end in ("weight", "bias")
    ]


def test_golden_weights_have_the_names_and_shapes_that_are_exported() -> None:
    for name, strides in (("patch_norope", ()), ("patch_conv_mapping", (1, 2))):
        weights = tensors_of(name, "param/")
        patch = from_released_patch(weights, conv_strides=strides).build()
        exported = export_released_patch(patch, prefix="")
        assert {key: value.shape for key, value in exported.items()} == {
            key: value.shape for key, value in weights.items()
        }
        assert all(torch.equal(value, weights[key]) for key, value in exported.items() if "v_linear" not in key)


@pytest.mark.parametrize(
    ("count", "settings"),
    [
        (6_235_776, {}),
        (6_301_312, {"side_dim": 1152}),
        (8_996_352, {"output_dim": 3584}),
        (8_865_280, {"output_dim": 3584, "side_dim": 768}),
        (10_833_920, {"output_dim": 3584, "num_layers": 3}),
        (8_856_704, {"queries": "learnable"}),
    ],
)
def test_parameters_of_the_released_runs(count: int, settings: dict[str, Any]) -> None:
    sizes: dict[str, Any] = {"side_dim": 1024, "query_dim": 1152, "output_dim": 896} | settings
    with torch.device("meta"):
        as_released, own_values = PavePatch(**sizes, shared_value=True), PavePatch(**sizes)
    dead = sizes.get("num_layers", 2) * (512 * 512 + 512)
    assert sum(value.numel() for value in export_released_patch(as_released).values()) == count
    assert sum(parameter.numel() for parameter in as_released.parameters()) == count - dead
    assert sum(parameter.numel() for parameter in own_values.parameters()) == count


def test_a_runs_folder_is_read_and_its_lora_found(tmp_path: Path) -> None:
    torch.save(released(), tmp_path / "non_lora_trainables.bin")
    assert read_released_patch(tmp_path, num_heads=2).lora is None
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 64}))
    patch = read_released_patch(tmp_path, num_heads=2, rotary="time")
    assert patch.lora == tmp_path
    assert patch.arguments == {
        "side_dim": 6,
        "query_dim": 5,
        "output_dim": 7,
        "embed_dim": 16,
        "hidden_dim": 16,
        "num_layers": 2,
        "num_heads": 2,
        "rotary": "time",
        "shared_value": True,
        "alignment": "count",
    }
    save_file(released(), tmp_path / "patch.safetensors")
    again = read_released_patch(tmp_path / "patch.safetensors", num_heads=2)
    assert all(torch.equal(value, again.state[key]) for key, value in patch.state.items())


def test_weights_keep_their_dtype_and_two_builds_share_nothing() -> None:
    read = from_released_patch({key: value.bfloat16() for key, value in released().items()}, num_heads=2)
    one, other = read.build(), read.build()
    assert {parameter.dtype for parameter in one.parameters()} == {torch.bfloat16}
    with torch.no_grad():
        one.norm.weight.zero_()
    assert bool(other.norm.weight.any())


def test_a_folder_without_a_patch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_released_patch(tmp_path)
    assert str(caught.value) == (
        f"'{tmp_path}' has no patch. Accepted: a folder with non_lora_trainables.bin or mm_projector.bin. Pass the "
        "folder of a released PAVE run, or the file itself."
    )


class Harmful:
    """What a torch file could run while it is read."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (Path.touch, (Path("harm"),))  # type: ignore[return-value]


def test_code_in_a_torch_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Harmful()}, tmp_path / "non_lora_trainables.bin")
    with pytest.raises(CheckpointError) as caught:
        read_released_patch(tmp_path)
    assert str(caught.value).startswith(f"'{tmp_path / 'non_lora_trainables.bin'}' cannot be read: ")
    assert str(caught.value).endswith(
        "Accepted: a torch file of tensors (it is read without executing code) or safetensors. Download it again."
    )
    assert not (tmp_path / "harm").exists()


def refusal(state: dict[str, Tensor], **arguments: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        from_released_patch(state, num_heads=2, **arguments)
    return str(caught.value)


END = (
    "Accepted: all weights of one released patch (class PAVEModuleV5) and nothing else. Pass the "
    "non_lora_trainables.bin of a released run. Nothing was changed."
)


def test_everything_that_does_not_fit_is_listed() -> None:
    state = released()
    del state[f"{PREFIX}cross_attn_layers.1.ffn.3.weight"]
    state[f"{PREFIX}start_end_tokens"] = torch.zeros(2, 7)
    state[f"{PREFIX}output_mapping.0.bias"] = torch.zeros(5)
    state[f"{PREFIX}cross_attn_layers.0.attn.v_linear.bias"] = torch.zeros(3)
    state["temporal_aggregator.output_norm.bias"] = torch.zeros(7)
    assert refusal(state) == (
        "These weights are no PAVE patch, 5 keys differ:\n"
        f"  unknown: {PREFIX}start_end_tokens\n"
        f"  twice: {PREFIX}output_norm.bias\n"
        "  missing: cross_attn_layers.1.ffn.3.weight\n"
        "  shape: output_mapping.0.bias is (5,), the others need (32,)\n"
        f"  shape: {PREFIX}cross_attn_layers.0.attn.v_linear.bias is (3,), the key projection is (16,)\n" + END
    )


def test_without_the_weights_that_tell_the_widths_those_are_named() -> None:
    assert refusal({}) == (
        "These weights are no PAVE patch, 3 keys differ:\n"
        "  missing: output_norm.weight\n"
        "  missing: query_input_mapping.weight\n"
        "  missing: input_mapping.weight\n" + END
    )
    state = released("learnable")
    state[f"{PREFIX}learnable_query"] = torch.zeros(3, 4)
    assert refusal(state) == (
        "These weights are no PAVE patch, 1 keys differ:\n  shape: learnable_query is (3, 4)\n" + END
    )


def test_strides_are_one_per_stage() -> None:
    assert refusal(released("convolutions"), conv_strides=[1]) == (
        "These weights are no PAVE patch, 1 keys differ:\n"
        "  stages: conv_strides has 1 numbers, the weights have 2 stages\n" + END
    )


def test_a_patch_with_values_of_its_own_cannot_be_exported() -> None:
    with pytest.raises(CheckpointError) as caught:
        export_released_patch(random_patch())
    assert str(caught.value) == (
        "This patch has value projections of its own. The released code uses the key projection for values. Export a "
        "patch built with shared_value=True."
    )
