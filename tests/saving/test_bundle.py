"""Save, load, share; whatever cannot be used fails with its message and changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from crema_core.api.build import build
from crema_core.api.load import load
from crema_core.api.model import CremaModel
from crema_core.common.atomic import MARKER, new_folder, write_text
from crema_core.errors import BuildError, CheckpointError
from crema_core.plugins import registry
from crema_core.saving.bundle import read_model_config, read_state
from tests.support.backbones import save_random_blip2
from tests.support.modalities import four_modalities, frames_spec, points_spec, touch_specs, wave_spec

CHOICES = ["red", "blue"]


@pytest.fixture
def registered() -> None:
    for spec in four_modalities():
        registry.register(spec)


@pytest.fixture
def trained(model: CremaModel, registered: None) -> CremaModel:
    """A model whose trainable weights are nothing like their start."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.trainable_parameters().values():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def scores(model: CremaModel, *names: str) -> list[float]:
    generator = torch.Generator().manual_seed(7)
    sources = {name: model.branch(name).modality.example(generator) for name in names or model.names}
    return list(model.answer("what color ?", CHOICES, **sources).scores.values())


def test_a_saved_model_loads_to_identical_outputs(trained: CremaModel, tmp_path: Path) -> None:
    trained.save_pretrained(tmp_path / "saved")
    assert scores(load(tmp_path / "saved")) == scores(trained)


@pytest.mark.slow
def test_start_and_missing_lora_of_an_adapter_are_recorded_and_come_back(
    t5_folder: Path, tmp_path: Path, registered: None
) -> None:
    wave = {"name": "wave", "mmqa": {"lora_rank": 0, "output_start": "zero"}}
    points = {"name": "points", "mmqa": {"lora_rank": 2}}
    model = build(["main", wave, points], backbone=t5_folder, mmqa={"output_start": "fresh"})
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.trainable_parameters().values():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(tmp_path / "model")
    model.save_adapter("wave", tmp_path / "wave")
    loaded = load(tmp_path / "model")
    assert scores(loaded) == scores(model)
    sizes = {entry["name"]: entry["mmqa"] for entry in loaded.config["modalities"]}
    assert {name: own["output_start"] for name, own in sizes.items()} == {
        "main": "auto",
        "wave": "zero",
        "points": "fresh",
    }
    assert (sizes["wave"]["lora_rank"], loaded.lora_parameters("wave")) == (0, {})
    other = build(["main", points], backbone=t5_folder)
    other.load_adapter(tmp_path / "wave")
    assert other.branch("wave").mmqa.lora_rank == 0
    ours, theirs = model.adapter_parameters("wave"), other.adapter_parameters("wave")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(own, theirs[key]) for key, own in ours.items())


def test_a_model_saved_before_the_start_was_recorded_loads(trained: CremaModel, tmp_path: Path) -> None:
    trained.save_pretrained(tmp_path / "model")
    for file in (tmp_path / "model").rglob("*.json"):
        written = json.loads(file.read_text())
        for entry in (written, *written.get("modalities", ())):
            if "mmqa" in entry:
                assert entry["mmqa"].pop("output_start") == "auto"
        file.write_text(json.dumps(written))
    assert scores(load(tmp_path / "model")) == scores(trained)


def test_saving_twice_replaces_the_first_save(trained: CremaModel, tmp_path: Path) -> None:
    trained.save_pretrained(tmp_path / "saved")
    with torch.no_grad():
        trained.branch("wave").adapter.queries.mul_(2)
    trained.save_pretrained(tmp_path / "saved")
    assert scores(load(tmp_path / "saved")) == scores(trained)
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_a_folder_of_the_users_is_never_replaced(trained: CremaModel, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(CheckpointError) as caught:
        trained.save_pretrained(tmp_path)
    assert str(caught.value) == (
        f"'{tmp_path.name}' exists and was not written by this package. Accepted: a new or empty folder, or an "
        "earlier save. Name another folder. Nothing was changed."
    )
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_the_model_config_says_which_package_every_modality_came_from(trained: CremaModel, tmp_path: Path) -> None:
    trained.save_pretrained(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "crema.json").read_text())
    assert [entry["name"] for entry in config["modalities"]] == ["main", "other", "wave", "points"]
    assert set(config["modalities"][0]) == {
        "name",
        "distribution",
        "version",
        "api_version",
        "options",
        "mmqa",
        "prefix",
    }
    assert config["identity"] == trained.backbone.identity()


def test_a_damaged_file_is_refused(trained: CremaModel, tmp_path: Path) -> None:
    trained.save_pretrained(tmp_path / "saved")
    file = tmp_path / "saved" / "wave" / "adapter.safetensors"
    file.write_bytes(file.read_bytes()[:-8] + b"damaged!")
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path / "saved")
    assert str(caught.value) == (
        f"'{file}' is not the file its config describes (another sha256). It was damaged or replaced. Copy the "
        "folder again. Nothing was changed."
    )


def test_an_unfinished_folder_is_refused(trained: CremaModel, tmp_path: Path) -> None:
    trained.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / MARKER).unlink()
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path / "saved")
    assert str(caught.value) == (
        f"'{tmp_path / 'saved'}' is not a completely written saved model (its 'complete' file is missing). Writing was "
        "interrupted, or the folder is something else. Use an earlier save. Nothing was changed."
    )


def test_every_file_of_weights_is_compared_with_its_description(t5_folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "saved"
    build([frames_spec("main"), wave_spec()], backbone=t5_folder, tuning={"rank": 2}).save_pretrained(place)
    config = read_model_config(place)
    files = sorted(place.rglob("*.safetensors"))
    names = ["fusion.safetensors", "language.safetensors", "main/adapter.safetensors", "wave/adapter.safetensors"]
    assert [str(file.relative_to(place)) for file in files] == names
    assert read_state(place, config)
    for file in files:
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # still a file of the same tensors
        with pytest.raises(CheckpointError) as caught:
            read_state(place, config)
        assert str(caught.value).startswith(f"'{file}' is not the file its config describes (another sha256). ")
        file.write_bytes(content)


def test_a_place_without_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path / "nowhere")
    assert str(caught.value) == (
        f"There is no folder '{tmp_path / 'nowhere'}'. A saved model is a folder. Check the path. Nothing was changed."
    )


def test_another_backbone_is_refused(trained: CremaModel, tmp_path: Path) -> None:
    trained.save_pretrained(tmp_path / "saved")
    other = save_random_blip2(tmp_path / "other", seed=9)
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path / "saved", backbone=other)
    assert str(caught.value) == (
        f"'{tmp_path / 'saved'}' was trained on other weights than {str(other)!r} has now. A model fits the backbone "
        "it was trained on. Pass backbone='...' with the original weights. Nothing was changed."
    )


def test_a_model_loads_in_another_precision(trained: CremaModel, tmp_path: Path) -> None:
    trained.save_pretrained(tmp_path / "saved")
    assert load(tmp_path / "saved", precision="bf16").backbone.language_model.dtype == torch.bfloat16


def test_a_missing_package_is_named(trained: CremaModel, tmp_path: Path) -> None:
    trained.save_pretrained(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "crema.json").read_text())
    config["modalities"][2].update(name="sonar", distribution="crema-sonar", version="0.3")
    (tmp_path / "saved" / "crema.json").write_text(json.dumps(config))
    with pytest.raises(BuildError, match=r"'sonar'[\s\S]*was saved with: .*crema-sonar 0\.3"):
        load(tmp_path / "saved")


def test_missing_modalities_and_other_missing_parts_are_named_together(trained: CremaModel, tmp_path: Path) -> None:
    trained.save_pretrained(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "crema.json").read_text())
    config["modalities"][2].update(name="sonar", distribution="crema-sonar", version="0.3")
    config["fusion"]["name"] = "stacked"
    config["parts"]["fusion"] = {"name": "stacked", "distribution": "crema-stacked", "version": "0.4"}
    (tmp_path / "saved" / "crema.json").write_text(json.dumps(config))
    with pytest.raises(BuildError) as caught:
        load(tmp_path / "saved")
    fusion, sonar, saved_with = map(str, caught.value.problems)
    assert fusion == (
        f"'{tmp_path / 'saved'}' needs the fusion 'stacked' of crema-stacked 0.4, which is not installed. Run: pip "
        "install crema-stacked"
    )
    assert sonar.startswith("'sonar' is not an installed modality.")
    assert "crema-sonar 0.3" in saved_with


def test_an_adapter_moves_to_another_model_with_the_same_backbone(
    trained: CremaModel, t5_folder: Path, tmp_path: Path
) -> None:
    trained.save_adapter("wave", tmp_path / "wave")
    fresh = build([frames_spec("main"), wave_spec(), points_spec()], backbone=t5_folder)
    fresh.load_adapter(tmp_path / "wave")
    for key, value in trained.adapter_parameters("wave").items():
        assert torch.equal(value, fresh.adapter_parameters("wave")[key])
    assert torch.equal(trained.fusion.blocks["wave"].weight, fresh.fusion.blocks["wave"].weight)


def test_loading_an_adapter_adds_the_modality_a_model_lacks(
    trained: CremaModel, t5_folder: Path, tmp_path: Path
) -> None:
    trained.save_adapter("wave", tmp_path / "wave")
    fresh = build([frames_spec("main")], backbone=t5_folder)
    fresh.load_adapter(tmp_path / "wave")
    assert fresh.names == ("main", "wave")
    assert torch.equal(trained.branch("wave").adapter.queries, fresh.branch("wave").adapter.queries)


@pytest.mark.parametrize("fusion", ["linear", "mixture", "token_mixture"])
def test_the_fusion_block_of_another_fusion_does_not_come_along(
    trained: CremaModel, t5_folder: Path, tmp_path: Path, fusion: str
) -> None:
    trained.save_adapter("wave", tmp_path / "wave")
    for built in ([frames_spec("main")], [frames_spec("main"), wave_spec()]):
        other = build(built, backbone=t5_folder, fusion=fusion)
        before = {key: value.detach().clone() for key, value in other.fusion_parameters().items()}
        other.load_adapter(tmp_path / "wave")
        for key, value in other.adapter_parameters("wave").items():
            assert torch.equal(value, trained.adapter_parameters("wave")[key])
        after = other.fusion_parameters()
        assert all(torch.equal(value, after[key]) for key, value in before.items())


def test_the_fusion_block_of_the_same_fusion_comes_along(trained: CremaModel, t5_folder: Path, tmp_path: Path) -> None:
    trained.save_adapter("wave", tmp_path / "wave")
    for built in ([frames_spec("main")], [frames_spec("main"), wave_spec()]):
        other = build(built, backbone=t5_folder)
        other.load_adapter(tmp_path / "wave")
        (own,), (theirs,) = (one.fusion_parameters(["wave"]).values() for one in (other, trained))
        assert torch.equal(own, theirs)


@pytest.mark.slow
def test_a_modality_that_was_supporting_loads_as_the_major_one_without_its_block(
    trained: CremaModel, t5_folder: Path, tmp_path: Path
) -> None:
    trained.save_adapter("wave", tmp_path / "wave")
    other = build([wave_spec(), points_spec()], backbone=t5_folder, major="wave")
    other.load_adapter(tmp_path / "wave")
    for key, value in other.adapter_parameters("wave").items():
        assert torch.equal(value, trained.adapter_parameters("wave")[key])


def test_a_model_loads_onto_a_device(trained: CremaModel, tmp_path: Path) -> None:
    trained.save_pretrained(tmp_path / "saved")
    assert load(tmp_path / "saved", device="meta").device.type == "meta"
    assert load(tmp_path / "saved").device.type == "cpu"


def test_modalities_of_which_one_name_begins_the_other_are_saved_apart(t5_folder: Path, tmp_path: Path) -> None:
    for spec in touch_specs():
        registry.register(spec, replace=True)  # an installed package has one of the names
    registry.register(frames_spec("main"))
    model = build(["main", "touch", "touch_left"], backbone=t5_folder)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.trainable_parameters().values():
            parameter.normal_()
    model.save_pretrained(tmp_path / "saved")
    loaded = load(tmp_path / "saved").adapter_state_dict()
    own = model.adapter_state_dict()
    assert loaded.keys() == own.keys()
    assert all(torch.equal(value, own[key]) for key, value in loaded.items())
    model.save_adapter("touch", tmp_path / "touch")
    other = build(["main", "touch", "touch_left"], backbone=t5_folder)
    before = other.adapter_state_dict()
    other.load_adapter(tmp_path / "touch")
    after = other.adapter_state_dict()
    changed = {key for key, value in after.items() if not torch.equal(value, before[key])}
    assert changed == {key for key in own if key.startswith(("modalities.touch.", "fusion.blocks.touch."))}


def test_an_adapter_for_a_wider_language_model_is_refused_and_nothing_changes(
    trained: CremaModel, tmp_path: Path
) -> None:
    trained.save_adapter("wave", tmp_path / "wave")
    wide = save_random_blip2(tmp_path / "wide", width=48)
    model = build([frames_spec("main")], backbone=wide)
    with pytest.raises(CheckpointError) as caught:
        model.load_adapter(tmp_path / "wave")
    source = trained.config["backbone"]["source"]
    assert str(caught.value) == (
        f"Cannot load 'wave' into this model: it was trained for a language model 24 wide, this one is 48 wide. Build "
        f"the model on {source!r}. Nothing was changed."
    )
    assert model.names == ("main",)


def test_a_state_that_does_not_fit_lists_everything_and_changes_nothing(trained: CremaModel) -> None:
    before = trained.adapter_state_dict()
    state = dict(before)
    queries = state.pop("modalities.wave.mmqa.queries")
    state["modalities.wave.mmqa.wrong"] = queries
    state["fusion.bias"] = torch.zeros(3)
    with pytest.raises(CheckpointError) as caught:
        trained.load_adapter_state_dict(state)
    assert str(caught.value) == (
        "The saved tensors do not fit this model, 3 differ:\n"
        "  missing: modalities.wave.mmqa.queries\n"
        "  unknown: modalities.wave.mmqa.wrong\n"
        "  shape: fusion.bias is (3,), the model's is (24,)\n"
        "Keys and shapes must agree exactly. Build the model with the settings it was saved with. Nothing was changed."
    )
    assert all(torch.equal(value, before[key]) for key, value in trained.adapter_state_dict().items())


def test_an_error_while_writing_leaves_the_earlier_save(tmp_path: Path) -> None:
    with new_folder(tmp_path / "place") as folder:
        (folder / "value").write_text("first")

    def fail() -> None:
        with new_folder(tmp_path / "place") as folder:
            (folder / "value").write_text("second")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        fail()
    assert (tmp_path / "place" / "value").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_write_text_replaces_a_file_whole(tmp_path: Path) -> None:
    write_text(tmp_path / "a.json", "one")
    write_text(tmp_path / "a.json", "two")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.json", "two")]
