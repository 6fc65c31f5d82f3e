"""Tensors in and out of files, strict both ways."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from crema_core.common.tensors import (
    check_state,
    checksum,
    copy_state,
    mismatches,
    no_room,
    read_released,
    read_tensors,
    write_tensors,
)
from crema_core.errors import CheckpointError, OutOfMemoryError


def parameters() -> dict[str, nn.Parameter]:
    return {name: nn.Parameter(torch.zeros(2, 3)) for name in ("touch.A", "touch_left.A", "norm")}


def test_tensors_come_back_as_they_were(tmp_path: Path) -> None:
    tensors = {
        "turned": torch.arange(6.0).reshape(2, 3).T,
        "trained": torch.ones(2, requires_grad=True),
        "half": torch.ones(2, dtype=torch.bfloat16),
    }
    write_tensors(tmp_path / "a", tensors)
    found = read_tensors(tmp_path / "a", sha256=checksum(tmp_path / "a"))
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor)
        assert found[name].dtype == tensor.dtype
    assert checksum(tmp_path / "a") == hashlib.sha256((tmp_path / "a").read_bytes()).hexdigest()


def test_another_file_than_the_described_one_is_refused(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a", {"one": torch.zeros(1)})
    with pytest.raises(CheckpointError) as caught:
        read_tensors(tmp_path / "a", sha256="0" * 64)
    assert str(caught.value) == (
        f"'{tmp_path / 'a'}' is not the file its config describes (another sha256). It was damaged or replaced. "
        "Copy the folder again. Nothing was changed."
    )
    assert read_tensors(tmp_path / "a").keys() == {"one"}, "without a checksum any content is read"


@pytest.mark.parametrize("sha256", [None, "0" * 64])
def test_a_file_that_is_absent_or_damaged_is_refused(tmp_path: Path, sha256: str | None) -> None:
    with pytest.raises(CheckpointError, match=r"none' cannot be read: .* Nothing was changed\."):
        read_tensors(tmp_path / "none", sha256=sha256)
    (tmp_path / "a").write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match=r"cannot be read|not the file"):
        read_tensors(tmp_path / "a", sha256=sha256)


def test_values_are_copied_into_their_own_parameters() -> None:
    own = parameters()
    state = {name: torch.full((2, 3), float(number)) for number, name in enumerate(own, start=1)}
    kept = dict(own)
    copy_state(own, state)
    assert mismatches(own, state) == []
    for name, value in state.items():
        assert own[name] is kept[name]
        assert torch.equal(own[name], value)
        assert own[name].requires_grad


def test_everything_that_does_not_fit_is_listed_and_nothing_is_copied() -> None:
    own = parameters()
    state = {"touch.A": torch.ones(2, 3), "norm": torch.ones(3, 2), "touch": torch.ones(1)}
    assert mismatches(own, state) == [
        "missing: touch_left.A",
        "unknown: touch",
        "shape: norm is (3, 2), the model's is (2, 3)",
    ]
    for refuse in (check_state, copy_state):
        with pytest.raises(CheckpointError) as caught:
            refuse(own, state)
        assert str(caught.value) == (
            "The saved tensors do not fit this model, 3 differ:\n  missing: touch_left.A\n  unknown: touch\n  "
            "shape: norm is (3, 2), the model's is (2, 3)\nKeys and shapes must agree exactly. Build the model with "
            "the settings it was saved with. Nothing was changed."
        )
    assert all(bool((value == 0).all()) for value in own.values())


@pytest.mark.parametrize("wrapped", [True, False])
def test_torch_files_with_and_without_the_model_entry_are_read(tmp_path: Path, wrapped: bool) -> None:
    state = {"query_tokens_wave": torch.randn(1, 5, 12)}
    torch.save({"model": state, "epoch": 3} if wrapped else state, tmp_path / "released.pth")
    assert torch.equal(read_released(tmp_path / "released.pth")["query_tokens_wave"], state["query_tokens_wave"])


def test_safetensors_files_are_read(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "released.safetensors")
    assert torch.equal(read_released(tmp_path / "released.safetensors")["a"], torch.ones(2))


class _Anything:
    """What a pickle may hold."""


def test_a_file_that_would_execute_code_is_refused(tmp_path: Path) -> None:
    torch.save({"model": _Anything()}, tmp_path / "released.pth")
    with pytest.raises(CheckpointError, match=r"cannot be read: Weights only load failed"):
        read_released(tmp_path / "released.pth")


@pytest.mark.parametrize("content", [[1, 2], {"model": {"a": 3}}], ids=["list", "numbers"])
def test_a_file_without_weights_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "released.pth")
    with pytest.raises(CheckpointError) as caught:
        read_released(tmp_path / "released.pth")
    assert str(caught.value) == (
        f"'{tmp_path / 'released.pth'}' holds no weights. Accepted: a mapping of tensors, or one under the key "
        "'model'. Pass the checkpoint file of the released code."
    )


NO_MEMORY = [
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    OSError(12, "Cannot allocate memory"),
    RuntimeError("std::bad_alloc"),
    torch.OutOfMemoryError("CUDA out of memory."),
]


@pytest.mark.parametrize("error", NO_MEMORY)
@pytest.mark.parametrize("name", ["a.safetensors", "a.pt"])
def test_weights_that_do_not_fit_into_the_memory_are_not_told_to_be_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, name: str
) -> None:
    def fail(*arguments: object, **named: object) -> None:
        raise error

    (tmp_path / name).write_bytes(b"weights")
    monkeypatch.setattr("crema_core.common.tensors.load_file", fail)
    monkeypatch.setattr("torch.load", fail)
    with pytest.raises(OutOfMemoryError) as caught:
        read_released(tmp_path / name)
    assert str(caught.value).startswith(f"The weights of '{tmp_path / name}' do not fit into the memory (")
    assert str(caught.value).endswith("or copy a damaged file again. Nothing was changed.")


def test_what_is_wrong_otherwise_is_no_lack_of_memory() -> None:
    for error in (ValueError("a key"), RuntimeError("shapes"), KeyError("out of memory"), CheckpointError("bad_alloc")):
        assert no_room("model", error) is None
