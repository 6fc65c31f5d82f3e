"""PAVE from `build` to shared folders, on small video language models of the real format."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from crema_core.api.build import build
from crema_core.api.load import load
from crema_core.api.model import CremaModel
from crema_core.errors import BuildError, CheckpointError
from crema_core.features.feature_cache import prepare_batch
from crema_core.plugins import registry
from crema_core.report.plan import plan
from crema_pave.patch import PavePatch
from crema_pave.side_map import ConvMap
from tests.support.modalities import points_spec, wave_spec
from tests.support.numeric import MODEL_ULPS, assert_close_to_scale
from tests.support.pave_models import CHOICES, randomized, scores_of, side_example
from tests.support.vlm import save_vlm

PAVE = {"name": "pave", "embed_dim": 16, "num_heads": 2}
LORA = {"rank": 2, "alpha": 4, "dropout": 0.0}
VIDEO = {"name": "video", "num_frames": 2}


@pytest.fixture(autouse=True)
def registered() -> None:
    for spec in (wave_spec(), points_spec()):
        registry.register(spec)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vlm(tmp_path_factory.mktemp("video"), "llava_onevision")


def example(name: str, seed: int) -> Tensor:
    if name == "video":
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(0, 256, (2, 3, 40, 40), generator=generator, dtype=torch.uint8)
    return side_example(name, seed)


def scores(model: CremaModel, *names: str, seed: int = 0) -> list[float]:
    return scores_of(model, {name: example(name, seed) for name in names})


def test_patches_that_are_added_change_nothing_until_they_are_trained(folder: Path) -> None:
    model = build([VIDEO], backbone=folder, fusion=PAVE)
    plain = scores(model, "video")
    model.add_modality("wave")
    assert scores(model, "video", "wave") == plain
    randomized(model)
    trained = scores(model, "video", "wave")
    assert trained != plain
    model.add_modality("points")
    assert scores(model, "video", "wave", "points") == trained
    assert scores(model, "video") == plain


@pytest.mark.parametrize("options", [{}, {"queries": "projected", "order": "chained"}, {"queries": "learnable"}])
def test_answers_do_not_depend_on_the_batch(folder: Path, options: dict[str, Any]) -> None:
    model = randomized(build([VIDEO, "wave", "points"], backbone=folder, fusion={**PAVE, **options}))
    subsets = [("video",), ("video", "wave"), ("video", "points"), ("video", "wave", "points")]
    items = [
        {"question": "what ?", "choices": CHOICES, **{name: example(name, row) for name in names}}
        for row, names in enumerate(subsets)
    ]
    together = [list(answer.scores.values()) for answer in model.answer_many(items)]
    alone = [list(model.answer(**item).scores.values()) for item in items]
    assert_close_to_scale(torch.tensor(together), torch.tensor(alone), ulps=MODEL_ULPS)


def test_a_model_with_patches_and_lora_comes_back_from_its_folder(folder: Path, tmp_path: Path) -> None:
    options = {**PAVE, "queries": "projected", "order": "chained", "newlines": "one_token"}
    model = randomized(build([VIDEO, "wave", "points"], backbone=folder, fusion=options, tuning=LORA))
    model.save_pretrained(tmp_path / "saved")
    again = load(tmp_path / "saved")
    assert scores(again, "video", "wave", "points") == scores(model, "video", "wave", "points")


def test_a_model_saved_before_the_strategy_was_a_package_loads(folder: Path, tmp_path: Path) -> None:
    model = randomized(build([VIDEO, "wave"], backbone=folder, fusion=PAVE))
    model.save_pretrained(tmp_path / "saved")
    file = tmp_path / "saved" / "crema.json"
    config = json.loads(file.read_text())
    assert config["fusion"] == PAVE
    # What the modality of video recorded while it had the options of several encoders itself.
    config["modalities"][0]["options"] |= {"encoders": None, "encoder_frames": "middle", "encoders_at_once": True}
    file.write_text(json.dumps(config))
    assert scores(load(tmp_path / "saved"), "video", "wave") == scores(model, "video", "wave")


def test_side_features_may_pass_convolutions(folder: Path, tmp_path: Path) -> None:
    options = {**PAVE, "side_map": "conv", "embed_dim": 16, "conv_stages": [[16, 4, 1, 1]]}
    model = randomized(build([VIDEO, "wave"], backbone=folder, fusion=options))
    patch = model.fusion.blocks["wave"]
    assert isinstance(patch, PavePatch)
    assert isinstance(patch.side_map, ConvMap)
    source = torch.randn(5, 4, 10, generator=torch.Generator().manual_seed(1))  # four tokens make a square

    def asked(own: CremaModel, wave: Tensor) -> list[float]:
        return scores_of(own, {"video": example("video", 0), "wave": wave})

    model.save_pretrained(tmp_path / "saved")
    assert asked(load(tmp_path / "saved"), source) == asked(model, source)
    assert asked(model, source) != asked(model, source.flip(1))


def test_a_patch_is_shared_as_an_adapter_and_joins_another_model(folder: Path, tmp_path: Path) -> None:
    first = randomized(build([VIDEO, "wave"], backbone=folder, fusion=PAVE))
    first.save_adapter("wave", tmp_path / "wave")
    second = build([VIDEO, "points"], backbone=folder, fusion=PAVE)
    plain = scores(second, "video", "points")
    second.load_adapter(tmp_path / "wave")
    assert scores(second, "video", "wave") == scores(first, "video", "wave")
    assert scores(second, "video", "points") == plain


@pytest.mark.slow
def test_a_patch_of_other_sizes_is_refused_and_nothing_is_changed(folder: Path, tmp_path: Path) -> None:
    wide = build([VIDEO, "wave"], backbone=folder, fusion={**PAVE, "embed_dim": 24})
    wide.save_adapter("wave", tmp_path / "wave")
    for names in ([VIDEO], [VIDEO, "points"]):
        model = build(names, backbone=folder, fusion=PAVE)
        before, config = model.adapter_state_dict(), copy.deepcopy(model.config)
        plain = scores(model, "video")
        with pytest.raises(CheckpointError, match=r"do not fit this model, \d+ differ:") as caught:
            model.load_adapter(tmp_path / "wave")
        lines = str(caught.value).splitlines()
        assert lines[1].startswith("  shape: fusion.blocks.wave.")
        assert lines[-1] == (
            "Keys and shapes must agree exactly. Build the model with the settings it was saved with. Nothing was "
            "changed."
        )
        assert (model.config, model.names, model.fusion.supporting) == (config, tuple(build_names(names)), names[1:])
        after = model.adapter_state_dict()
        assert after.keys() == before.keys()
        assert all(torch.equal(after[key], value) for key, value in before.items())
        assert scores(model, "video") == plain


def test_views_of_a_scan_are_a_side_channel_and_every_frame_reads_its_own(folder: Path) -> None:
    """As the paper's 3D channel: four views for two frames, so the second half of the scan is the second frame's."""
    views = {"name": "pointcloud", "encoder": "views", "feature_dim": 8, "num_views": 4}
    model = randomized(build([VIDEO, views], backbone=folder, fusion={**PAVE, "newlines": "none"}))
    generator = torch.Generator().manual_seed(1)
    scan = {
        "depth": 1 + torch.rand(4, 6, 6, generator=generator),
        "intrinsics": torch.tensor([[6.0, 0, 2.5], [0, 6.0, 2.5], [0, 0, 1]]),
        "poses": torch.eye(4).repeat(4, 1, 1),
        "features": torch.randn(4, 3, 3, 8, generator=generator),
    }
    other = {**scan, "features": torch.cat([scan["features"][:2], -scan["features"][2:]])}
    embeds = []
    for source in (scan, other):
        features = model.encode(prepare_batch(model, [{"video": example("video", 0), "pointcloud": source}]))
        embeds.append(model.prompt(model.tokens(features, ["what ?"]), ["what ?"]).embeds[0])
    changed = (embeds[0] != embeds[1]).any(-1).nonzero().flatten().tolist()
    per_frame = model.fusion.num_queries
    plain = model.encode(prepare_batch(model, [{"video": example("video", 0)}]))
    alone = model.prompt(model.tokens(plain, ["what ?"]), ["what ?"]).embeds[0]
    updated = (embeds[0] != alone).any(-1).nonzero().flatten().tolist()
    assert updated == list(range(updated[0], updated[0] + 2 * per_frame))
    assert changed == updated[per_frame:]


def build_names(modalities: list[Any]) -> list[str]:
    return [own if isinstance(own, str) else own["name"] for own in modalities]


@pytest.mark.slow
def test_description_and_plan_count_patches_and_lora(folder: Path) -> None:
    model = build([VIDEO, "wave"], backbone=folder, fusion=PAVE, tuning=LORA)
    row = {component.name: component for component in model.describe().components}
    patch = sum(parameter.numel() for parameter in model.fusion_parameters(["wave"]).values())
    lora = sum(parameter.numel() for parameter in model.language_parameters().values())
    assert (row["fusion"].trainable, row["language model"].trainable, row["wave"].trainable) == (patch, lora, 0)
    assert row["fusion"].gflops > 0
    rows = plan(model, batch_size=2, joint=True).rows
    assert rows["weights: adapters and fusion"] == 4 * patch
    assert rows["weights: trained of the language model"] == 4 * lora
    assert rows["optimizer state"] == 8 * (patch + lora)
    assert rows["gradients"] == 4 * (patch + lora)


@pytest.mark.parametrize("name", ["pave-llava_onevision", "pave-qwen2_5_vl"])
def test_a_model_saved_with_a_driver_that_is_gone_is_refused_by_name(folder: Path, tmp_path: Path, name: str) -> None:
    build([VIDEO], backbone=folder, fusion=PAVE).save_pretrained(tmp_path / "saved")
    file = tmp_path / "saved" / "crema.json"
    config = json.loads(file.read_text())
    config["parts"]["backbone"] = {"name": name, "distribution": "crema-pave", "version": "0.1.0"}
    file.write_text(json.dumps(config))
    with pytest.raises(BuildError) as caught:
        load(tmp_path / "saved")
    assert (
        f"needs the backbone family '{name}' of crema-pave 0.1.0, and the crema-pave that is installed has none of "
        "this name: what it computed, nothing here does. Install crema-pave as it was then to use this model, or build "
        "and train it anew."
    ) in str(caught.value)
