"""BEATs equals the released encoder, and reads its checkpoint format."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from crema_audio.beats import Beats, BeatsConfig, beats_from_state, load_beats
from crema_audio.modality import AudioModality
from crema_audio.plugin import AudioOptions
from crema_core.errors import AssetError
from crema_core.modality import BuildContext
from tests.support.numeric import assert_close_to_scale

DATA = Path(__file__).parents[3] / "tests" / "golden" / "data"


@pytest.fixture(scope="module")
def golden() -> tuple[BeatsConfig, dict[str, torch.Tensor]]:
    return BeatsConfig(**json.loads((DATA / "beats.json").read_text())["config"]), load_file(DATA / "beats.safetensors")


def released(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key.removeprefix("state."): value for key, value in tensors.items() if key.startswith("state.")}


def test_features_equal_the_released_encoders(golden: tuple[BeatsConfig, dict[str, torch.Tensor]]) -> None:
    config, tensors = golden
    model = beats_from_state(config, released(tensors)).double()
    with torch.no_grad():
        assert_close_to_scale(model(tensors["in.fbank"].double()), tensors["out.features"])


def test_distance_buckets_equal_the_released_ones(golden: tuple[BeatsConfig, dict[str, torch.Tensor]]) -> None:
    config, tensors = golden
    bias = Beats(config).encoder.position_bias
    assert bias is not None
    assert torch.equal(bias.buckets(48), tensors["mid.relative_bucket_ids"])


def test_the_released_file_format_is_read(golden: tuple[BeatsConfig, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    config, tensors = golden
    file = tmp_path / "BEATs.pt"
    extra = {"finetuned_model": False, "dropout": 0.1}
    torch.save({"cfg": config.model_dump() | extra, "model": released(tensors)}, file)
    with torch.no_grad():
        assert_close_to_scale(load_beats(file).double()(tensors["in.fbank"].double()), tensors["out.features"])


def test_pre_norm_without_gate_runs_and_ends_with_a_norm() -> None:
    config = BeatsConfig(
        embed_dim=8, encoder_layers=2, encoder_embed_dim=12, encoder_ffn_embed_dim=16, encoder_attention_heads=3,
        conv_pos=4, conv_pos_groups=2, num_buckets=8, max_distance=16, layer_norm_first=True, deep_norm=False,
        gru_rel_pos=False,
    )  # fmt: skip
    torch.manual_seed(0)
    tokens = Beats(config)(torch.randn(2, 32, 32))
    assert tokens.shape == (2, 4, 12)
    torch.testing.assert_close(tokens.mean(-1), torch.zeros(2, 4), atol=1e-5, rtol=0)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "BEATs.pt"
    torch.save({"weights": {}}, file)
    with pytest.raises(AssetError) as caught:
        load_beats(file)
    assert str(caught.value) == (
        f"'{file}' is not a readable BEATs checkpoint: 'cfg'. Accepted: the released torch file with the entries 'cfg' "
        "and 'model'. Download it again and pass its path."
    )


def test_weights_that_do_not_fit_are_all_listed(golden: tuple[BeatsConfig, dict[str, torch.Tensor]]) -> None:
    config, tensors = golden
    state = released(tensors)
    state["layer_norm.weight"] = torch.zeros(3)
    del state["layer_norm.bias"]
    state["layer_norm.scale"] = torch.zeros(1)
    with pytest.raises(AssetError) as caught:
        beats_from_state(config, state)
    assert str(caught.value) == (
        "The BEATs weights do not fit their configuration, 3 keys differ:\n"
        "  missing: layer_norm.bias\n"
        "  unknown: layer_norm.scale\n"
        "  shape: layer_norm.weight is (3,), the configuration gives (16,)\n"
        "All must agree. Pass the checkpoint as it was released."
    )


def test_the_modality_encodes_windows_with_the_checkpoint_it_is_given(
    golden: tuple[BeatsConfig, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    config, tensors = golden
    torch.save({"cfg": config.model_dump(), "model": released(tensors)}, tmp_path / "BEATs.pt")
    options = AudioOptions(encoder="beats", weights=str(tmp_path / "BEATs.pt"), window_s=0.96, placement="first")
    modality = AudioModality(options, BuildContext())
    modality.load_assets(None)
    short, long = torch.randn(8_000), torch.randn(40_000)
    batch = modality.collate([modality.prepare(short), modality.prepare(long)])
    with torch.no_grad():
        features = modality.encode(batch)
        alone = modality.encode(modality.collate([modality.prepare(short)]))
    assert features.values.shape == (2, 2, 48, 24)
    assert features.mask[:, :, 0].tolist() == [[True, False], [True, True]]
    assert_close_to_scale(features.values[:1, :1], alone.values)


def test_beats_without_weights_says_what_to_pass() -> None:
    with pytest.raises(AssetError) as caught:
        AudioModality(AudioOptions(encoder="beats"), BuildContext()).load_assets(None)
    assert str(caught.value) == (
        "encoder='beats', the default of 'audio' on a pretrained backbone, has no weights. It needs the released "
        "checkpoint, for example BEATs_iter3_plus_AS2M.pt. Download it and pass {'name': 'audio', 'encoder': 'beats', "
        "'weights': 'path/to/BEATs_iter3_plus_AS2M.pt'}, or choose another: {'name': 'audio', 'encoder': 'patches'} "
        "needs no weights, and has learned nothing about sound."
    )
