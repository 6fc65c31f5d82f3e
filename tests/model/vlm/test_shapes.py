"""Vision-language models without weights are counted as with them; the page's table is what the command prints."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoProcessor

from benchmarks.visual_counts import BACKBONES, row
from crema_core.api.build import build
from crema_core.api.describe import NUM_ANSWER_TOKENS, QUESTION, VISION, cost_of, describe_model
from crema_core.errors import CheckpointError, OptionsError
from crema_core.features.feature_cache import prepare_batch
from crema_core.model.backbone_family import BackboneRequest
from crema_core.model.load_backbone import load_backbone
from crema_core.model.settings import BackboneSettings
from crema_core.model.shipped import VISUAL_SHAPES
from crema_core.model.vlm import family
from crema_core.model.vlm.stand_in import COMPONENTS, StandIn, stand_ins
from crema_core.report.plan import _kept, _storages, plan
from crema_core.tokens import OWN_IDS
from tests.model.vlm.test_against_transformers import SMALL, SOUND, source
from tests.support.vlm import save_vlm

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
PAGE = Path(__file__).parents[3] / "docs" / "backbones.md"
TOTALS = {  # parameters in 10^9 that the hub states for the weights
    "gemma-3-12b": 12.19,
    "gemma-3-4b": 4.30,
    "glm-4.1v-9b": 10.29,
    "internvl3-8b": 7.94,
    "llava-onevision-qwen2-0.5b": 0.89,
    "llava-onevision-qwen2-7b": 8.03,
    "qwen2.5-omni-7b": 8.93,  # the part that listens, sees and writes
    "qwen2.5-vl-3b": 3.75,
    "qwen2.5-vl-7b": 8.29,
    "qwen3-vl-4b": 4.44,
    "qwen3-vl-8b": 8.77,
    "qwen3.5-9b": 9.41,  # 9.65 with the layer that predicts a further token, which transformers leaves out
    "smolvlm2-2.2b": 2.25,
}
KINDS = [pytest.param(kind, marks=() if kind == "qwen3_vl" else pytest.mark.slow) for kind in stand_ins()]


def of_settings(kind: str, processor: Any) -> StandIn:
    """Return the stand-in of a kind with the sizes of a given processor instead of the published ones."""
    known = stand_ins()[kind]
    parts = {}
    for name in COMPONENTS:
        if getattr(known, name) is not None:
            own = getattr(processor, name)
            given = {key: value for key, value in own.to_dict().items() if not key.endswith(("_type", "_class"))}
            parts[name] = {"class": getattr(known, name)["class"], **given}
    arguments = {key: getattr(processor, key, value) for key, value in known.arguments.items()}
    return known.model_copy(update={**parts, "arguments": arguments})


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_parameters_and_visual_tokens_are_those_of_the_real_model(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_vlm(tmp_path, kind)
    config = AutoConfig.from_pretrained(folder)
    real = build(["video", SOUND], backbone=folder, qformer=SMALL)
    monkeypatch.setattr(family, "stand_ins", lambda: {kind: of_settings(kind, AutoProcessor.from_pretrained(folder))})
    settings = BackboneSettings(backbone=str(folder), qformer=SMALL)
    shape = build(["video", SOUND], backbone=family.FAMILY.shape(config, BackboneRequest(settings, str(folder))))
    first, second = ({name: tuple(own.shape) for name, own in one.named_parameters()} for one in (real, shape))
    assert first == second
    assert all(own.untyped_storage().nbytes() <= 8 for own in shape.backbone.language_model.parameters())
    rows = [describe_model(one).components for one in (real, shape)]
    counts = [[(part.name, part.frozen, part.trainable, part.megabytes) for part in own] for own in rows]
    assert counts[0] == counts[1]
    for medium in ("image", "video"):
        frames, costs, tokens = source(medium), [], []
        for one in (real, shape):
            backbone: Any = one.backbone
            costs.append(cost_of(one, ["video"], sources={"video": frames}).gflops[VISION])
            sample = one.branch("video").modality.prepare(frames)
            marks = torch.tensor(backbone.placeholders)
            tokens.append((int(torch.isin(sample.tensors[OWN_IDS], marks).sum()), sample.tensors["layout"].tolist()))
        assert tokens[0] == tokens[1]
        assert costs[0] == costs[1] > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TOTALS))
def test_a_published_shape_has_the_published_number_of_parameters(name: str) -> None:
    backbone = load_backbone(name)
    weights = backbone.language_model.parameters()
    assert round(sum(own.numel() for own in weights) / 1e9, 2) == TOTALS[name]


def test_every_shape_is_one_whose_processor_can_be_built() -> None:
    assert {file.stem for file in VISUAL_SHAPES.glob("*.json")} == set(TOTALS)


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_the_page_states_what_the_command_counts(name: str) -> None:
    (line,) = re.findall(rf"^\| `{re.escape(name)}` \|.*$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [cell.strip() for cell in line.strip("|").split("|")][1:] == row(name)[1:]


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=() if kind == "qwen3_vl" else pytest.mark.slow)
        for kind in ("qwen3_vl", "gemma3", "gemma4", "llava_onevision", "internvl", "qwen3_vl_moe", "llama4")
    ],
)
def test_what_a_step_keeps_is_planned_as_it_is(kind: str, tmp_path: Path) -> None:
    model = build(["video", SOUND], backbone=save_vlm(tmp_path, kind), qformer=SMALL)
    planned = plan(model, batch_size=2)
    draws = torch.Generator().manual_seed(0)
    sources = {name: model.branch(name).modality.example(draws) for name in model.names}
    features = model.encode(prepare_batch(model, [sources]))
    with torch.no_grad():
        prompt = model.prompt(model.tokens(features, [QUESTION]), [QUESTION]).select(torch.tensor([0, 0]))
    model.requires_grad_(False)
    prompt.mask[1, 0] = False  # prompts of different lengths, as in a minibatch
    embeds = prompt.embeds.requires_grad_()
    answers = torch.zeros(2, NUM_ANSWER_TOKENS, dtype=torch.int64)

    def scores() -> torch.Tensor:
        return model.language.logits(prompt._replace(embeds=embeds), answers).float().log_softmax(-1)

    kept, _ = _kept(scores, parameters=_storages(model))
    assert prompt.embeds.shape[1] == planned.num_tokens
    # experts are counted in half precision, twice; what Gemma 4's layers share is counted for each of them
    most = 1.8 if kind in ("gemma4", "qwen3_vl_moe") else 1.15
    assert 0.85 * kept < planned.rows["activations: language model"] < most * kept


@pytest.mark.slow
def test_a_decoder_that_looks_at_its_values_cannot_be_planned(tmp_path: Path) -> None:
    model = build(["video"], backbone=save_vlm(tmp_path, "qwen4_exp"))
    with pytest.raises(
        OptionsError, match=r"memory of a 'qwen4_exp' model cannot be planned: .* Start with a small mic"
    ):
        plan(model, batch_size=1)


@pytest.mark.slow
def test_memory_is_planned_on_shapes() -> None:
    model = build(["video", SOUND], backbone="qwen3-vl-4b", qformer="blip2-flan-t5-xl", precision="bf16")
    found = plan(model, batch_size=4)
    kept = plan(model, batch_size=4, gradient_checkpointing=True)
    assert found.rows["weights: frozen"] > 2 * 4.4e9
    assert kept.rows["activations: language model"] < 0.2 * found.rows["activations: language model"]


def test_a_qformer_of_another_kind_and_an_unknown_processor_are_refused(tmp_path: Path) -> None:
    folder = save_vlm(tmp_path, "ovis2")
    request = BackboneRequest(BackboneSettings(backbone=str(folder)), str(folder))
    with pytest.raises(
        CheckpointError, match=r"'ovis2' model, whose visual tokens cannot be counted .* Accepted: shap"
    ):
        family.FAMILY.shape(AutoConfig.from_pretrained(folder), request)
    with pytest.raises(CheckpointError, match=r"qformer='qwen3-vl-4b' is a 'qwen3_vl' model"):
        load_backbone("qwen3-vl-4b", qformer="qwen3-vl-4b")
