"""Stage 3: the Q-Former of crema-tiny learns to tell the frozen language model what the frozen ViT sees.

As in BLIP-2 only the Q-Former, its queries and the projection learn, in two steps. First the soft tokens are pulled to
the words of the picture (three queries, one per thing; the language model is not even run). Then they learn from the
language model's own loss on captions and questions, in the layout of the prompts that the core will build; what
supporting modalities say stands behind the frames as soft facts.

Shape letters: B samples, T frames, L prompt positions, P tokens of a picture (65), Q queries (8), S things (3),
D width, N pictures.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import Blip2ForConditionalGeneration

from crema_core.model.trainable import names_of, set_trainable
from crema_world.language_stage import answer_labels, embed_prompts, rate_factor
from crema_world.pictures import Pictures
from crema_world.prompts import NUM_QUERIES, Label, Prompt, end_prompt, tell_facts, token_ids
from crema_world.render import ByteArray
from crema_world.text import TextScene, draw_text_scene, draw_told_question
from crema_world.vision_stage import normalize, patch_features

PEAK_RATE = 1e-3
_QUIET = 0.1
"""Weight of keeping the queries that name no thing near zero."""


def train_captions(
    model: Blip2ForConditionalGeneration,
    pictures: Pictures,
    *,
    num_align_steps: int,
    num_steps: int,
    batch_size: int,
    seed: int,
    report: Callable[[str], None] = print,
) -> None:
    """Train Q-Former, queries and projection in place.

    Args:
        model: the backbone; ViT and language model stay as they are.
        pictures: abstract ones are left out.
        num_align_steps: steps of pulling soft tokens to words.
        num_steps: steps on the language model's loss.
        batch_size: pictures per step.
        seed: seed of data and noise.
        report: receives a status line every 250 steps.
    """
    generator, noise = random.Random(seed), torch.Generator().manual_seed(seed)
    captioned = [row for row, things in enumerate(pictures.things) if things]
    things = [pictures.things[row] for row in captioned]
    features_NPD = encode_pictures(model, pictures.images[captioned])
    embedding = model.language_model.get_input_embeddings()
    learning = [model.query_tokens, *model.qformer.parameters(), *model.language_projection.parameters()]
    set_trainable(model, names_of(model, learning))
    words_NSD = torch.stack([embedding(torch.tensor(_word_ids(labels))).sum(1) for labels in things])
    optimizer = torch.optim.AdamW(learning, lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    total = num_align_steps + num_steps
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_factor(step, total))
    model.train()
    hits: list[bool] = []
    for step in range(1, total + 1):
        rows = generator.sample(range(len(things)), min(batch_size, len(things)))
        tokens_BQD = query_pictures(model, features_NPD[rows].float())
        if step <= num_align_steps:
            loss = alignment_loss(tokens_BQD, words_NSD[rows])
        else:
            early = step < num_align_steps + 0.5 * num_steps  # short prompts first, as in the language stage
            num_frames, dense = 1 if early else generator.choice((1, 1, 2, 2, 4)), step % 2 == 0
            brief = generator.random() < (0.6 if early else 0.1)
            drawn = [
                draw_picture_prompt(things[row], generator, dense=dense, num_frames=num_frames, brief=brief)
                for row in rows
            ]
            prompt_BLD, mask_BL = embed_prompts(embedding, [prompt for prompt, _ in drawn], noise)
            prompt_BLD = place_frames(prompt_BLD, tokens_BQD, num_frames=num_frames)
            labels_BA = answer_labels([answer for _, answer in drawn])
            out = model.language_model(inputs_embeds=prompt_BLD, attention_mask=mask_BL, labels=labels_BA)
            loss = out.loss
            if not dense:
                hits += (out.logits[:, 0].argmax(-1) == labels_BA[:, 0]).tolist()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        schedule.step()
        if step % 250 == 0 or step == total:
            accuracy = f"  accuracy {np.mean(hits):.3f}" if hits else ""
            report(f"captions {step}/{total}  loss {loss.item():.3f}{accuracy}")
            hits.clear()
    set_trainable(model, dict(model.named_parameters()).keys())


def alignment_loss(tokens_BQD: Tensor, words_BSD: Tensor) -> Tensor:
    """Return how far the first S soft tokens are from the summed words of the things, in units of the words' spread."""
    named, quiet = tokens_BQD[:, : words_BSD.shape[1]], tokens_BQD[:, words_BSD.shape[1] :]
    return ((named - words_BSD).square().mean() + _QUIET * quiet.square().mean()) / words_BSD.var() * 3


def _word_ids(things: Sequence[Label]) -> list[list[int]]:
    """Return for every thing the ids of its slot, colour and shape."""
    return [[token_ids(word)[0] for word in thing] for thing in things]


@torch.no_grad()
def encode_pictures(model: Blip2ForConditionalGeneration, images_NHWC: ByteArray) -> Tensor:
    """Run the ViT once on all pictures, `(N, P, D)` float16 to save memory."""
    vision = model.vision_model
    parts = np.array_split(images_NHWC, -(-len(images_NHWC) // 256))
    return torch.cat([vision.post_layernorm(patch_features(vision, normalize(part))).half() for part in parts])


def query_pictures(model: Blip2ForConditionalGeneration, features_BPD: Tensor) -> Tensor:
    """Ask the Q-Former what the pictures show: features `(B, P, D)` -> soft tokens `(B, Q, D)`."""
    queries_BQD = model.query_tokens.expand(len(features_BPD), -1, -1)
    told = model.qformer(query_embeds=queries_BQD, encoder_hidden_states=features_BPD)
    tokens_BQD: Tensor = model.language_projection(told.last_hidden_state)
    return tokens_BQD


def draw_picture_prompt(
    things: Sequence[Label], generator: random.Random, *, dense: bool, num_frames: int, brief: bool
) -> tuple[Prompt, str]:
    """Draw a prompt about a picture of `things`, with empty positions where its soft tokens go, and its answer."""
    scene = draw_text_scene(generator, things=list(things))
    if brief:
        scene = TextScene(scene.things, {})
    known, question, answer = draw_told_question(scene, generator, dense=dense)
    prompt = Prompt()
    for frame in range(1, num_frames + 1):
        prompt.say(f"frame {frame} :")
        for _ in range(NUM_QUERIES):
            prompt.add([0], [0.0], soft=True)
    tell_facts(prompt, known, generator, num_frames=num_frames)
    end_prompt(prompt, question, generator)
    return prompt, answer


def place_frames(prompt_BLD: Tensor, tokens_BQD: Tensor, *, num_frames: int) -> Tensor:
    """Put a picture's soft tokens `(B, Q, D)` behind each `frame i :` of prompts `(B, L, D)`; all frames are equal."""
    prefix = 3
    parts = [
        part
        for frame in range(num_frames)
        for part in (_prefix_of(prompt_BLD, frame * (prefix + NUM_QUERIES), prefix), tokens_BQD)
    ]
    return torch.cat([*parts, prompt_BLD[:, num_frames * (prefix + NUM_QUERIES) :]], dim=1)


def _prefix_of(prompt_BLD: Tensor, start: int, length: int) -> Tensor:
    return prompt_BLD[:, start : start + length]
