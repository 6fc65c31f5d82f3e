"""Making the connector of a sense: the strategy's own, or the adapter around the backbone's Q-Former."""

from __future__ import annotations

from crema_core.errors import BuildError
from crema_core.fusion.connector import Connector, ConnectorFactory, ConnectorRequest
from crema_core.model.backbone import TINY, Backbone
from crema_core.model.mmqa import MMQA


def make_connector(factory: ConnectorFactory | None, request: ConnectorRequest, backbone: Backbone) -> Connector:
    """Return what stands between a sense's features and the fusion.

    Args:
        factory: the strategy's own; None: an adapter around the Q-Former.
        request: what it is built for.
        backbone: the same one as the request's, whole.

    Raises:
        BuildError: when this backbone or this sense has no such connector.
    """
    return _around_qformer(request, backbone) if factory is None else factory(request)


def _around_qformer(request: ConnectorRequest, backbone: Backbone) -> Connector:
    modality, vision = request.modality, backbone.vision_model
    name = modality.spec.name
    if backbone.qformer is None or backbone.query_tokens is None:
        raise BuildError(
            [
                f"'{name}' is to pass a Q-Former, and the backbone '{backbone.source}' has none. Accepted: backbones "
                f"in BLIP-2 or InstructBLIP format. Use backbone='{TINY}' or 'Salesforce/blip2-flan-t5-xl'."
            ]
        )
    adapter = MMQA(
        name, request.sizes, backbone.qformer, feature_dim=modality.feature_dim, output_dim=backbone.language_dim
    )
    adapter.start_from(
        queries=backbone.query_tokens,
        output=backbone.language_projection,
        norm=getattr(vision, "post_layernorm", None) if modality.spec.encoder == "vision" else None,
    )
    return adapter
