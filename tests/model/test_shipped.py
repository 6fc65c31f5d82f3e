"""The shipped backbones are found, and their absence is explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from crema_core.errors import CheckpointError
from crema_core.model.shipped import CREMA_TINY, CREMA_TINY_VIDEO, tiny_backbone_path


@pytest.mark.parametrize("name", [CREMA_TINY.name, CREMA_TINY_VIDEO.name])
def test_absent_weights_are_named_with_the_command_that_brings_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (tiny_backbone_path(name) / "model.safetensors").is_file()
    monkeypatch.setattr("crema_core.model.shipped.WEIGHTS", tmp_path)
    with pytest.raises(CheckpointError) as caught:
        tiny_backbone_path(name)
    assert str(caught.value) == (
        f"The tiny backbone is not in {tmp_path / name}. It needs config.json, model.safetensors and the tokenizer "
        "there. Install it again: pip install --force-reinstall --no-deps crema-core"
    )
