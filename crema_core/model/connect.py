"""Making the connector a strategy asks for, and saying so where backbone or sense cannot give it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from crema_core.api.encoder_requests import not_mixed, nothing_to_mix
from crema_core.errors import BuildError
from crema_core.modality import Modality
from crema_core.model.backbone import TINY, Backbone
from crema_core.model.connector import Connector, FeatureConnector
from crema_core.model.encoders import EncodersConnector, encoder_layout
from crema_core.model.mmqa import MMQA
from crema_core.model.video_families import VIDEO_FAMILIES
from crema_core.model.video_language import VideoBackbone, VisualConnector
from crema_core.plugins.spec import MMQASpec


def make_connector(
    kind: str, modality: Modality, sizes: MMQASpec, backbone: Backbone, options: Mapping[str, Any]
) -> Connector:
    """Return what stands between a sense's features and the fusion.

    Args:
        kind: of the connector, as a strategy names it.
        modality: the sense.
        sizes: of an adapter around the Q-Former, number of queries filled in.
        backbone: it is built for.
        options: of the connector, as given with the strategy.

    Raises:
        BuildError: when this backbone or this sense has no such connector.
    """
    layout = encoder_layout(modality)
    if layout and kind != EncodersConnector.kind:
        raise BuildError([not_mixed(modality.spec.name, (one.name for one in layout))])
    return _MAKERS[kind](modality, sizes, backbone, options)


def _qformer(modality: Modality, sizes: MMQASpec, backbone: Backbone, options: Mapping[str, Any]) -> Connector:
    name, vision = modality.spec.name, backbone.vision_model
    if backbone.qformer is None or backbone.query_tokens is None:
        raise BuildError(
            [
                f"'{name}' is to pass a Q-Former, and the backbone '{backbone.source}' has none. Accepted: backbones "
                f"in BLIP-2 or InstructBLIP format. Use backbone='{TINY}' or 'Salesforce/blip2-flan-t5-xl'."
            ]
        )
    adapter = MMQA(name, sizes, backbone.qformer, feature_dim=modality.feature_dim, output_dim=backbone.language_dim)
    adapter.start_from(
        queries=backbone.query_tokens,
        output=backbone.language_projection,
        norm=getattr(vision, "post_layernorm", None) if modality.spec.encoder == "vision" else None,
    )
    return adapter


def _features(modality: Modality, sizes: MMQASpec, backbone: Backbone, options: Mapping[str, Any]) -> Connector:
    return FeatureConnector(modality.feature_dim)


def _visual(modality: Modality, sizes: MMQASpec, backbone: Backbone, options: Mapping[str, Any]) -> Connector:
    name = modality.spec.name
    if not isinstance(backbone, VideoBackbone):
        raise BuildError(
            [
                f"The tokens of '{name}' are to be a video language model's own, and the backbone '{backbone.source}' "
                f"is none. Accepted: {', '.join(VIDEO_FAMILIES)} of transformers. Use "
                "backbone='llava-hf/llava-onevision-qwen2-0.5b-ov-hf'."
            ]
        )
    if modality.spec.encoder != "vision" or modality.feature_dim != backbone.vision_dim:
        raise BuildError(
            [
                f"The tokens of '{name}' are to be the video language model's own, and this sense brings features of "
                f"another encoder ({modality.feature_dim} wide, the backbone's are {backbone.vision_dim}). Accepted: a "
                "major sense that sees through the backbone. Leave its encoder option out, or make another sense major."
            ]
        )
    return VisualConnector(backbone)


def _encoders(modality: Modality, sizes: MMQASpec, backbone: Backbone, options: Mapping[str, Any]) -> Connector:
    layout = encoder_layout(modality)
    if not layout:
        raise BuildError([nothing_to_mix(modality.spec.name)])
    return EncodersConnector(layout, width=backbone.language_dim, **options)


_MAKERS: dict[str, Callable[[Modality, MMQASpec, Backbone, Mapping[str, Any]], Connector]] = {
    "qformer": _qformer,
    "features": _features,
    "visual": _visual,
    "encoders": _encoders,
}
