"""Encoders of transformers: small random checkpoints, saved as the real ones are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf

from crema_audio.modality import AudioModality
from crema_audio.plugin import SPEC
from crema_core.errors import AssetError
from crema_core.modality import BuildContext


def save_ast(folder: Path) -> None:
    config = hf.ASTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, max_length=96, num_labels=3
    )
    hf.ASTForAudioClassification(config).save_pretrained(folder)
    hf.ASTFeatureExtractor(max_length=96).save_pretrained(folder)


def save_whisper(folder: Path) -> None:
    config = hf.WhisperConfig(
        vocab_size=8, d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8, max_source_positions=50, pad_token_id=0,
        bos_token_id=1, eos_token_id=2, decoder_start_token_id=1, suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    hf.WhisperForConditionalGeneration(config).save_pretrained(folder)
    hf.WhisperFeatureExtractor(chunk_length=1).save_pretrained(folder)


def save_clap(folder: Path, *, fuses: bool = False) -> None:
    vision_encoder = hf.ClapAudioConfig(
        patch_embeds_hidden_size=4, hidden_size=32, depths=[1, 1, 1, 1], num_attention_heads=[2, 2, 2, 2],
        projection_dim=4, enable_fusion=fuses,
    )  # fmt: skip
    text = hf.ClapTextConfig(
        vocab_size=8, hidden_size=4, num_hidden_layers=1, num_attention_heads=2, intermediate_size=4, projection_dim=4
    )
    model = hf.ClapModel(
        hf.ClapConfig(text_config=text.to_dict(), audio_config=vision_encoder.to_dict(), projection_dim=4)
    )
    model.save_pretrained(folder)
    hf.ClapFeatureExtractor(truncation="fusion" if fuses else "rand_trunc").save_pretrained(folder)


def save_fusing_clap(folder: Path) -> None:
    save_clap(folder, fuses=True)


def save_pe(folder: Path) -> None:
    codec = {"encoder_hidden_size": 2, "downsampling_ratios": [2, 8, 10, 12], "codebook_dim": 4}
    sound = hf.PeAudioEncoderConfig(
        dac_config=codec, hidden_size=16, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, head_dim=8
    )
    text = hf.ModernBertConfig(
        vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, pad_token_id=0,
        bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2,
    )  # fmt: skip
    hf.PeAudioModel(hf.PeAudioConfig(text_config=text.to_dict(), audio_config=sound.to_dict())).save_pretrained(folder)
    hf.PeAudioFeatureExtractor(sampling_rate=48_000, hop_length=1920).save_pretrained(folder)


KINDS: dict[str, tuple[str, Callable[[Path], None], int, int]] = {
    # kind: (encoder, how it is saved, tokens of half a second, width)
    "ast": ("ast", save_ast, 2 + 5 * 12, 8),
    "whisper": ("whisper", save_whisper, 25, 8),
    "clap": ("clap", save_clap, 64, 32),
    "fusing clap": ("clap", save_fusing_clap, 64, 32),
    "pe": ("pe", save_pe, 13, 16),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("encoders")
    for kind, (_, save, _, _) in KINDS.items():
        save(place / kind)
    return {kind: place / kind for kind in KINDS}


def built(folders: dict[str, Path], kind: str, **options: object) -> AudioModality:
    values = {"window_s": 0.5, "num_windows": 3, "encoder": KINDS[kind][0], "weights": str(folders[kind]), **options}
    built = AudioModality(SPEC.parse_options(values), BuildContext())
    built.load_assets(None)
    return built


def noise(seconds: float, *, seed: int = 0) -> tuple[np.ndarray, int]:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(22_050 * seconds)).astype(np.float32), 22_050


@pytest.mark.parametrize("kind", KINDS)
def test_every_window_becomes_tokens_with_its_span(folders: dict[str, Path], kind: str) -> None:
    modality = built(folders, kind)
    assert modality.feature_dim == KINDS[kind][3]
    features = modality.encode(modality.collate([modality.prepare(noise(1.5))]))
    assert features.values.shape == (1, 3, KINDS[kind][2], KINDS[kind][3])
    assert bool(features.mask.all())
    assert bool(torch.isfinite(features.values).all())
    assert features.times is not None
    torch.testing.assert_close(features.times[0], torch.tensor([[0.0, 0.5], [0.5, 1.0], [1.0, 1.5]]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_alone_and_beside_a_longer_one_gives_the_same_tokens(folders: dict[str, Path], kind: str) -> None:
    modality = built(folders, kind)
    short, long = modality.prepare(noise(0.3)), modality.prepare(noise(1.4, seed=1))
    alone, both = modality.encode(modality.collate([short])), modality.encode(modality.collate([short, long]))
    torch.testing.assert_close(both.values[0, 0][both.mask[0, 0]], alone.values[0, 0][alone.mask[0, 0]])
    assert not bool(both.mask[0, 1:].any())


@pytest.mark.parametrize(("kind", "real"), [("ast", 2 + 3 * 12), ("whisper", 15), ("pe", 8), ("clap", 64)])
def test_tokens_behind_the_end_of_a_short_sound_are_masked(folders: dict[str, Path], kind: str, real: int) -> None:
    modality = built(folders, kind)
    features = modality.encode(modality.collate([modality.prepare(noise(0.3))]))
    assert int(features.mask.sum()) == real
    assert not bool(features.values[~features.mask].any())


@pytest.mark.parametrize("kind", KINDS)
def test_silence_and_a_blink_of_sound_are_encoded(folders: dict[str, Path], kind: str) -> None:
    modality = built(folders, kind)
    for samples in (np.zeros(16_000, np.float32), np.full(7, 0.1, np.float32)):
        features = modality.encode(modality.collate([modality.prepare(samples)]))
        assert bool(torch.isfinite(features.values).all())
        assert bool(features.mask.any())


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_frozen_and_those_of_the_checkpoint(folders: dict[str, Path], kind: str) -> None:
    modality = built(folders, kind)
    parameters = list(modality.parameters())
    assert parameters
    assert not [parameter for parameter in parameters if parameter.requires_grad]
    assert not modality.train().encoder.training
    again = built(folders, kind)
    sample = modality.prepare(noise(0.5))
    first, second = (m.encode(m.collate([sample])).values for m in (modality, again))
    assert torch.equal(first, second)


def test_instants_of_ast_are_in_order(folders: dict[str, Path]) -> None:
    """With the layers switched off, a click late in the window changes the late tokens only."""
    modality = built(folders, "ast")
    with torch.no_grad():
        for parameter in modality.encoder.model.layers.parameters():
            parameter.zero_()
    quiet = np.zeros(8000, np.float32)
    click = quiet.copy()
    click[6400:6500] = 0.5  # 0.4 s
    tokens = [modality.encode(modality.collate([modality.prepare(x)])).values[0, 0] for x in (quiet, click)]
    changed = (tokens[0] - tokens[1]).abs().amax(-1)[2:].unflatten(0, (5, 12)).amax(-1) > 1e-4
    assert changed.tolist() == [False, False, False, True, True]


def test_a_window_longer_than_the_checkpoint_takes_is_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(AssetError) as caught:
        built(folders, "whisper", window_s=1.5)
    assert str(caught.value) == (
        f"window_s=1.5 is longer than '{folders['whisper']}' takes. Windows of encoder='whisper' have at most 1 s. Set "
        "window_s=1 or less, and num_windows to cover the sound."
    )


def test_a_checkpoint_of_another_kind_is_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(AssetError) as caught:
        built(folders, "ast", encoder="whisper")
    assert str(caught.value) == (
        f"'{folders['ast']}' is a 'audio-spectrogram-transformer' checkpoint. Needed is one for WhisperModel "
        "('whisper'). Name another checkpoint, or choose the encoder that fits this one."
    )


def test_a_checkpoint_without_a_front_end_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    save_ast(tmp_path / "ast")
    (tmp_path / "ast" / "preprocessor_config.json").unlink()
    with pytest.raises(AssetError) as caught:
        built({"ast": tmp_path / "ast"}, "ast")
    assert str(caught.value) == (
        f"'{tmp_path / 'ast'}' has weights but no preprocessor_config.json. The encoder needs the front end it was "
        "trained with. Download that file into the folder too."
    )


def test_a_checkpoint_without_some_weights_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_ast(tmp_path / "ast")
    file = tmp_path / "ast" / "model.safetensors"
    state = load_file(file)
    dropped = next(key for key in state if key.endswith("cls_token"))
    del state[dropped]
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(AssetError) as caught:
        built({"ast": tmp_path / "ast"}, "ast")
    assert str(caught.value) == (
        f"'{tmp_path / 'ast'}' lacks 1 weights of ASTModel, first: embeddings.cls_token. They would stay random. Name "
        "a checkpoint that holds the whole encoder."
    )


def test_an_absent_folder_is_named(tmp_path: Path) -> None:
    options = SPEC.parse_options({"encoder": "clap", "weights": str(tmp_path / "none")})
    with pytest.raises(AssetError) as caught:
        AudioModality(options, BuildContext()).load_assets(None)
    text = str(caught.value)
    assert text.startswith(f"No encoder was found at '{tmp_path / 'none'}': ")
    assert text.endswith(
        ". Accepted: a hub id, or a folder with config.json and model.safetensors. Check the name, or download the "
        "checkpoint and name its folder."
    )


def test_cut_weights_are_refused(tmp_path: Path) -> None:
    save_ast(tmp_path / "ast")
    file = tmp_path / "ast" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(AssetError, match=r"The weights of .* cannot be read: .* Download or copy it again.$"):
        built({"ast": tmp_path / "ast"}, "ast")


def test_an_encoder_without_a_usual_checkpoint_asks_for_one() -> None:
    with pytest.raises(AssetError) as caught:
        AudioModality(SPEC.parse_options({"encoder": "pe"}), BuildContext()).load_assets(None)
    assert str(caught.value) == (
        "encoder='pe' was chosen without weights. It needs a checkpoint in the format of transformers. Pass {'name': "
        "'audio', 'encoder': 'pe', 'weights': 'hub id or folder'}."
    )


def test_prepare_before_the_weights_says_what_to_call(folders: dict[str, Path]) -> None:
    options = SPEC.parse_options({"encoder": "whisper", "weights": str(folders["whisper"])})
    modality = AudioModality(options, BuildContext())
    assert modality.feature_dim == 8  # from the configuration alone
    with pytest.raises(AssetError) as caught:
        modality.prepare(np.zeros(100, np.float32))
    assert str(caught.value) == (
        "encoder='whisper' has no front end yet. It comes with the weights. Call load_assets(None) before prepare, or "
        "build the model with crema_core.build."
    )


def test_no_code_of_a_checkpoint_is_run(folders: dict[str, Path], tmp_path: Path) -> None:
    save_ast(tmp_path / "ast")
    config = tmp_path / "ast" / "config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps({**values, "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}))
    (tmp_path / "ast" / "evil.py").write_text("raise SystemExit('was run')")
    assert built({"ast": tmp_path / "ast"}, "ast").feature_dim == 8
