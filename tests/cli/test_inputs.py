"""Reading names, settings and places from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crema_core.cli.inputs import assignments, model_folder, names, qformer, with_options
from crema_core.errors import OptionsError


def test_names_are_split_at_commas() -> None:
    assert names("a, b,c") == ["a", "b", "c"]
    assert names("") == []


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.none())
def test_any_number_survives(value: float | bool | None) -> None:
    text = {True: "true", False: "false", None: "null"}.get(value, repr(value)) if not value else repr(value)
    text = "true" if value is True else text
    assert assignments([f"key={text}"]) == {"key": value}


def test_a_value_may_contain_an_equals_sign() -> None:
    assert assignments(["key=a=b"]) == {"key": "a=b"}


def test_a_number_in_scientific_notation_is_a_number() -> None:
    assert assignments(["lr=2e-3"]) == {"lr": 0.002}


def test_an_item_without_a_value_is_explained() -> None:
    with pytest.raises(OptionsError) as caught:
        assignments(["epochs"])
    assert str(caught.value) == ("'epochs' sets nothing. Accepted: key=value. Write --set epochs=3, for example.")


def test_a_value_that_is_not_yaml_is_explained() -> None:
    with pytest.raises(OptionsError) as caught:
        assignments(["betas=[0.9"])
    assert str(caught.value) == (
        "The value of 'betas=[0.9' cannot be read. Values are written as in YAML: 3, 0.001, true, null, [a, b]. "
        "Put the item in quotes if it has brackets or spaces."
    )


def test_a_qformer_is_a_place_or_sizes() -> None:
    assert qformer("Salesforce/blip2-flan-t5-xl") == "Salesforce/blip2-flan-t5-xl"
    assert qformer("layers=2, width=128") == {"layers": 2, "width": 128}
    with pytest.raises(OptionsError) as caught:
        qformer("layers=2,width")
    assert str(caught.value) == (
        "--qformer layers=2,width is neither a place nor sizes. Accepted: folder or hub id of a BLIP-2 checkpoint, or "
        "sizes as name=number with commas between. Write --qformer layers=2,width=512, for example."
    )


def test_options_of_modalities_are_put_where_build_reads_them() -> None:
    requests = with_options(["video", "their:depth"], {"depth.near_m": 1, "depth.mmqa.lora_rank": 4})
    assert requests == ["video", {"name": "their:depth", "near_m": 1, "mmqa": {"lora_rank": 4}}]


def test_an_option_of_an_absent_modality_is_explained() -> None:
    with pytest.raises(OptionsError) as caught:
        with_options(["video", "depth"], {"dept.near_m": 1})
    assert str(caught.value) == (
        "'dept.near_m' is an option of 'dept', which is not among the modalities: video, depth. Did you mean 'depth'? "
        "Add the modality, or leave the option out."
    )


def test_an_unknown_adapter_size_is_explained() -> None:
    with pytest.raises(OptionsError) as caught:
        with_options(["video"], {"video.mmqa.lora_rnk": 1})
    assert str(caught.value) == (
        "'video.mmqa.lora_rnk': unknown adapter size 'lora_rnk'. Accepted: num_queries, lora_rank, lora_alpha, "
        "lora_dropout, projection, norm, output_start. Did you mean 'lora_rank'?"
    )


def test_a_run_directory_stands_for_the_model_inside_it(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    assert model_folder(str(tmp_path)) == tmp_path
    (tmp_path / "model" / "crema.json").touch()
    assert model_folder(str(tmp_path)) == tmp_path / "model"
    (tmp_path / "crema.json").touch()
    assert model_folder(str(tmp_path)) == tmp_path
