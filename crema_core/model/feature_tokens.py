"""Features in the place of tokens, for a fusion that lets several modalities pass the Q-Former together.

Such a fusion (`Fusion.reads_features`) gets what the frozen encoders gave, with the text the Q-Former reads beside it,
and applies the connectors itself. Nothing is trained on the way, so nothing has to be computed again after an update.

Shape letters: R samples that have the modality, T steps, N tokens of a step, D feature width, P tokens of a question.
"""

from __future__ import annotations

import torch

from crema_core.fusion.connector import Connector, QFormerText
from crema_core.modality import Features
from crema_core.tokens import ModalityFeatures, ModalityTokens

TEXT_IDS, TEXT_MASK = "qformer_text_ids", "qformer_text_mask"
"""Names among the extras of what the Q-Former reads, `(R, P)`."""


def pack_features(features: ModalityFeatures, text: QFormerText | None = None) -> ModalityTokens:
    """Return features `(R, T, N, D)` as tokens, with each sample's own text among the extras."""
    values, mask, times, extras = features.features
    if text is not None:
        own = text.rows(features.rows)
        extras = {**extras, TEXT_IDS: own.ids, TEXT_MASK: own.mask}
    return ModalityTokens(values, features.steps, features.rows, times, mask if mask.dim() == 3 else None, extras)


def unpack_features(tokens: ModalityTokens) -> tuple[ModalityFeatures, QFormerText | None]:
    """Return what was packed: the features, numbered from 0, and their R texts."""
    extras = {name: own for name, own in tokens.extras.items() if name not in (TEXT_IDS, TEXT_MASK)}
    mask = tokens.mask if tokens.token_mask is None else tokens.token_mask
    rows = torch.arange(tokens.rows.shape[0], device=tokens.rows.device)
    features = ModalityFeatures(Features(tokens.values, mask, tokens.times, extras), rows)
    if TEXT_IDS not in tokens.extras:
        return features, None
    return features, QFormerText(tokens.extras[TEXT_IDS], tokens.extras[TEXT_MASK])


def run_connector(connector: Connector, tokens: ModalityTokens) -> ModalityTokens:
    """Return the tokens a connector makes of packed features, as if nothing had been between them."""
    features, text = unpack_features(tokens)
    made: ModalityTokens = connector(features, text)
    return made._replace(rows=tokens.rows)
