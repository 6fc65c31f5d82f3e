"""Stage 1: the T5 of crema-tiny learns the language of the world from text alone.

Binding ("the colour of *that* thing") comes as a phase transition: long flat losses are normal. What carries the model
through is dense supervision, every second batch asks for descriptions, and a learning rate that decays only at the end.

Shape letters: B samples, L prompt positions, K words summed at a position, A answer tokens, D model width.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import silu
from transformers import T5ForConditionalGeneration

from crema_world.prompts import Prompt, token_ids
from crema_world.text import draw_text_sample

PEAK_RATE = 1e-3
WARMUP_STEPS = 300


def train_language(
    model: T5ForConditionalGeneration,
    *,
    num_steps: int,
    batch_size: int,
    seed: int,
    report: Callable[[str], None] = print,
) -> None:
    """Train in place.

    Args:
        model: the language model, updated.
        num_steps: optimizer steps.
        batch_size: samples per step.
        seed: seed of data and noise.
        report: receives a status line every 500 steps.
    """
    generator, noise = random.Random(seed), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_factor(step, num_steps))
    model.train()
    for step in range(1, num_steps + 1):
        early = step < 0.6 * num_steps  # short prompts first: they are quick and the binding is learnt on them
        num_frames = 1 if early else generator.choice((1, 1, 2, 2, 4))
        brief = generator.random() < (0.6 if early else 0.1)
        samples = [
            draw_text_sample(generator, dense=step % 2 == 0, num_frames=num_frames, brief=brief)
            for _ in range(batch_size)
        ]
        prompts, answers = zip(*samples, strict=True)
        prompt_BLD, mask_BL = embed_prompts(model.get_input_embeddings(), prompts, noise)
        loss = model(inputs_embeds=prompt_BLD, attention_mask=mask_BL, labels=answer_labels(answers)).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 500 == 0 or step == num_steps:
            accuracy = language_accuracy(model, num_samples=256, seed=seed + 1)
            report(f"language {step}/{num_steps}  loss {loss.item():.3f}  accuracy {accuracy:.3f}")


@torch.no_grad()
def language_accuracy(model: T5ForConditionalGeneration, *, num_samples: int, seed: int) -> float:
    """Return how often, in 0..1, the most likely first word answers a question on a text."""
    generator, noise = random.Random(seed), torch.Generator().manual_seed(seed)
    samples = [draw_text_sample(generator, dense=False, num_frames=2) for _ in range(num_samples)]
    prompts, answers = zip(*samples, strict=True)
    prompt_BLD, mask_BL = embed_prompts(model.get_input_embeddings(), prompts, noise)
    labels_BA = answer_labels(answers)
    logits_BAV = model(inputs_embeds=prompt_BLD, attention_mask=mask_BL, labels=labels_BA).logits
    return float((logits_BAV[:, 0].argmax(-1) == labels_BA[:, 0]).float().mean())


def embed_prompts(
    embedding: torch.nn.Module, prompts: Sequence[Prompt], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Turn prompts into noisy embeddings.

    Soft positions of half the samples go through x * sigmoid(x), as they will after self-gated fusion.

    Args:
        embedding: word ids -> vectors of width D.
        prompts: B prompts.
        generator: source of the noise.

    Returns:
        Embeddings `(B, L, D)` and the mask `(B, L)`, 1 for real positions.
    """
    length = max(len(prompt.words) for prompt in prompts)
    depth = max(len(words) for prompt in prompts for words in prompt.words)
    ids = [[*(_pad(words, depth) for words in p.words), *[[0] * depth] * (length - len(p.words))] for p in prompts]
    scale = [[*(_pad(w, depth) for w in p.weights), *[[0.0] * depth] * (length - len(p.words))] for p in prompts]
    summed_BLD = torch.einsum("blkd,blk->bld", embedding(torch.tensor(ids)), torch.tensor(scale, dtype=torch.float32))
    soft_BL1 = torch.tensor([_pad(prompt.soft, length) for prompt in prompts])[..., None]
    level_B11 = 0.4 * torch.rand(len(prompts), 1, 1, generator=generator)
    noise_BLD = torch.randn(summed_BLD.shape, generator=generator) * level_B11
    noisy_BLD = summed_BLD + noise_BLD * torch.where(soft_BL1, 1.0, 0.3)
    gated_B11 = torch.rand(len(prompts), 1, 1, generator=generator) < 0.5
    prompt_BLD = torch.where(soft_BL1 & gated_B11, silu(1.5 * noisy_BLD), noisy_BLD)
    return prompt_BLD, torch.tensor([_pad([1] * len(prompt.words), length) for prompt in prompts])


def answer_labels(answers: Sequence[str]) -> Tensor:
    """Return label ids `(B, A)` with `</s>` at the end and -100 where nothing is to be learnt."""
    ids = [[*token_ids(answer), 1] for answer in answers]
    longest = max(map(len, ids))
    return torch.tensor([row + [-100] * (longest - len(row)) for row in ids])


def rate_factor(step: int, num_steps: int) -> float:
    """Return the learning rate's factor: warm-up, then constant, then linear decay over the last third."""
    return min(1.0, (step + 1) / WARMUP_STEPS, max(0.02, 3 * (num_steps - step) / num_steps))


def _pad(values: Sequence[float], length: int) -> list[float]:
    return [*values, *[type(values[0])(0)] * (length - len(values))]
