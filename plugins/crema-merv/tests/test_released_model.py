"""A released MERV checkpoint in a whole model: the language model reads what the released code gives it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor

import crema_core
from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.cli.main import main
from crema_core.errors import CheckpointError
from crema_core.features.feature_cache import prepare_batch
from crema_core.modality import FeaturePart
from crema_core.plugins import registry
from crema_core.plugins.spec import ModalitySpec
from crema_merv.checkpoint import read_released_merv
from crema_merv.layout import pack
from crema_merv.released_model import fusion_options, load_released_model
from tests.support.merv import ENCODERS, GoldenEncoders, load, released_fusion, released_projectors
from tests.support.modalities import wave_spec
from tests.support.tokenizers import save_tokenizer

ABOUT, TENSORS = load("projectors")
_, MIXERS = load("fusion")
CASE, MIXER = "avg2d_linear", "cross_attention_avg_lq"


def spec() -> ModalitySpec:
    return ModalitySpec(
        name="clip_features",
        summary="features of the golden encoders",
        factory=GoldenEncoders,
        encoder="features",
        feature_dim=sum(encoder.numel for encoder in GoldenEncoders.feature_parts),
        prefix="Frame {index}: ",
    )


def save_llama(folder: Path, *, layers: int = 1) -> Path:
    """A Llama as wide as the golden one."""
    save_tokenizer(folder, "llama")
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(0)
    config = hf.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=24, num_hidden_layers=layers,
        num_attention_heads=2, bos_token_id=1, eos_token_id=2, tie_word_embeddings=False,
    )  # fmt: skip
    hf.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llama(tmp_path_factory.mktemp("llama") / "one")


def whole(llama: Path, **changes: Any) -> CremaModel:
    options: dict[str, Any] = {"fusion": {"name": "merv", "token_grid": (2, 2)}, "tuning": "full", **changes}
    return build([spec()], language_model=llama, **options)


def checkpoint(llama: Path, folder: Path, *, mixer: str | None = MIXER, case: str = CASE) -> Path:
    """A file as the released code writes it: a padding token more, filled up to 64 rows, and another language model."""
    torch.manual_seed(1)
    own = hf.AutoModelForCausalLM.from_pretrained(llama).state_dict()
    moved = {f"llm.{key}": value + 0.1 * torch.randn_like(value) for key, value in own.items()}
    for key in ("llm.model.embed_tokens.weight", "llm.lm_head.weight"):
        moved[key] = torch.cat([moved[key], torch.zeros(64 - len(moved[key]) % 64, 16)])
    moved["llm.model.rotary_emb.inv_freq"] = torch.ones(4)
    parts = {
        "projectors": released_projectors(TENSORS, case),
        "llm_backbone": moved,
        **({} if mixer is None else {"feature_fusion": released_fusion(MIXERS, mixer)}),
    }
    torch.save({"model": parts, "step": 7}, folder / "latest-checkpoint.pt")
    return folder / "latest-checkpoint.pt"


def clips() -> list[Tensor]:
    return list(pack([TENSORS[f"{CASE}/{encoder}/in"] for encoder in ENCODERS]).flatten(1))


def released_tokens() -> tuple[Tensor, Tensor]:
    """The golden projectors' outputs, mixed by torch's own attention with the golden weights; and the weights."""
    outs = torch.stack([TENSORS[f"{CASE}/{encoder}/out"] for encoder in ENCODERS], dim=1)
    own = released_fusion(MIXERS, MIXER)
    attention = torch.nn.MultiheadAttention(12, 1, batch_first=True, kdim=16, vdim=16)
    attention.load_state_dict({key.removeprefix("attention."): value for key, value in own.items() if key != "Q"})
    keys = outs.mean(2)
    _, weights = attention(own["Q"].expand(2, 1, -1), keys, keys)
    return torch.einsum("be,betl->btl", weights[:, 0], outs), weights[:, 0]


def test_the_language_model_reads_what_the_released_one_does(llama: Path, tmp_path: Path) -> None:
    model, file = whole(llama), checkpoint(llama, tmp_path)
    assert load_released_model(model, file) == ["projectors", "mixer", "language model"]
    # Two clips, and between them a question about nothing: it is read without visual tokens.
    texts = ["In: what is it?\nOut:", "In: is it red?\nOut:", "In: what?\nOut:"]
    first, second = clips()
    batch = prepare_batch(model, [{"clip_features": first}, {}, {"clip_features": second}])
    prompt = model.prompt(model.tokens(model.encode(batch), texts), texts)

    released = torch.load(file, weights_only=True)["model"]["llm_backbone"]
    vocabulary = len(model.backbone.tokenizer)
    state = {key.removeprefix("llm."): value for key, value in released.items() if "inv_freq" not in key}
    for key in ("model.embed_tokens.weight", "lm_head.weight"):
        state[key] = state[key][:vocabulary]
    reference = hf.AutoModelForCausalLM.from_pretrained(llama).eval()
    reference.load_state_dict(state)
    tokens, weights = released_tokens()
    answers = ["red", "yes", "a dog"]
    answer_ids = model.language.answer_ids(answers)
    ours = model.language.logits(prompt, answer_ids)
    for row, (text, visual) in enumerate(zip(texts, (tokens[0], tokens[:0, 0], tokens[1]), strict=True)):
        ids = torch.tensor(model.backbone.tokenizer(text, add_special_tokens=False)["input_ids"])
        embed = reference.get_input_embeddings()
        expected = torch.cat([embed(torch.tensor([1])), visual.reshape(-1, 16), embed(ids)])
        own = prompt.embeds[row][prompt.mask[row]]
        torch.testing.assert_close(own, expected, atol=1e-5, rtol=0)
        count = int((answer_ids[row] >= 0).sum())
        inputs = torch.cat([expected, embed(answer_ids[row, :count])])[None]
        logits = reference(inputs_embeds=inputs).logits[0, len(expected) - 1 : -1]
        torch.testing.assert_close(ours[row, :count], logits, atol=1e-4, rtol=1e-4)
    answer = model.answer("what is it?", clip_features=first)
    assert list(answer.extras["encoder_weights"].values()) == pytest.approx(weights[0].tolist(), abs=1e-5)


def test_a_loaded_checkpoint_is_saved_with_its_language_model(llama: Path, tmp_path: Path) -> None:
    registry.register(spec())
    model = whole(llama)
    load_released_model(model, checkpoint(llama, tmp_path))
    model.save_pretrained(tmp_path / "saved")
    loaded = crema_core.load(tmp_path / "saved")
    first, _ = clips()
    answers = [own.answer("what?", ["red", "blue"], clip_features=first).scores for own in (model, loaded)]
    assert answers[0] == answers[1]
    assert answers[0] != whole(llama).answer("what?", ["red", "blue"], clip_features=first).scores


@pytest.mark.parametrize(
    ("case", "mixer", "expected"),
    [
        ("avg2d_linear", MIXER, {"projector": "average", "map_kind": "linear", "mixer": "cross_attention"}),
        ("avg2d_gelu-mlp", None, {"projector": "average", "map_kind": "gelu_mlp", "mixer": "concat"}),
        (
            "attentive_linear",
            "scalar",
            {"projector": "attentive", "map_kind": "linear", "token_grid": (2, 2), "mixer": "scalar"},
        ),
        (
            "conv2d_linear",
            "concat_channel",
            {"projector": "conv", "map_kind": "linear", "num_blocks": 1, "mixer": "channel"},
        ),
    ],
)
def test_the_options_follow_from_the_weights(
    case: str, mixer: str | None, expected: dict[str, Any], llama: Path, tmp_path: Path
) -> None:
    parts = read_released_merv(checkpoint(llama, tmp_path, mixer=mixer, case=case))
    options = fusion_options(parts)
    assert options == expected
    model = whole(llama, fusion={"name": "merv", "token_grid": (2, 2), **options})
    assert load_released_model(model, parts)[-1] == "language model"


def test_a_checkpoint_becomes_a_saved_model_on_the_command_line(
    llama: Path, encoders: list[dict[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = checkpoint(llama, tmp_path)
    content = torch.load(file, weights_only=True)
    content["model"]["projectors"] = {
        f"{index}.projector.projector.{end}": torch.randn(shape)
        for index, width in enumerate((8, 8, 16))
        for end, shape in (("weight", (16, width)), ("bias", (16,)))
    }
    torch.save(content, file)
    words = ["convert-merv", str(file), "--language-model", str(llama), "--out", str(tmp_path / "model")]
    options = [
        "--modalities",
        "video",
        "--set",
        f"video.encoders={json.dumps(encoders)}",
        "--set",
        "video.num_frames=4",
    ]
    assert main([*words, *options]) == 0
    assert capsys.readouterr().out == (
        f"projectors, mixer, language model of 3 encoders converted\nsaved model: {tmp_path / 'model'}\n"
    )
    model = crema_core.load(tmp_path / "model")
    assert model.config["fusion"] == {
        "name": "merv", "projector": "average", "map_kind": "linear", "mixer": "cross_attention",
    }  # fmt: skip
    weight = model.adapter_parameters("video")["encoders.projectors.2.map.weight"]
    assert torch.equal(weight, content["model"]["projectors"]["2.projector.projector.weight"])


def test_a_frozen_language_model_is_not_overwritten(llama: Path, tmp_path: Path) -> None:
    model, file = whole(llama, tuning=None), checkpoint(llama, tmp_path)
    before = model.adapter_state_dict()
    with pytest.raises(CheckpointError) as caught:
        load_released_model(model, file)
    assert str(caught.value) == (
        "The checkpoint holds a trained language model, and this model's is frozen, so it would be lost on saving. "
        "Accepted: a model whose language model may be trained. Build it with tuning='full', or pass "
        "with_language_model=False. Nothing was changed."
    )
    assert all(torch.equal(value, before[key]) for key, value in model.adapter_state_dict().items())
    assert load_released_model(model, file, with_language_model=False) == ["projectors", "mixer"]


def test_another_language_model_is_refused_before_anything_changes(llama: Path, tmp_path: Path) -> None:
    model = whole(save_llama(tmp_path / "two", layers=2))
    before = model.adapter_state_dict()
    with pytest.raises(CheckpointError) as caught:
        load_released_model(model, checkpoint(llama, tmp_path))
    lines = str(caught.value).splitlines()
    assert lines[:2] == [
        "The checkpoint's language model is another than this model's, 9 weights differ:",
        "  missing: model.layers.1.self_attn.q_proj.weight",
    ]
    assert lines[-1] == (
        "It must have the same layers and widths. Build the model with language_model='...', the one the checkpoint "
        "was trained from. Nothing was changed."
    )
    assert all(torch.equal(value, before[key]) for key, value in model.adapter_state_dict().items())


def test_a_model_of_another_strategy_is_refused(t5_folder: Path, llama: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_released_model(build([wave_spec()], backbone=t5_folder), checkpoint(llama, tmp_path))
    assert str(caught.value) == (
        "A released MERV checkpoint came for a model whose fusion is 'self_gated'. Accepted: a model with "
        "fusion='merv'. Build one with the checkpoint's encoders. Nothing was changed."
    )


def test_projectors_of_several_kinds_are_refused(llama: Path, tmp_path: Path) -> None:
    parts = read_released_merv(checkpoint(llama, tmp_path))
    other = read_released_merv(checkpoint(llama, tmp_path, case="avg2d_gelu-mlp"))
    with pytest.raises(CheckpointError) as caught:
        fusion_options(parts._replace(projectors=(parts.projectors[0], other.projectors[1])))
    assert str(caught.value) == (
        "The checkpoint has projectors of several kinds: average + gelu_mlp, average + linear. A model has one kind "
        "for all of its encoders. Pass a checkpoint of the released code. Nothing was changed."
    )


def test_golden_encoders_have_the_released_parts() -> None:
    assert GoldenEncoders.feature_parts[0] == FeaturePart("enc0", 4, 4, 4, 16)
