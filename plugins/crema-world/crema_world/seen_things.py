"""What every visual token of a picture should say to a language model: slot, colour and shape of the thing it sees.

The tiny video backbone's language model learns things as sums of words; visual tokens are pulled to such sums first.

Shape letters: N pictures, B samples, S visual tokens of a frame, L width.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from torch import Tensor, nn

from crema_world.backbone import WIDTH
from crema_world.pictures import COLOR_LABELS, SHAPE_LABELS, Pictures
from crema_world.prompts import Label, token_ids
from crema_world.scene import SLOTS

SIDE = 4
"""Visual tokens in a row or column of a frame."""
QUIET = 0.1
"""Weight of tokens that see no thing."""


@torch.no_grad()
def thing_words(pictures: Pictures, embedding: nn.Module) -> tuple[Tensor, Tensor]:
    """Return what every visual token should say: slot, colour and shape of the thing it sees, summed.

    Args:
        pictures: with labels of 8 x 8 patches; a visual token covers 2 x 2 of them.
        embedding: word ids -> vectors of width L.

    Returns:
        sums `(N, S, L)`, zero for tokens that see no thing, and which see one `(N, S)` bool.
    """
    words = torch.zeros(len(pictures.things), SIDE * SIDE, WIDTH)
    seen = torch.zeros(len(pictures.things), SIDE * SIDE, dtype=torch.bool)
    for row, things in enumerate(pictures.things):
        for token in range(SIDE * SIDE if things else 0):
            if thing := _seen_thing(pictures, row, divmod(token, SIDE)):
                ids = torch.tensor([token_ids(word)[0] for word in thing])
                words[row, token], seen[row, token] = embedding(ids).sum(0), True
    return words, seen


def _seen_thing(pictures: Pictures, row: int, cell: tuple[int, int]) -> Label | None:
    """Return the thing most labelled patches of a 2 x 2 cell show; of equal things the one whose place it is."""
    place = np.s_[row, 2 * cell[0] : 2 * cell[0] + 2, 2 * cell[1] : 2 * cell[1] + 2]
    square = (-1, 2 * SIDE, 2 * SIDE)
    pairs = zip(pictures.colors.reshape(square)[place].flat, pictures.shapes.reshape(square)[place].flat, strict=True)
    found = Counter((int(color), int(shape)) for color, shape in pairs if color > 0 and shape > 0)
    if not found:
        return None
    color, shape = found.most_common(1)[0][0]
    looks = (COLOR_LABELS[color], SHAPE_LABELS[shape])
    alike = [thing for thing in pictures.things[row] if thing[1:] == looks]
    middle = 3 * cell[1] / (SIDE - 1)  # 0..3 over the picture; slots lie at 0.5, 1.5 and 2.5
    return min(alike, key=lambda thing: abs(SLOTS.index(thing[0]) + 0.5 - middle), default=None)


def token_loss(tokens_BSL: Tensor, words_BSL: Tensor, seen_BS: Tensor, *, quiet: float = QUIET) -> Tensor:
    """Return how far tokens are from the words of what they see, in units of the words' spread; others be quiet.

    Args:
        tokens_BSL: visual tokens.
        words_BSL: what each should say.
        seen_BS: which see a thing.
        quiet: weight of the others.
    """
    error_BS = (tokens_BSL - words_BSL).square().mean(-1)
    return (error_BS[seen_BS].mean() + quiet * error_BS[~seen_BS].mean()) / words_BSL[seen_BS].var() * 3
