"""What `build` accepts and what it refuses, all problems in one error."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from crema_core.api.build import build
from crema_core.errors import BuildError
from crema_core.model.mmqa import Interpolate
from tests.support.modalities import four_modalities, frames_spec, points_spec, wave_spec


def test_the_modality_that_declares_itself_major_is_major_wherever_it_stands(t5_folder: Path) -> None:
    assert build([wave_spec(), frames_spec("main")], backbone=t5_folder).major == "main"
    assert build([points_spec(), wave_spec()], backbone=t5_folder).major == "points"


def test_any_other_modality_can_be_major(t5_folder: Path) -> None:
    model = build(four_modalities(), backbone=t5_folder, major="wave")
    assert model.major == "wave"
    assert set(model.fusion.blocks) == {"main", "other", "points"}


def test_a_major_modality_that_is_not_built_is_refused(t5_folder: Path) -> None:
    with pytest.raises(BuildError) as caught:
        build(four_modalities(), backbone=t5_folder, major="waves")
    assert str(caught.value) == (
        "major='waves' is not one of the built modalities. Accepted: main, other, wave, points. Did you mean 'wave'? "
        "Add it to modalities, or leave major out."
    )


def test_the_projection_exists_only_where_widths_differ(t5_folder: Path) -> None:
    model = build([frames_spec("main"), wave_spec()], backbone=t5_folder)
    assert isinstance(model.branch("main").adapter.projection, torch.nn.Identity)
    assert isinstance(model.branch("wave").adapter.projection, torch.nn.Linear)


def test_the_projection_can_be_replaced_by_interpolation(t5_folder: Path) -> None:
    model = build([wave_spec()], backbone=t5_folder, mmqa={"projection": "interpolate"})
    assert isinstance(model.branch("wave").adapter.projection, Interpolate)
    assert "mmqa.projection.weight" not in model.adapter_parameters("wave")


@pytest.mark.parametrize("num_queries", [1, 5, 9])
def test_the_number_of_queries_is_a_setting(t5_folder: Path, num_queries: int) -> None:
    model = build(four_modalities(), backbone=t5_folder, mmqa={"num_queries": num_queries})
    assert model.branch("wave").adapter.queries.shape == (1, num_queries, 12)
    model.answer("what ?", wave=torch.randn(2, 3, 10))


def test_different_numbers_of_queries_need_concatenation(t5_folder: Path) -> None:
    sizes = wave_spec().mmqa.model_copy(update={"num_queries": 2})
    specs = [frames_spec("main"), wave_spec(mmqa=sizes)]
    with pytest.raises(BuildError) as caught:
        build(specs, backbone=t5_folder)
    assert str(caught.value) == (
        "The modalities have different numbers of queries: main 5, wave 2. Fusion 'self_gated' needs one number for "
        "all. Set mmqa={'num_queries': ...}, or use fusion='concat'."
    )
    assert build(specs, backbone=t5_folder, fusion="concat").names == ("main", "wave")


def test_all_problems_come_in_one_error(t5_folder: Path) -> None:
    with pytest.raises(BuildError) as caught:
        build([wave_spec(), wave_spec(), {"name": "sonarr"}], backbone=t5_folder)
    assert len(caught.value.problems) == 2
    assert str(caught.value).startswith("2 problems:\n- ")
    assert "'wave' is given 2 times. A model has one modality of a name. Remove the others." in str(caught.value)


def test_an_entry_that_names_nothing_is_refused(t5_folder: Path) -> None:
    with pytest.raises(BuildError) as caught:
        build([{"frames": 2}], backbone=t5_folder)
    assert str(caught.value) == (
        "{'frames': 2} does not name a modality. Accepted: 'name', 'distribution:name', "
        "{'name': ..., option: value} or a ModalitySpec. Write for example: modalities=[{'name': 'radar', 'frames': 4}]"
    )


def test_bad_adapter_sizes_are_refused(t5_folder: Path) -> None:
    with pytest.raises(BuildError) as caught:
        build([wave_spec()], backbone=t5_folder, mmqa={"lora_rnk": 4})
    assert str(caught.value) == (
        "wave.mmqa: unknown option 'lora_rnk'. Accepted: lora_alpha, lora_dropout, lora_rank, norm, num_queries, "
        "output_start, projection. Did you mean 'lora_rank'?"
    )


def test_a_backbone_folder_may_carry_wording_that_build_can_override(t5_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "backbone"
    shutil.copytree(t5_folder, folder)
    (folder / "crema_template.json").write_text('{"choice_scoring": "likelihood", "open_ended": "Q: {question}"}')
    template = build([wave_spec()], backbone=folder).template
    assert (template.choice_scoring, template.render("why?")) == ("likelihood", "Q: why?")
    chosen = build([wave_spec()], backbone=folder, template={"choice_scoring": "letters"}).template
    assert (chosen.choice_scoring, chosen.render("why?")) == ("letters", "Q: why?")


def test_a_wrong_template_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(BuildError) as caught:
        build([wave_spec()], backbone=tmp_path / "nothing here", template={"choice_scorin": "letters"})
    assert str(caught.value) == (
        "template: unknown option 'choice_scorin'. Accepted: chat, choice_scoring, instruction, "
        "max_question_tokens, multiple_choice, open_ended, placement, qformer_input, question_text. Did you mean "
        "'choice_scoring'?"
    )
