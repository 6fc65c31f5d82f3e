"""Visual tokens and the words of what they see."""

from __future__ import annotations

import torch
from torch import nn

from crema_world.pictures import draw_pictures
from crema_world.prompts import token_ids
from crema_world.seen_things import thing_words, token_loss


def test_a_visual_token_should_say_what_it_sees() -> None:
    """Things lie left, in the middle and right; a board's bands are 24, 16 and 24 pixels wide, a token sees 16."""
    pictures = draw_pictures(40, seed=3)
    embedding = nn.Embedding(200, 96)
    words, seen = thing_words(pictures, embedding)
    things = [set(own) for own in pictures.things]
    assert not any(bool(seen[row].any()) for row, own in enumerate(things) if not own)
    named = 0
    for row in range(len(things)):
        for token in seen[row].nonzero().flatten().tolist():
            said = [
                thing
                for thing in things[row]
                if torch.allclose(
                    words[row, token], embedding(torch.tensor([token_ids(word)[0] for word in thing])).sum(0)
                )
            ]
            assert said
            column = token % 4
            assert {thing[0] for thing in said} & {0: {"left", "middle"}, 1: {"left", "middle"},
                                                   2: {"middle", "right"}, 3: {"middle", "right"}}[column]  # fmt: skip
            named += 1
    assert named > 100
    quiet = words[~seen]
    assert float(quiet.detach().abs().max()) == 0
    assert float(token_loss(words, words, seen)) == 0
