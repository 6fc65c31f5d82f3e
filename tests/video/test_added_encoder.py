"""A vision encoder another package adds with an entry point."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from torch import Tensor

from crema_core.errors import ContractError, OptionsError, PluginLoadError
from crema_core.plugins import _metadata, groups, registry
from crema_core.plugins._metadata import InstalledEntryPoint
from crema_core.video.vision_encoder import Preprocessing, VisionEncoder, vision_encoder_class, vision_encoder_names


class MeanEncoder(VisionEncoder):
    """One token: the mean colour."""

    name = "mean"
    preprocessing = Preprocessing(4, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    feature_dim = 3
    grid = (1, 1)

    def load(self) -> None:
        """Nothing to load."""

    def forward(self, frames_BTCHW: Tensor) -> Tensor:
        return frames_BTCHW.mean(dim=(-1, -2))[:, :, None]


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module = types.ModuleType("crema_mean")
    monkeypatch.setitem(sys.modules, "crema_mean", module)
    found = _metadata.scan()
    added = InstalledEntryPoint("crema.encoders", "mean", "crema_mean:MeanEncoder", "crema-mean", "1.0")
    monkeypatch.setattr(_metadata, "scan", lambda: (*found, added))
    monkeypatch.setattr(registry, "_outcomes", {})
    return module


def test_an_added_encoder_is_found_by_its_name(package: types.ModuleType) -> None:
    package.MeanEncoder = MeanEncoder
    assert "mean" in vision_encoder_names()
    vision_encoder = vision_encoder_class("mean")()
    frames = vision_encoder.prepare(torch.full((2, 3, 8, 8), 0.25))
    torch.testing.assert_close(vision_encoder(frames[None]), torch.full((1, 2, 1, 3), 0.25))


def test_an_encoder_that_cannot_be_imported_is_named(package: types.ModuleType) -> None:
    with pytest.raises(PluginLoadError) as caught:
        vision_encoder_class("mean")
    assert str(caught.value) == (
        "'mean' (crema-mean 1.0) could not be imported from crema_mean:MeanEncoder: AttributeError: module "
        "'crema_mean' has no attribute 'MeanEncoder'. Repair it: pip install --force-reinstall crema-mean, remove it: "
        "pip uninstall crema-mean, or switch it off: CREMA_PLUGINS_DISABLE=crema-mean"
    )


def test_an_entry_point_that_names_something_else_is_refused(package: types.ModuleType) -> None:
    package.MeanEncoder = dict
    with pytest.raises(ContractError) as caught:
        vision_encoder_class("mean")
    assert str(caught.value) == (
        "'mean' (crema-mean 1.0): crema_mean:MeanEncoder is not a subclass of VisionEncoder. The entry point must name "
        "one. Write: class ...(crema_core.video.vision_encoder.VisionEncoder)"
    )


def test_a_package_switched_off_adds_no_encoder(package: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREMA_PLUGINS_DISABLE", "crema-mean")
    assert "mean" not in vision_encoder_names()


def test_an_encoder_of_a_package_that_is_not_installed_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_metadata, "scan", lambda: ())
    monkeypatch.setattr(groups, "directory", lambda: {"encoder": {"mean": "crema-mean"}})
    with pytest.raises(OptionsError) as caught:
        vision_encoder_class("mean")
    assert str(caught.value) == (
        "'mean' is no vision encoder. Accepted: backbone. 'mean' is provided by crema-mean. Run: pip install crema-mean"
    )
    with pytest.raises(OptionsError) as caught:
        vision_encoder_class("meen")
    assert str(caught.value) == (
        "'meen' is no vision encoder. Accepted: backbone. Did you mean 'mean'? Use one of these, or install the "
        "package that adds it."
    )
