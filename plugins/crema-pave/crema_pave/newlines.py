"""Visual tokens as LLaVA-OneVision's language model reads them: with a learned newline vector in between.

The model pools 27 x 27 tokens of a frame to 14 x 14, and released runs end each of the 14 rows with a newline: 32
frames are 32 x 14 x 15 = 6720 tokens, not the 6272 the paper counts.

Shape letters: B samples, F frames, S tokens of a frame, K with newlines, L width.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from crema_core.errors import OptionsError
from crema_core.tokens import OWN_LAYOUT, ModalityTokens
from crema_pave.rotary import Grid, square_grid

Newlines = Literal["grid", "frame", "one_token", "none"]


class VisualTokens(NamedTuple):
    """Tokens with newlines.

    Attributes:
        values: `(B, F, K, L)`.
        mask: `(B, F, K)` bool, real tokens; the prompt is these in order.
    """

    values: Tensor
    mask: Tensor


def add_newlines(
    tokens: Tensor,
    newline: Tensor,
    *,
    layout: Newlines,
    frame_mask: Tensor | None = None,
    grid: Grid | None = None,
) -> VisualTokens:
    """Put the newline vector where a layout wants it.

    Args:
        tokens: `(B, F, S, L)`, row by row.
        newline: `(L,)`, the checkpoint's learned vector.
        layout: "grid" after every row, "frame" after every frame, "one_token" once after a sample's last frame,
            "none" nowhere.
        frame_mask: `(B, F)` bool, real frames; None for all.
        grid: rows and columns of the S tokens; None for a square. Only "grid" needs it.

    Returns:
        K is S, S + 1 for "frame" and "one_token", or rows x (columns + 1) for "grid".

    Raises:
        OptionsError: for an unknown layout, or tokens that make no grid.
    """
    if layout not in get_args(Newlines):
        raise OptionsError(
            f"newlines={layout!r} is not a layout. Accepted: {', '.join(get_args(Newlines))}. Use newlines='grid', as "
            "LLaVA-OneVision for clips."
        )
    batch, num_frames, num_tokens, width = tokens.shape
    if frame_mask is None:
        frame_mask = torch.ones(batch, num_frames, dtype=torch.bool, device=tokens.device)
    if layout == "grid":
        rows, columns = square_grid(num_tokens, grid, of="query")
        lines = tokens.unflatten(2, (rows, columns))
        ends = newline.to(tokens.dtype).expand(batch, num_frames, rows, 1, width)
        tokens = torch.cat([lines, ends], dim=3).flatten(2, 3)
    elif layout != "none":
        tokens = torch.cat([tokens, newline.to(tokens.dtype).expand(batch, num_frames, 1, width)], dim=2)
    mask = frame_mask[:, :, None].expand(tokens.shape[:3])
    if layout == "one_token":
        later = frame_mask.flip(1).long().cumsum(1).flip(1)  # real frames from this one on
        mask = torch.cat([mask[:, :, :-1], (frame_mask & (later == 1))[:, :, None]], dim=2)
    return VisualTokens(tokens, mask)


def lay_out(major: ModalityTokens, tokens_RFSW: Tensor, newlines: Newlines) -> VisualTokens:
    """Return a model's own visual tokens with the newlines of clips.

    The model gives a clip's newline as its last token, which is where transformers has it; a picture keeps those that
    its processor gave it.

    Args:
        major: the tokens' modality, R samples: their mask, grid and newline.
        tokens_RFSW: `(R, F, S, W)`, its tokens, updated or not.
        newlines: where the newline is placed.
    """
    mask_RFS = major.mask[:, :, None].expand(tokens_RFSW.shape[:3])
    mask_RFS = mask_RFS if major.token_mask is None else major.token_mask
    layout_RF2 = major.extras[OWN_LAYOUT]
    of_frames_R = (layout_RF2.prod(-1) * major.mask).sum(1)
    ends_R = mask_RFS.sum((1, 2)) > of_frames_R
    if newlines == "one_token" or not bool(ends_R.any()):
        return VisualTokens(tokens_RFSW, mask_RFS)
    laid = []
    for row, (own_FSW, mask_FS) in enumerate(zip(tokens_RFSW, mask_RFS, strict=True)):
        rows, columns = layout_RF2[row, 0].tolist()
        if not bool(ends_R[row]):
            laid.append((own_FSW, mask_FS))
            continue
        real_F = major.mask[row]
        newline_W = own_FSW[real_F][-1, rows * columns]
        added = add_newlines(
            own_FSW[None, :, : rows * columns],
            newline_W,
            layout=newlines,
            frame_mask=real_F[None],
            grid=(rows, columns),
        )
        laid.append((added.values[0], added.mask[0]))
    most = max(len(mask_FS[0]) for _, mask_FS in laid)
    values = [F.pad(own_FSW, (0, 0, 0, most - own_FSW.shape[1])) for own_FSW, _ in laid]
    masks = [F.pad(mask_FS, (0, most - mask_FS.shape[1])) for _, mask_FS in laid]
    return VisualTokens(torch.stack(values), torch.stack(masks))
