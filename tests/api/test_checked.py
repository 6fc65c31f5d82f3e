"""What `build` is asked for is checked as a whole before anything is loaded, by the registry's one resolver."""

from __future__ import annotations

from pathlib import Path

import pytest

from crema_core.api.build import build
from crema_core.errors import BuildError, CheckpointError
from tests.support.dummies import Installer, dummies, install
from tests.support.modalities import frames_spec, wave_spec

__all__ = ["dummies", "install"]

NOWHERE = "no/such-backbone"


def test_every_kind_of_problem_comes_in_one_error_before_a_weight_is_read(install: Installer) -> None:
    install("good", "bad_contract", "duplicate_a", "duplicate_b")
    with pytest.raises(BuildError) as caught:
        build(
            ["sonarr", "twin", "needy", {"name": "good", "frames": 0, "mmqa": {"lora_rnk": 4}}, "good"],
            backbone=NOWHERE,
            fusion="self-gated",
            template={"choice_scorin": "letters"},
            precision="fp31",
            quantization="3bit",
            tuning={"rnk": 3},
        )
    kinds = [type(problem).__name__ for problem in caught.value.problems]
    assert kinds == [
        "OptionsError",  # the fusion: it may give a modality more options, so it is known first
        "UnknownModalityError",
        "DuplicateModalityError",
        "MissingRequirementError",
        "OptionsError",
        "OptionsError",
        "PrecisionError",
        "OptionsError",
        "OptionsError",
        "OptionsError",
    ]
    for part in ("good.frames", "'lora_rnk'", "'good' is given 2 times", "'self-gated'", "'fp31'", "'3bit'", "'rnk'"):
        assert part in str(caught.value)


def test_major_and_encoders_are_refused_together_with_the_rest() -> None:
    with pytest.raises(BuildError) as caught:
        build([wave_spec(), frames_spec("main")], backbone=NOWHERE, major="waves", fusion="concatt")
    assert [str(problem).partition(" ")[0] for problem in caught.value.problems] == ["'concatt'", "major='waves'"]


def test_a_requirement_is_missed_before_the_backbone_is_looked_for(install: Installer) -> None:
    install("bad_contract")
    with pytest.raises(BuildError, match="needs numpy>=99"):
        build([wave_spec(), "needy"], backbone=NOWHERE)


def test_a_misspelt_option_of_the_fusion_is_refused_before_the_backbone_is_looked_for() -> None:
    with pytest.raises(BuildError) as caught:
        build([wave_spec(), frames_spec("main")], backbone=NOWHERE, fusion={"name": "self_gated", "appendd": False})
    assert str(caught.value) == (
        "fusion: SelfGatedFusion has no option 'appendd'. Accepted: append, layout. Did you mean 'append'? Correct the "
        "name, or leave it out."
    )


def test_strict_refuses_to_build_beside_a_broken_package(install: Installer, monkeypatch: pytest.MonkeyPatch) -> None:
    install("broken_import")
    with pytest.raises(CheckpointError):
        build([wave_spec()], backbone=NOWHERE)
    monkeypatch.setenv("CREMA_PLUGINS_STRICT", "1")
    with pytest.raises(BuildError, match="cannot be used, which CREMA_PLUGINS_STRICT=1"):
        build([wave_spec()], backbone=NOWHERE)


def test_a_misspelt_word_of_the_allowlist_is_reported_when_building(
    t5_folder: Path, install: Installer, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("good")
    monkeypatch.setenv("CREMA_PLUGINS_DISABLE", "goood")
    with pytest.warns(UserWarning, match="'goood' in CREMA_PLUGINS_DISABLE matches no installed plugin"):
        build([wave_spec()], backbone=t5_folder)


def test_adapter_sizes_that_are_no_mapping_are_refused() -> None:
    with pytest.raises(BuildError) as caught:
        build([{"name": wave_spec(), "mmqa": 4}], backbone=NOWHERE)
    assert str(caught.value) == (
        "wave.mmqa: 4 is no mapping. Accepted: adapter sizes by name. Write for example: {'mmqa': {'lora_rank': 32}}"
    )
