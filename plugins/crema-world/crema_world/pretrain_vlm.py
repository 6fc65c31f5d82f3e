"""Train a tiny vision-language model of today's shape: `python -m crema_world.pretrain_vlm --out FOLDER`.

Qwen3-VL's shape and format (frames in pairs with their times, positions in time, height and width, features added in
the decoder's first layer, chat turns), for trying what CREMA does on the models of today. Decoder and vision encoder
start as those of crema-tiny-video, which know the language of the world and its pictures. First the decoder learns its
new attention and the turns of a chat from text; then the vision encoder learns that each visual token says words for
the thing it sees and keeps how its place looks, of pictures without things too; then the decoder, and what is added in
its first layer, learn to answer about pictures, and every fourth batch is text. The package ships the result:
`crema-tiny-vlm`.

Shape letters: N pictures, B samples, T pairs of frames, S prompt length, A answer length, L width.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    LlavaOnevisionForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from crema_core.model.checkpoint import BACKBONE, TEMPLATE
from crema_core.model.language import IGNORED
from crema_core.model.shipped import tiny_backbone_path
from crema_core.model.vlm.hooks import placed
from crema_world.backbone import IMAGE_MEAN, IMAGE_STD, WIDTH
from crema_world.errors import WorldError
from crema_world.language_stage import embed_prompts
from crema_world.pictures import PATCH_SIZE, Pictures, draw_pictures
from crema_world.prompts import Prompt, end_prompt, tell_facts, token_ids
from crema_world.scene import IMAGE_SIZE
from crema_world.seen_things import SIDE, thing_words, token_loss
from crema_world.stage import train_stage
from crema_world.text import TextScene, draw_lookup_sample, draw_text_sample, draw_text_scene, draw_told_question
from crema_world.vision_stage import normalize
from crema_world.vocabulary import make_tokenizer

PICTURE_RATE = 3e-4
COARSE = 4
"""Side in cells of what a visual token is to rebuild."""
REBUILD = 3.0
QUIET = 0.01
"""Weight of tokens that see no thing; small, for these too keep how their place looks: maps have no things."""
START, END = "<|im_start|>", "</s>"
SEEN, PAST, IMAGE, CLIP = "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"
SPECIAL = (START, SEEN, PAST, IMAGE, CLIP)
TIME = ("<", ">", "seconds")
MAX_TOKENS = 32_768
FRAMES_PER_SECOND = 8
MAX_FRAMES = 64
"""Of a clip before its frames are made smaller."""
CHAT = (
    "{% for turn in messages %}{{ '" + START + "' + turn['role'] + '\\n' }}"
    "{% if turn['content'] is string %}{{ turn['content'] }}{% else %}{% for part in turn['content'] %}"
    "{% if part['type'] == 'image' %}{{ '" + SEEN + IMAGE + PAST + "' }}"
    "{% elif part['type'] == 'video' %}{{ '" + CLIP + "' }}"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}{{ '" + END + "\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '" + START + "assistant\\n' }}{% endif %}"
)


def pretrain_vlm(
    out: Path,
    *,
    language_steps: int = 600,
    align_steps: int = 1000,
    picture_steps: int = 400,
    num_pictures: int = 12_000,
    batch_size: int = 48,
    seed: int = 0,
    report: Callable[[str], None] = print,
) -> None:
    """Train and write a tiny vision-language model.

    Args:
        out: a new or empty folder.
        language_steps: steps of the decoder on text.
        align_steps: steps of the vision encoder on what visual tokens should say.
        picture_steps: steps of everything on pictures.
        num_pictures: pictures drawn.
        batch_size: samples per step.
        seed: of new weights, data and noise.
        report: receives a status line every 250 steps.

    Raises:
        WorldError: when `out` is not empty. Nothing is written then.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise WorldError(
            f"{out} exists and is not an empty folder. A backbone is written only into a new or empty folder. "
            "Choose another folder with --out. Nothing was changed."
        )
    model, tokenizer = new_vlm(seed=seed)
    generator, noise = random.Random(seed), torch.Generator().manual_seed(seed)

    def text_loss(step: int) -> Tensor:
        dense = step % 2 == 0
        if step % 4 < 2:
            drawn = [draw_lookup_sample(generator, dense=dense) for _ in range(batch_size)]
        else:
            drawn = [
                draw_text_sample(generator, dense=dense, num_frames=1, brief=generator.random() < 0.3)
                for _ in range(batch_size)
            ]
        return _loss(model, [(_as_turn(tokenizer, prompt), answer) for prompt, answer in drawn], noise)

    pictures = draw_pictures(num_pictures, seed=seed)
    shown = [row for row, things in enumerate(pictures.things) if things]
    words, seen = thing_words(pictures, model.get_input_embeddings())

    rebuild = nn.Linear(WIDTH, 3 * COARSE**2)  # thrown away afterwards

    def align_loss(step: int) -> Tensor:
        rows = generator.sample(shown if step % 2 else range(num_pictures), batch_size)
        pixels = normalize(pictures.images[rows])
        patches, grid = cut(pixels, num_steps=1)
        tokens = model.model.visual(patches, grid_thw=grid).pooler_output.unflatten(0, (batch_size, -1))
        loss = REBUILD * F.mse_loss(rebuild(tokens), coarse_cells(pixels))
        return loss + token_loss(tokens, words[rows], seen[rows], quiet=QUIET) if step % 2 else loss

    def picture_loss(step: int) -> Tensor:
        rows, num_steps = generator.sample(shown, batch_size), generator.choice((0, 1, 1, 2))
        drawn = [_asked(tokenizer, pictures, row, generator, dense=step % 2 == 0, num_steps=num_steps) for row in rows]
        return _loss(model, drawn, noise, cut(normalize(pictures.images[rows]), num_steps=num_steps or 1))

    def mixed_loss(step: int) -> Tensor:
        return text_loss(step // 4) if step % 4 == 0 else picture_loss(step)

    visual, decoder = model.model.visual, nn.ModuleList([model.model.language_model, model.lm_head])
    train_stage(decoder, text_loss, language_steps, "language", report)
    train_stage(nn.ModuleList([visual, rebuild]), align_loss, align_steps, "align", report)
    visual.requires_grad_(False)
    deep = visual.deepstack_merger_list.requires_grad_(True)
    train_stage(nn.ModuleList([decoder, deep]), mixed_loss, picture_steps, "pictures", report, rate=PICTURE_RATE)
    visual.requires_grad_(True)
    save_vlm(model.eval(), tokenizer, out)


def new_vlm(*, seed: int) -> tuple[Qwen3VLForConditionalGeneration, PreTrainedTokenizerFast]:
    """Return the model before training, made of crema-tiny-video where the two are alike, and its tokenizer."""
    tokenizer = make_tokenizer(ends=False)
    tokenizer.add_tokens(list(TIME))
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    tokenizer.chat_template, tokenizer.model_max_length = CHAT, MAX_TOKENS
    ids = tokenizer.get_vocab()
    config = Qwen3VLConfig(
        vision_config={
            "hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "depth": 3, "num_heads": 4, "patch_size": PATCH_SIZE,
            "spatial_merge_size": 2, "temporal_patch_size": 2, "num_position_embeddings": (2 * SIDE) ** 2,
            "out_hidden_size": WIDTH, "deepstack_visual_indexes": [1], "hidden_act": "gelu",
        },
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": WIDTH, "intermediate_size": 256, "num_hidden_layers": 4,
            "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": WIDTH // 4, "attention_bias": True,
            "max_position_embeddings": MAX_TOKENS, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1,
            "initializer_range": WIDTH**-0.5, "tie_word_embeddings": False,
            "rope_parameters": {
                "rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 4, 4], "mrope_interleaved": True,
            },
        },
        image_token_id=ids[IMAGE],
        video_token_id=ids[CLIP],
        vision_start_token_id=ids[SEEN],
        vision_end_token_id=ids[PAST],
        tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = Qwen3VLForConditionalGeneration(config)
    _start(model)
    return model, tokenizer


@torch.no_grad()
def _start(model: Any) -> None:
    """Copy what crema-tiny-video has in common; what is added to the decoder's layers starts at nothing."""
    tiny: Any = LlavaOnevisionForConditionalGeneration.from_pretrained(tiny_backbone_path("crema-tiny-video"))
    given = tiny.model.language_model.state_dict()
    embeddings = given.pop("embed_tokens.weight")
    text = model.model.language_model
    text.load_state_dict(given, strict=False)
    nn.init.normal_(text.embed_tokens.weight)
    text.embed_tokens.weight[: len(embeddings)] = embeddings
    model.lm_head.weight[: len(embeddings)] = tiny.lm_head.weight
    for layer in text.layers:
        layer.self_attn.o_proj.bias.zero_()
        for norm in (layer.self_attn.q_norm, layer.self_attn.k_norm):
            norm.weight.fill_(1.2)  # about the length of what these layers had without a norm
    theirs = getattr(tiny.model.vision_tower, "vision_model", tiny.model.vision_tower)
    ours = model.model.visual
    pixels = theirs.embeddings.patch_embedding
    ours.patch_embed.proj.weight.copy_(pixels.weight[:, :, None].expand_as(ours.patch_embed.proj.weight) / 2)
    ours.patch_embed.proj.bias.copy_(pixels.bias)
    ours.pos_embed.weight.copy_(theirs.embeddings.position_embedding.weight)
    for own, other in zip(ours.blocks, theirs.encoder.layers, strict=True):
        for name in ("weight", "bias"):
            parts = [getattr(getattr(other.self_attn, part), name) for part in ("q_proj", "k_proj", "v_proj")]
            getattr(own.attn.qkv, name).copy_(torch.cat(parts))
        own.attn.proj.load_state_dict(other.self_attn.out_proj.state_dict())
        own.norm1.load_state_dict(other.layer_norm1.state_dict())
        own.norm2.load_state_dict(other.layer_norm2.state_dict())
        own.mlp.linear_fc1.load_state_dict(other.mlp.fc1.state_dict())
        own.mlp.linear_fc2.load_state_dict(other.mlp.fc2.state_dict())
    for merger in ours.deepstack_merger_list:
        merger.linear_fc2.weight.zero_(), merger.linear_fc2.bias.zero_()


def cut(pixels_BCHW: Tensor, *, num_steps: int) -> tuple[Tensor, Tensor]:
    """Cut still pictures as the processor cuts clips.

    Args:
        pixels_BCHW: normalised.
        num_steps: pairs of frames T, all of them the same.

    Returns:
        patches `(B * T * 64, 384)` and sizes `(B, 3)` in patches.
    """
    side = SIDE
    cells = pixels_BCHW.unflatten(3, (side, 2, PATCH_SIZE)).unflatten(2, (side, 2, PATCH_SIZE))  # B C h i p w j q
    cells = cells.permute(0, 2, 5, 3, 6, 1, 4, 7).flatten(1, 4)  # B patches C p q
    pairs = cells[:, :, :, None].expand(-1, -1, -1, 2, -1, -1).flatten(2)
    grid = torch.tensor([[num_steps, 2 * side, 2 * side]]).expand(len(pixels_BCHW), -1)
    return pairs.repeat(1, num_steps, 1).flatten(0, 1), grid


def coarse_cells(pixels_BCHW: Tensor) -> Tensor:
    """Return what every visual token covers as 4 x 4 mean colours, `(B, 16, 48)`."""
    small = F.avg_pool2d(pixels_BCHW, IMAGE_SIZE // (SIDE * COARSE))
    return F.unfold(small, COARSE, stride=COARSE).transpose(1, 2)


def _as_turn(tokenizer: PreTrainedTokenizerFast, said: Prompt, *, more: Sequence[int] = ()) -> Prompt:
    """Return a prompt as a user's turn, `more` at its start, and the beginning of the answer."""
    prompt = Prompt()
    _put(prompt, [_id(tokenizer, START), *token_ids("user"), *more])
    prompt.words += said.words
    prompt.weights += said.weights
    prompt.soft += said.soft
    _put(prompt, [_id(tokenizer, START), *token_ids("assistant")])
    return prompt


def _id(tokenizer: PreTrainedTokenizerFast, token: str) -> int:
    return int(tokenizer.get_vocab()[token])


def _put(prompt: Prompt, ids: Sequence[int]) -> None:
    for one in ids:
        prompt.add([one], [1.0], soft=False)


def _asked(
    tokenizer: PreTrainedTokenizerFast,
    pictures: Pictures,
    row: int,
    generator: random.Random,
    *,
    dense: bool,
    num_steps: int,
) -> tuple[Prompt, str]:
    """Draw a question about a picture, or a still clip of it, with facts behind each pair of frames or behind all.

    Args:
        tokenizer: of the model.
        pictures: all of them.
        row: which one.
        generator: source of all randomness.
        dense: ask for a description of several facts.
        num_steps: pairs of frames, each with its time; 0: a picture.
    """
    scene = draw_text_scene(generator, things=list(pictures.things[row]))
    if generator.random() < 0.3:
        scene = TextScene(scene.things, {})
    known, question, answer = draw_told_question(scene, generator, dense=dense)
    apart = generator.random() < 0.5
    facts = Prompt()
    tell_facts(facts, known, generator, num_frames=1 if apart else max(num_steps, 1))
    begin, length = generator.randrange(16), generator.randrange(1, 17)
    said = Prompt()
    for step in range(max(num_steps, 1)):
        moment = f"<{(begin + step * length) / FRAMES_PER_SECOND:.1f} seconds>" if num_steps else ""
        _put(said, tokenizer(f"{moment}{SEEN}{(CLIP if num_steps else IMAGE) * SIDE**2}{PAST}")["input_ids"])
        if apart or step >= num_steps - 1:
            said.words += facts.words
            said.weights += facts.weights
            said.soft += facts.soft
    end_prompt(said, question, generator)
    return _as_turn(tokenizer, said), answer


def _loss(
    model: Any,
    drawn: Sequence[tuple[Prompt, str]],
    noise: torch.Generator,
    clips: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Return the loss of the answers; the model's own forward pass runs, sums of words where prompts have them."""
    vectors, _ = embed_prompts(model.get_input_embeddings(), [prompt for prompt, _ in drawn], noise)
    answers = [[*token_ids(answer), 1] for _, answer in drawn]
    length = max(len(prompt.words) + len(answer) for (prompt, _), answer in zip(drawn, answers, strict=True))
    keep = max(map(len, answers)) + 1
    ids = torch.zeros(len(drawn), length, dtype=torch.long)
    there, ours = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
    embeds = vectors.new_zeros(len(drawn), length, vectors.shape[-1])
    labels = torch.full_like(ids, IGNORED)
    picture, clip = model.config.image_token_id, model.config.video_token_id
    for row, ((prompt, _), answer) in enumerate(zip(drawn, answers, strict=True)):
        words = [each[0] for each in prompt.words]
        begin, middle = length - len(words) - len(answer), length - len(answer)
        ids[row, begin:middle], ids[row, middle:] = torch.tensor(words), torch.tensor(answer)
        there[row, begin:], labels[row, middle:] = 1, torch.tensor(answer)
        embeds[row, begin:middle] = vectors[row, : len(words)]
        ours[row, begin:middle] = True
    ours &= (ids != picture) & (ids != clip)
    more = {}
    if clips is not None:
        names = ("pixel_values", "image_grid_thw")
        if (ids == clip).any():
            names = ("pixel_values_videos", "video_grid_thw")
        more = dict(zip(names, clips, strict=True))
        more["mm_token_type_ids"] = torch.where(ids == picture, 1, torch.where(ids == clip, 2, 0))
    with placed(model, embeds, ours, own_BS=ours, deep_BKSL=None):
        out = model(input_ids=ids, attention_mask=there, logits_to_keep=keep, use_cache=False, **more)
    return F.cross_entropy(out.logits[:, :-1].flatten(0, 1), labels[:, 1 - keep :].flatten(), ignore_index=IGNORED)


def save_vlm(model: Any, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write weights, configuration and processor as `from_pretrained` reads them."""
    model.save_pretrained(out)
    sizes: dict[str, Any] = {
        "patch_size": PATCH_SIZE, "merge_size": 2, "temporal_patch_size": 2,
        "size": {"shortest_edge": IMAGE_SIZE**2 // 4, "longest_edge": IMAGE_SIZE**2},
        "image_mean": list(IMAGE_MEAN), "image_std": list(IMAGE_STD),
    }  # fmt: skip
    Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(**sizes),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(
            **sizes | {"size": {**sizes["size"], "longest_edge": MAX_FRAMES * IMAGE_SIZE**2}},
            cap_pixels_per_frame=True,
            max_video_tokens=SIDE**2,
        ),
        chat_template=CHAT,
    ).save_pretrained(out)
    (out / TEMPLATE).write_text('{\n  "choice_scoring": "likelihood"\n}\n')
    (out / BACKBONE).write_text('{\n  "pretrained": false\n}\n')


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m crema_world.pretrain_vlm", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="new or empty folder for the backbone")
    defaults = {
        "seed": 0, "language-steps": 600, "align-steps": 1000, "picture-steps": 400, "num-pictures": 12_000,
    }  # fmt: skip
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    torch.set_num_threads(1)
    pretrain_vlm(
        given.out,
        language_steps=given.language_steps,
        align_steps=given.align_steps,
        picture_steps=given.picture_steps,
        num_pictures=given.num_pictures,
        seed=given.seed,
        report=lambda line: print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True),
    )


if __name__ == "__main__":
    main()
