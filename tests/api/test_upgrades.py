"""What happens to saved models and adapters when a foreign package is upgraded, renames options, or is gone."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from crema_core.api.build import build
from crema_core.api.load import load
from crema_core.api.model import CremaModel
from crema_core.errors import (
    BuildError,
    CheckpointError,
    ModalityWarning,
    OptionsError,
    PluginVersionWarning,
    UnknownModalityError,
)
from crema_core.plugins import registry
from crema_core.saving.bundle import init_from
from crema_core.train.fit import fit
from tests.support.modalities import frames_spec, points_spec
from tests.support.releases import Upgrade, upgrade

__all__ = ["upgrade"]

SWEEPS = torch.linspace(0, 30, 54).view(6, 9)


@pytest.fixture(autouse=True)
def registered() -> None:
    registry.register(frames_spec("main"))
    registry.register(points_spec())


def lidar_model(backbone: Path, *others: str, **lidar: Any) -> CremaModel:
    """A model whose trainable weights are nothing like their start."""
    model = build(["main", {"name": "lidar9", "sweeps": 3, **lidar}, *others], backbone=backbone)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.trainable_parameters().values():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


@pytest.fixture
def saved(upgrade: Upgrade, t5_folder: Path, tmp_path: Path) -> Path:
    """A model with `lidar9`, saved by crema-dummy-lidar 0.1.0."""
    upgrade("first")
    lidar_model(t5_folder).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def adapter(upgrade: Upgrade, t5_folder: Path, tmp_path: Path) -> Path:
    """The adapter of `lidar9` alone, saved by crema-dummy-lidar 0.1.0."""
    upgrade("first")
    lidar_model(t5_folder).save_adapter("lidar9", tmp_path / "adapter")
    return tmp_path / "adapter"


def scores(model: CremaModel, **sources: Any) -> list[float]:
    frames = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(7))
    return list(model.answer("what color ?", ["red", "blue"], main=frames, **sources).scores.values())


def other_model(backbone: Path) -> CremaModel:
    return build(["main"], backbone=backbone)


# Features.


def test_equal_features_of_a_new_version_load_without_a_word(upgrade: Upgrade, saved: Path, adapter: Path) -> None:
    upgrade("equal")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = load(saved)
        model.load_adapter(adapter)
    assert model.branch("lidar9").provenance.version == "0.2.0"


CHANGED = (
    r"^'{place}': crema-dummy-lidar 0\.1\.0 -> 0\.2\.0: features of 'lidar9' differ by \d+\.\d%\. What was trained "
    r"reads other numbers here than it learned from\. Install what it was trained with: pip install crema-dummy-lidar"
    r"==0\.1\.0; or train again, or pass check_features=False where the change is known to be harmless\."
)


def changed(place: Path) -> str:
    return CHANGED.format(place=re.escape(str(place)))


@pytest.mark.slow
def test_a_changed_encode_is_a_warning_that_names_both_versions(
    upgrade: Upgrade, saved: Path, adapter: Path, t5_folder: Path
) -> None:
    upgrade("encode")
    with pytest.warns(ModalityWarning, match=changed(saved)) as caught:
        model = load(saved)
    assert caught[0].filename == __file__
    with pytest.warns(ModalityWarning, match=changed(adapter)) as caught:  # a modality the model has
        model.load_adapter(adapter)
    with pytest.warns(ModalityWarning, match=changed(adapter)):  # and one that is added
        other_model(t5_folder).load_adapter(adapter)
    with pytest.warns(ModalityWarning, match=changed(saved)):
        init_from(lidar_model(t5_folder), saved)


@pytest.mark.slow
def test_a_changed_encode_is_an_error_in_strict_mode_and_changes_nothing(
    upgrade: Upgrade, saved: Path, adapter: Path, t5_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade("encode")
    monkeypatch.setenv("CREMA_PLUGINS_STRICT", "1")
    strict = r".* It is an error because of CREMA_PLUGINS_STRICT=1\. Nothing was changed\.$"
    with pytest.raises(CheckpointError, match=changed(saved) + strict):
        load(saved)
    for model in (other_model(t5_folder), lidar_model(t5_folder)):
        names, before = model.names, model.adapter_state_dict()
        with pytest.raises(CheckpointError, match=changed(adapter) + strict):
            model.load_adapter(adapter)
        assert model.names == names
        assert all(torch.equal(value, before[key]) for key, value in model.adapter_state_dict().items())
    load(saved, check_features=False)


@pytest.mark.slow
def test_the_comparison_can_be_left_out(upgrade: Upgrade, saved: Path, adapter: Path, t5_folder: Path) -> None:
    upgrade("encode")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(saved, check_features=False)
        other_model(t5_folder).load_adapter(adapter, check_features=False)


@pytest.mark.slow
def test_a_model_that_is_saved_again_keeps_the_fingerprint_it_was_trained_with_until_it_is_trained(
    upgrade: Upgrade, saved: Path, tmp_path: Path
) -> None:
    """Otherwise the second loading would find nothing, and the first release would be what differs."""
    upgrade("encode")
    again, trained = tmp_path / "again", tmp_path / "trained"
    with pytest.warns(ModalityWarning, match=changed(saved)):
        model = load(saved)
    model.save_pretrained(again)
    with pytest.warns(ModalityWarning, match=changed(again)):
        model = load(again)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        upgrade("first")
        load(again)
        upgrade("encode")
    np.save(tmp_path / "0.npy", SWEEPS.numpy())
    (tmp_path / "data.jsonl").write_text('{"id": "0", "question": "what ?", "answer": "red", "lidar9": "0.npy"}\n')
    fit(model, tmp_path / "data.jsonl", preset="tiny", epochs=1, modalities=["lidar9"], out=tmp_path / "run")
    model.save_pretrained(trained)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(trained)


def test_code_that_changed_without_a_new_version_is_found_too(
    upgrade: Upgrade, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = saved / "lidar9" / "adapter.json"
    upgrade("encode")
    config.write_text(config.read_text().replace('"version": "0.1.0"', '"version": "0.2.0"'))
    with pytest.warns(ModalityWarning, match=r"crema-dummy-lidar 0\.2\.0, changed without a new version: features of"):
        load(saved)


def test_another_number_of_steps_is_named(upgrade: Upgrade, saved: Path) -> None:
    upgrade("shape")
    with pytest.warns(ModalityWarning, match=r"features of 'lidar9' differ in shape: 1x3x1x9 -> 1x1x1x9"):
        load(saved)


def test_folders_without_a_fingerprint_load_without_a_word(upgrade: Upgrade, saved: Path) -> None:
    for file in saved.rglob("adapter.json"):
        described = json.loads(file.read_text())
        del described["features"]
        file.write_text(json.dumps(described))
    upgrade("encode")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(saved)


def test_an_example_that_fails_loses_no_model_and_is_said(upgrade: Upgrade, t5_folder: Path, tmp_path: Path) -> None:
    upgrade("broken_example")
    model = lidar_model(t5_folder)
    with pytest.warns(
        ModalityWarning, match="'lidar9' are saved without a fingerprint.* fails with MediaError: Sweeps are"
    ):
        model.save_pretrained(tmp_path / "model")
    assert scores(load(tmp_path / "model"), lidar9=SWEEPS) == scores(model, lidar9=SWEEPS)


def test_an_example_that_fails_since_the_upgrade_is_said(upgrade: Upgrade, saved: Path) -> None:
    upgrade("broken_example")
    with pytest.warns(
        ModalityWarning, match=r"cannot be compared, its example fails \(MediaError: Sweeps are \(T, 9\)\)"
    ):
        load(saved)


@pytest.mark.slow
def test_features_of_another_width_are_refused_with_both_versions(
    upgrade: Upgrade, saved: Path, adapter: Path, t5_folder: Path
) -> None:
    upgrade("wide")
    text = (
        "'{place}': crema-dummy-lidar 0.1.0 -> 0.2.0: features of 'lidar9' are 8 wide, the saved adapter was trained "
        "on 9. An adapter fits one width. Install what it was trained with: pip install crema-dummy-lidar==0.1.0, or "
        "train the modality again. Nothing was changed."
    )
    with pytest.raises(CheckpointError) as caught:
        load(saved)
    assert str(caught.value) == text.format(place=saved)
    for model in (other_model(t5_folder), lidar_model(t5_folder)):
        names = model.names
        with pytest.raises(CheckpointError) as caught:
            model.load_adapter(adapter)
        assert str(caught.value) == text.format(place=adapter)
        assert model.names == names


@pytest.mark.slow
def test_without_a_recorded_width_other_sizes_name_the_versions_too(upgrade: Upgrade, saved: Path) -> None:
    file = saved / "lidar9" / "adapter.json"
    described = json.loads(file.read_text())
    del described["features"]
    file.write_text(json.dumps(described))
    upgrade("wide")
    with pytest.raises(CheckpointError) as caught:
        load(saved)
    assert str(caught.value).endswith(
        f"Since '{saved}' was saved its packages changed: crema-dummy-lidar 0.1.0 -> 0.2.0 (lidar9). Install what it "
        "was trained with: pip install crema-dummy-lidar==0.1.0."
    )


# Options.


def test_a_renamed_option_without_a_migration_names_both_versions_and_what_to_type(
    upgrade: Upgrade, saved: Path, adapter: Path, t5_folder: Path
) -> None:
    upgrade("renamed")
    text = (
        "'{place}': crema-dummy-lidar 0.1.0 -> 0.2.0: the options of 'lidar9' that were saved are not those of the "
        "installed package.\nlidar9: unknown option 'sweeps'. Accepted: num_sweeps. Did you mean 'num_sweeps'?\nSaved: "
        "sweeps=3. Install what it was trained with: pip install crema-dummy-lidar==0.1.0, or say what they are today: "
    )
    with pytest.raises(BuildError) as caught:
        load(saved)
    assert str(caught.value) == text.format(place=saved) + "load(..., options={'lidar9': {...}})"
    model = other_model(t5_folder)
    with pytest.raises(BuildError) as caught:
        model.load_adapter(adapter)
    assert str(caught.value) == text.format(place=adapter) + "load_adapter(..., options={...})"
    assert model.names == ("main",)


@pytest.mark.slow
def test_users_say_what_a_renamed_option_is_today(
    upgrade: Upgrade, saved: Path, adapter: Path, t5_folder: Path
) -> None:
    before = scores(load(saved), lidar9=SWEEPS)
    upgrade("renamed")
    left_out = "does not know the saved options sweeps=3 of 'lidar9'. They are left out"
    with pytest.warns(PluginVersionWarning, match=left_out):
        model = load(saved, options={"lidar9": {"num_sweeps": 3}})
    assert scores(model, lidar9=SWEEPS) == before
    with pytest.warns() as caught:
        load(saved, options={"lidar9": {"num_sweeps": 2}})
    assert [warning.category for warning in caught] == [PluginVersionWarning, ModalityWarning]
    other = other_model(t5_folder)
    with pytest.warns(PluginVersionWarning, match=left_out):
        other.load_adapter(adapter, options={"num_sweeps": 3})
    assert other.branch("lidar9").modality.options == model.branch("lidar9").modality.options
    ours, theirs = other.adapter_parameters("lidar9"), model.adapter_parameters("lidar9")
    assert all(torch.equal(own, theirs[key]) for key, own in ours.items())


def test_a_tightened_option_is_given_anew(upgrade: Upgrade, saved: Path) -> None:
    upgrade("tightened")
    with pytest.raises(BuildError, match=r"lidar9\.sweeps: input should be less than or equal to 2, got 3\."):
        load(saved)
    with pytest.warns(ModalityWarning, match="differ in shape"):
        model = load(saved, options={"lidar9": {"sweeps": 2}})
    assert model.branch("lidar9").modality.options.model_dump() == {"sweeps": 2}


def test_options_of_today_may_be_wrong_too(upgrade: Upgrade, saved: Path, adapter: Path, t5_folder: Path) -> None:
    upgrade("renamed")
    with pytest.raises(BuildError, match="unknown option 'num_sweep'\\. Accepted: num_sweeps\\."):
        load(saved, options={"lidar9": {"num_sweep": 3}})
    with pytest.raises(OptionsError, match=r"options names 'lidar', which .* does not have.* Did you mean 'lidar9'\?"):
        load(saved, options={"lidar": {"num_sweeps": 3}})
    with pytest.raises(OptionsError, match="options came for 'lidar9', which the model has with options of its own"):
        build(["main", "lidar9"], backbone=t5_folder).load_adapter(adapter, options={"num_sweeps": 3})


@pytest.mark.slow
def test_a_migration_reads_the_options_of_the_version_before(
    upgrade: Upgrade, saved: Path, adapter: Path, t5_folder: Path, tmp_path: Path
) -> None:
    before = scores(load(saved), lidar9=SWEEPS)
    upgrade("migrated")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = load(saved)
        other = other_model(t5_folder)
        other.load_adapter(adapter)
    assert scores(model, lidar9=SWEEPS) == before
    for own in (model, other):
        assert own.branch("lidar9").modality.options.model_dump() == {"num_sweeps": 3}
    model.save_pretrained(tmp_path / "again")
    entry = json.loads((tmp_path / "again" / "crema.json").read_text())["modalities"][1]
    assert (entry["version"], entry["options"], entry["options_version"]) == ("0.2.0", {"num_sweeps": 3}, 2)
    assert scores(load(tmp_path / "again"), lidar9=SWEEPS) == before


def test_options_of_a_later_version_ask_for_the_upgrade(upgrade: Upgrade, saved: Path, tmp_path: Path) -> None:
    upgrade("migrated")
    load(saved).save_pretrained(tmp_path / "again")
    upgrade("first")
    with pytest.raises(BuildError) as caught:
        load(tmp_path / "again")
    assert str(caught.value) == (
        f"'{tmp_path / 'again'}': 'lidar9' was saved with crema-dummy-lidar 0.2.0, whose options are of version 2. "
        "crema-dummy-lidar 0.1.0 is here, which reads versions up to 1. Run: pip install -U 'crema-dummy-lidar>=0.2.0'"
    )


def test_a_migration_that_fails_names_its_package(upgrade: Upgrade, saved: Path) -> None:
    upgrade("failing_migration")
    with pytest.raises(BuildError) as caught:
        load(saved)
    failed, advice = map(str, caught.value.problems)
    assert advice.startswith(f"Or leave '{saved}' as it is and open it without: ")
    assert failed == (
        "'lidar9' (crema-dummy-lidar 0.2.0): migrate_options failed with KeyError: 'swoops' for the options sweeps=3 "
        "of version 1. It takes any of that version's, and may be given some of them alone. Tell the authors."
    )


# Absent packages.


def test_a_missing_package_is_named_with_what_installs_it(
    upgrade: Upgrade, saved: Path, adapter: Path, t5_folder: Path
) -> None:
    upgrade(None)
    with pytest.raises(BuildError) as caught:
        load(saved)
    unknown, package = map(str, caught.value.problems)
    assert unknown.startswith("'lidar9' is not an installed modality. Installed: ")
    assert package == (
        f"'{saved}' was saved with: crema-dummy-lidar 0.1.0. Run: pip install crema-dummy-lidar, or open it without: "
        "load(..., without=['lidar9']), or --without lidar9 in a command"
    )
    model = other_model(t5_folder)
    with pytest.raises(BuildError) as caught:
        model.load_adapter(adapter)
    unknown, package = map(str, caught.value.problems)
    assert unknown.startswith("'lidar9' is not an installed modality.")
    assert package == f"'{adapter}' was saved with: crema-dummy-lidar 0.1.0. Run: pip install crema-dummy-lidar"


def test_a_package_that_provides_another_name_now_is_named_with_the_version_to_install(
    upgrade: Upgrade, saved: Path, adapter: Path, t5_folder: Path
) -> None:
    upgrade("other_name")
    text = (
        "was saved with: crema-dummy-lidar 0.1.0. Installed is crema-dummy-lidar 0.2.0, which provides: lidar_nine. "
        "Run: pip install crema-dummy-lidar==0.1.0"
    )
    with pytest.raises(BuildError) as caught:
        load(saved)
    assert str(caught.value.problems[1]).startswith(f"'{saved}' {text}, or open it without: ")
    with pytest.raises(BuildError) as caught:
        other_model(t5_folder).load_adapter(adapter)
    assert str(caught.value.problems[1]) == f"'{adapter}' {text}"


def test_where_a_package_is_broken_the_model_is_said_to_open_without_it(upgrade: Upgrade, saved: Path) -> None:
    upgrade("broken_import")
    with pytest.raises(BuildError) as caught:
        load(saved)
    broken, advice = map(str, caught.value.problems)
    assert broken.startswith("'lidar9' (crema-dummy-lidar 0.2.0) could not be imported from ")
    assert advice == (
        f"Or leave '{saved}' as it is and open it without: load(..., without=['lidar9']), or --without lidar9 in a "
        "command"
    )
    with pytest.warns(ModalityWarning, match="is opened without 'lidar9'"):
        load(saved, without=["lidar9"])


@pytest.mark.parametrize("fusion", ["self_gated", "linear", "mixture", "concat", "cross_attention"])
def test_without_a_modality_a_model_answers_as_from_samples_that_lack_it(
    upgrade: Upgrade, t5_folder: Path, tmp_path: Path, fusion: str
) -> None:
    upgrade("first")
    whole = build(["main", "lidar9", "points"], backbone=t5_folder, fusion=fusion)
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in whole.trainable_parameters().values():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    whole.save_pretrained(tmp_path / "model")
    upgrade(None)
    with pytest.warns(
        ModalityWarning, match=r"is opened without 'lidar9' \(crema-dummy-lidar 0\.1\.0\).* from main, points"
    ):
        model = load(tmp_path / "model", without=["lidar9"])
    points = torch.rand(5, 6)
    assert scores(model) == scores(whole)
    assert scores(model, points=points) == scores(whole, points=points)
    with pytest.raises(UnknownModalityError) as caught:
        scores(model, lidar9=SWEEPS)
    assert str(caught.value) == (
        "This model was opened without 'lidar9'. It answers from: main, points. Leave its sources out, or install "
        "crema-dummy-lidar and load the model whole."
    )


@pytest.mark.slow
@pytest.mark.parametrize("others", [(), ("points",)])
def test_what_a_model_was_opened_without_is_saved_again_unchanged(
    upgrade: Upgrade, t5_folder: Path, tmp_path: Path, others: tuple[str, ...]
) -> None:
    upgrade("first")
    whole = lidar_model(t5_folder, *others)
    whole.save_pretrained(tmp_path / "model")
    before = scores(whole, lidar9=SWEEPS)
    upgrade(None)
    for place, target in (("model", "second"), ("second", "third")):
        with pytest.warns(ModalityWarning, match="is opened without 'lidar9'"):
            load(tmp_path / place, without=["lidar9"]).save_pretrained(tmp_path / target)
    upgrade("first")
    again = load(tmp_path / "third")
    assert again.names == whole.names
    ours, theirs = again.adapter_state_dict(), whole.adapter_state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(own, theirs[key]) for key, own in ours.items())
    assert scores(again, lidar9=SWEEPS) == before


def test_what_a_model_was_opened_without_is_not_replaced(upgrade: Upgrade, saved: Path, adapter: Path) -> None:
    with pytest.warns(ModalityWarning, match="is opened without"):
        model = load(saved, without=["lidar9"])
    for add in (
        lambda: model.add_modality("lidar9"),
        lambda: model.load_adapter(adapter),
        lambda: model.add_modality("points"),
    ):
        with pytest.raises(BuildError, match=r"was opened without lidar9, and a new '.*' would take the place of"):
            add()
    assert model.names == ("main",)


def test_names_a_model_cannot_be_without_are_refused(saved: Path) -> None:
    for without, text in (
        (["lidar"], r"without names 'lidar', which .* does not have\. It has: main, lidar9\. Did you mean 'lidar9'\?"),
        (["main"], r"'main' is the major modality of .* Accepted: lidar9\. Install its package\."),
        ("lidar9", r"without='lidar9' is one name\. Accepted: a list of names\. Write without=\['lidar9'\]\."),
    ):
        with pytest.raises(OptionsError, match=text):
            load(saved, without=without)


@pytest.mark.slow
def test_a_vision_language_model_names_in_its_prompt_what_it_was_opened_without(
    upgrade: Upgrade, tmp_path: Path
) -> None:
    upgrade("first")
    modalities: list[Any] = [{"name": "video", "num_frames": 2}, "lidar9", "points"]
    whole = build(modalities, backbone="crema-tiny-vlm", qformer={"layers": 1, "width": 64})
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in whole.trainable_parameters().values():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    whole.save_pretrained(tmp_path / "model")
    clip = torch.randint(0, 255, (2, 3, 32, 32), dtype=torch.uint8)
    sources = {"video": clip, "points": torch.rand(5, 6)}
    with pytest.raises(CheckpointError) as caught:  # the points pass the Q-Former that came with the first of both
        load(tmp_path / "model", without=["lidar9"])
    assert str(caught.value) == (
        f"'{tmp_path / 'model'}' cannot be opened without 'lidar9': the Q-Former that points pass was trained with it. "
        "Accepted: without any of them. Install crema-dummy-lidar, or pass without=['lidar9', 'points']. Nothing was "
        "changed."
    )
    with pytest.warns(
        ModalityWarning, match=r"without 'lidar9' \(crema-dummy-lidar 0\.1\.0\), 'points' \(a spec given"
    ):
        load(tmp_path / "model", without=["points", "lidar9"])
    again = build([modalities[0], "points", "lidar9"], backbone="crema-tiny-vlm", qformer={"layers": 1, "width": 64})
    again.save_pretrained(tmp_path / "other")
    upgrade(None)
    with pytest.warns(ModalityWarning, match="is opened without 'lidar9'"):
        model = load(tmp_path / "other", without=["lidar9"])
    answers = [own.answer("what ?", ["red", "blue"], **sources).scores for own in (model, again)]
    assert answers[0] == answers[1]
    assert model._prefixes()["video"] == again._prefixes()["video"] == "Points, Lidar: "
