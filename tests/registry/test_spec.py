"""Declarations: names that torch can hold, options people can correct, JSON all the way."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from crema_core.errors import OptionsError
from crema_core.plugins import registry
from crema_core.plugins.spec import NAME_PATTERN, RESERVED_NAMES, ModalityOptions, ModalitySpec


class RadarOptions(ModalityOptions):
    """Two options."""

    frames: int = 4
    mode: str = "fast"


def spec(**fields: object) -> ModalitySpec:
    defaults = {"name": "radar", "summary": "Radar.", "factory": "crema_radar.modality:Radar", "encoder": "own"}
    return ModalitySpec(**{**defaults, "prefix": "Radar: ", "options": RadarOptions, **fields})


def test_reserved_names_are_the_attributes_of_the_installed_torch() -> None:
    attributes = {name for kind in (nn.Module, nn.ModuleDict) for name in dir(kind)} | set(vars(nn.Module()))
    assert {name for name in attributes if NAME_PATTERN.match(name)} <= RESERVED_NAMES


@pytest.mark.slow
@given(st.from_regex(NAME_PATTERN, fullmatch=True).filter(lambda name: name not in RESERVED_NAMES))
def test_every_legal_name_can_be_a_child_module(name: str) -> None:
    assert spec(name=name).name == name
    assert list(nn.ModuleDict({name: nn.Identity()}).keys()) == [name]


@pytest.mark.slow
@example("ab\n")  # `$` matches before a final newline
@example("Radar")
@given(st.text(max_size=40).filter(lambda name: not NAME_PATTERN.fullmatch(name)))
def test_no_other_name_is_accepted(name: str) -> None:
    with pytest.raises(ValidationError):
        spec(name=name)


@pytest.mark.parametrize("name", ["train", "keys", "to", "text", "id"])
def test_reserved_name(name: str) -> None:
    with pytest.raises(ValidationError) as caught:
        spec(name=name)
    assert caught.value.errors()[0]["msg"] == (
        f"Value error, '{name}' is reserved (an attribute of torch modules or a field of the model config). Rename it."
    )


def test_factory_that_names_no_class() -> None:
    with pytest.raises(ValidationError) as caught:
        spec(factory="crema_radar.modality")
    assert caught.value.errors()[0]["msg"] == (
        "Value error, 'crema_radar.modality' does not name a class. Write 'package.module:Class', for example "
        "'crema_radar.modality:RadarModality'."
    )


def test_all_faults_of_options_are_in_one_message() -> None:
    with pytest.raises(OptionsError) as caught:
        spec().parse_options({"frames": "many", "mod": "slow"})
    assert str(caught.value) == (
        "radar.frames: input should be a valid integer, unable to parse string as an integer, got 'many'. "
        "Give another value, for example the default.\n"
        "radar: unknown option 'mod'. Accepted: frames, mode. Did you mean 'mode'?"
    )


def test_options_of_the_right_class_are_taken_as_they_are() -> None:
    options = RadarOptions(frames=9)
    assert spec().parse_options(options) is options
    assert spec().parse_options(None) == RadarOptions()


def test_specs_are_frozen_and_pickle() -> None:
    with pytest.raises(ValidationError):
        spec().name = "other"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(spec())) == spec()


@pytest.mark.parametrize("name", registry.installed_names())
def test_every_installed_modality_describes_itself_as_json(name: str) -> None:
    facts = registry.describe(name)
    assert json.loads(json.dumps(facts)) == facts
    fields = facts["options"].get("properties", {})
    assert all(field.get("description") for field in fields.values())


def keep(options: dict[str, object], version: int) -> dict[str, object]:
    return options


@pytest.mark.parametrize(
    ("fields", "state"), [({"options_version": 2}, "2 and migrate_options is missing"),
                          ({"migrate_options": keep}, "1 and migrate_options is given")],
)  # fmt: skip
def test_a_later_version_of_options_says_how_earlier_ones_are_read(fields: dict[str, object], state: str) -> None:
    with pytest.raises(ValidationError) as caught:
        spec(**fields)
    assert caught.value.errors()[0]["msg"] == (
        f"Value error, options_version is {state}. Version 1 has nothing to migrate from, every later one has. Give "
        "both, or neither."
    )


def test_a_migration_is_no_part_of_the_description_and_pickles() -> None:
    own = spec(options_version=2, migrate_options=keep)
    assert own.describe()["options_version"] == 2
    assert "migrate_options" not in own.describe()
    assert pickle.loads(pickle.dumps(own)) == own
