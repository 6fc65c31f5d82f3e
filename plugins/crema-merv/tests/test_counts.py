"""The paper's numbers of parameters, on the meta device, so that nothing is allocated."""

from __future__ import annotations

import functools

import pytest
import timm
import torch
import transformers as hf
from torch import nn

from crema_core.modality import FeaturePart
from crema_encoders.languagebind import TimeAwareVision
from crema_merv.merv import Merv
from crema_merv.mixers import ChannelMixer, CrossAttentionMixer, ScalarMixer
from crema_merv.projectors import Projector
from crema_merv.released_mixer import ReleasedMixer

WIDTH = 4096
LAYOUT = (
    FeaturePart("languagebind", 16, 16, 16, 1024),
    FeaturePart("dinov2", 16, 16, 16, 1024),
    FeaturePart("vivit", 16, 14, 14, 768),
    FeaturePart("siglip", 16, 14, 14, 768),
)
PROJECTORS, RELEASED_MIXER = 14_696_448, 44_055_552
# Maps of values and output, half of them, and the key's bias, which the softmax cancels: never a gradient.
NEVER_TRAINED = 3072 * WIDTH + 3072 * 3072 + 3072 + 2 * 3072


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@functools.cache
def encoders() -> dict[str, int]:
    clip = hf.CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, patch_size=14
    )
    with torch.device("meta"):
        languagebind = TimeAwareVision(clip, num_frames=8)
        dinov2 = timm.create_model("vit_large_patch14_reg4_dinov2", img_size=224, num_classes=0)
        vivit = hf.VivitModel(hf.VivitConfig(), add_pooling_layer=False)
        siglip = timm.create_model("vit_base_patch16_siglip_224", num_classes=0)
    # The norm of CLIP's pooled output, which is not run and not kept here, is counted by the paper.
    pooled_norm = 2 * 1024
    return {
        "languagebind": count(languagebind) + pooled_norm,
        "dinov2": count(dinov2),
        "vivit": count(vivit),
        "siglip": count(siglip),
    }


@functools.cache
def language_model() -> int:
    with torch.device("meta"):
        return count(hf.LlamaForCausalLM(hf.LlamaConfig(vocab_size=32_064)))


def merv(**options: str) -> Merv:
    with torch.device("meta"):
        return Merv(LAYOUT, width=WIDTH, **options)


def test_projectors_have_the_papers_number_of_parameters() -> None:
    own = merv()
    assert count(own.projectors) == PROJECTORS
    assert own.num_tokens == 64


def test_the_mixer_of_one_vector_replaces_44_million_parameters() -> None:
    assert count(merv().mixer) == WIDTH
    with torch.device("meta"):
        attention = nn.MultiheadAttention(3072, 1, kdim=WIDTH, vdim=WIDTH)
        factors = ReleasedMixer(4, width=WIDTH)
    assert count(attention) + 3072 == RELEASED_MIXER
    assert count(factors) == RELEASED_MIXER - NEVER_TRAINED == 22_026_240


@pytest.mark.parametrize(("kind", "expected"), [
    ("attentive", 12_661_760), ("conv", 237_384_960), ("conv_3d", 113_250_304),
])  # fmt: skip
def test_what_comes_before_the_map_has_the_papers_number_of_parameters(kind: str, expected: int) -> None:
    with torch.device("meta"):
        projector = Projector(LAYOUT[0], width=WIDTH, kind=kind)
    assert count(projector.resampler) == expected


def test_other_mixers_have_the_papers_number_of_parameters() -> None:
    with torch.device("meta"):
        assert count(ChannelMixer(4, width=WIDTH)) == 67_112_960
        assert count(ScalarMixer(4, width=WIDTH)) == 4
        assert count(CrossAttentionMixer(7, width=WIDTH)) == WIDTH


def test_encoders_have_the_papers_number_of_parameters() -> None:
    assert encoders() == {
        "languagebind": 404_187_136,
        "dinov2": 303_230_976,
        "vivit": 88_646_400,
        "siglip": 92_884_224,
    }


def test_all_of_merv_together() -> None:
    frozen = sum(encoders().values()) + language_model()
    assert language_model() == 6_738_939_904
    # The paper says 7686.0M and truncates.
    assert round((frozen + PROJECTORS + RELEASED_MIXER) / 1e6, 2) == 7686.64
    assert frozen + count(merv()) == 7_642_589_184


@pytest.mark.parametrize(("index", "millions"), [(0, 7147.0), (1, 7046.0), (2, 6830.0), (3, 6834.0)])
def test_a_single_encoder_without_a_mixer(index: int, millions: float) -> None:
    with torch.device("meta"):
        projector = Projector(LAYOUT[index], width=WIDTH)
    total = language_model() + list(encoders().values())[index] + count(projector)
    assert total // 1_000_000 == millions
