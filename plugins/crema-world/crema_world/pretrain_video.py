"""Train a tiny video language model: `python -m crema_world.pretrain_video --out FOLDER`.

LLaVA-OneVision's shape and format (SigLIP encoder, two-layer projector, Qwen2 decoder, newline vector), for trying what
PAVE does. The vision encoder starts as crema-tiny's ViT without its class token. First the decoder learns the language
of the world from text, in which things are also named by sums of words, and to look things up by their shape; then
vision encoder and projector are pulled to such sums for what each visual token sees; then everything together learns to
answer about pictures, as LLaVA's last stages do, and every fourth batch is text. The package ships the result:
`crema-tiny-video`.

Shape letters: N pictures, B samples, F frames, S visual tokens of a frame, P patches, L width.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    Blip2ForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    SiglipVisionConfig,
)

from crema_core.model.chat_format import override_chat_format
from crema_core.model.checkpoint import BACKBONE, TEMPLATE
from crema_core.model.language import IGNORED, Language
from crema_core.model.prompt import Prompt, pack
from crema_core.model.shipped import tiny_backbone_path
from crema_world import prompts
from crema_world.backbone import IMAGE_MEAN, IMAGE_STD, WIDTH
from crema_world.errors import WorldError
from crema_world.language_stage import embed_prompts
from crema_world.pictures import Pictures, draw_pictures
from crema_world.scene import IMAGE_SIZE
from crema_world.seen_things import thing_words, token_loss
from crema_world.stage import train_stage
from crema_world.text import (
    TextScene,
    draw_lookup_sample,
    draw_text_sample,
    draw_text_scene,
    draw_told_question,
)
from crema_world.vision_stage import normalize
from crema_world.vocabulary import make_tokenizer

PICTURE_RATE = 3e-4
"""With the rate of the other stages the decoder forgets on pictures how a colour is looked up by its shape."""
VIDEO = "<video>"
PATCH = 8
CHAT = (
    "{% for message in messages %}{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>"
    "{% elif part['type'] == 'video' %}<video>{% elif message['role'] == 'user' %}{{ '\n' + part['text'] }}"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
)
"""What stands around questions in training: pictures, a new line and the question."""


def pretrain_video(
    out: Path,
    *,
    language_steps: int = 5000,
    lookup_steps: int = 1200,
    align_steps: int = 800,
    picture_steps: int = 2000,
    num_pictures: int = 12_000,
    batch_size: int = 48,
    seed: int = 0,
    report: Callable[[str], None] = print,
) -> None:
    """Train and write a tiny video language model.

    Args:
        out: a new or empty folder.
        language_steps: steps of the decoder on text.
        lookup_steps: steps of the decoder mostly on text that asks for colours by shapes.
        align_steps: steps of vision encoder and projector on what visual tokens should say.
        picture_steps: steps of everything on pictures.
        num_pictures: pictures drawn.
        batch_size: samples per step.
        seed: of weights, data and noise.
        report: receives a status line every 250 steps.

    Raises:
        WorldError: when `out` is not empty. Nothing is written then.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise WorldError(
            f"{out} exists and is not an empty folder. A backbone is written only into a new or empty folder. "
            "Choose another folder with --out. Nothing was changed."
        )
    model, tokenizer = new_video_model(seed=seed)
    decoder = _language_model(model)
    chat_format = replace(override_chat_format(decoder, tokenizer, chat=False), before="\n")
    language = Language(decoder, tokenizer, chat_format=chat_format)
    generator, noise = random.Random(seed), torch.Generator().manual_seed(seed)

    def text_loss(step: int) -> Tensor:
        early = step < 0.6 * language_steps
        drawn = [
            draw_text_sample(generator, dense=step % 2 == 0, num_frames=1, brief=generator.random() < 0.6 * early)
            for _ in range(batch_size)
        ]
        return _loss(language, drawn, noise, visual=None)

    def lookup_loss(step: int) -> Tensor:
        if step % 4 == 0:
            return text_loss(step // 4)
        drawn = [draw_lookup_sample(generator, dense=step % 2 == 0) for _ in range(batch_size)]
        return _loss(language, drawn, noise, visual=None)

    pictures = draw_pictures(num_pictures, seed=seed)
    shown = [row for row, things in enumerate(pictures.things) if things]

    def picture_loss(step: int) -> Tensor:
        rows = generator.sample(shown, batch_size)
        drawn = [_asked(pictures, row, generator, dense=step % 2 == 0) for row in rows]
        num_frames = generator.choice((1, 1, 2))
        pixels = normalize(pictures.images[rows])[:, None]
        tokens = model.model.get_video_features(pixels, return_dict=True).pooler_output
        frame, newline = tokens[:, :-1], tokens[:, -1:]
        frames = frame.repeat(1, num_frames, 1)  # a still clip: every frame has the same tokens
        return _loss(language, drawn, noise, visual=torch.cat([frames, newline], 1))

    train_stage(decoder, text_loss, language_steps, "language", report)
    train_stage(decoder, lookup_loss, lookup_steps, "lookup", report)
    seeing = nn.ModuleList([model.model.vision_tower, model.model.multi_modal_projector])
    words, seen = thing_words(pictures, decoder.get_input_embeddings())

    def align_loss(step: int) -> Tensor:
        rows = generator.sample(shown, batch_size)
        pixels = normalize(pictures.images[rows])[:, None]
        tokens = model.model.get_video_features(pixels, return_dict=True).pooler_output[:, :-1]  # without newline
        return token_loss(tokens, words[rows], seen[rows])

    train_stage(seeing, align_loss, align_steps, "align", report)

    def mixed_loss(step: int) -> Tensor:
        return lookup_loss(step // 4) if step % 4 == 0 else picture_loss(step)

    train_stage(model, mixed_loss, picture_steps, "pictures", report, rate=PICTURE_RATE)
    _save(model.eval(), tokenizer, out)


def new_video_model(*, seed: int) -> tuple[LlavaOnevisionForConditionalGeneration, PreTrainedTokenizerFast]:
    """Return the model before training, its vision encoder made of crema-tiny's ViT, and its tokenizer."""
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": [VIDEO]})
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(
            hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=3, num_attention_heads=4,
            image_size=IMAGE_SIZE, patch_size=PATCH, hidden_act="gelu", vision_use_head=False,
        ),
        text_config=Qwen2Config(
            vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=256, num_hidden_layers=4,
            num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=512, pad_token_id=0, bos_token_id=1,
            eos_token_id=1, tie_word_embeddings=False, initializer_range=WIDTH**-0.5,
        ),
        image_token_index=int(tokenizer.vocab["<image>"]),
        video_token_index=int(tokenizer.vocab[VIDEO]),
        vision_feature_layer=-1,
        image_grid_pinpoints=[[IMAGE_SIZE, IMAGE_SIZE]],
        tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = LlavaOnevisionForConditionalGeneration(config)
    # As large as T5's, for which the noise on prompts was chosen: Qwen2's own 0.02 would drown in it. So small a value
    # also suits layers a thousand wide; in these the decoder did not learn to look anything up in 5,000 steps.
    nn.init.normal_(model.get_input_embeddings().get_parameter("weight"))
    _start_encoder(model)
    return model, tokenizer


def _language_model(model: Any) -> Qwen2ForCausalLM:
    """Return the language model inside as one that can be asked by itself; nothing is copied."""
    with init_empty_weights():
        decoder: Any = Qwen2ForCausalLM(model.config.text_config)
    decoder.model, decoder.lm_head = model.model.language_model, model.lm_head
    decoder.generation_config = model.generation_config
    return cast(Qwen2ForCausalLM, decoder.eval())


@torch.no_grad()
def _start_encoder(model: Any) -> None:
    tiny: Any = Blip2ForConditionalGeneration.from_pretrained(tiny_backbone_path())
    ours = getattr(model.model.vision_tower, "vision_model", model.model.vision_tower)
    theirs = tiny.vision_model
    ours.embeddings.patch_embedding.load_state_dict(theirs.embeddings.patch_embedding.state_dict())
    ours.embeddings.position_embedding.weight.copy_(theirs.embeddings.position_embedding[0, 1:])
    for own, given in zip(ours.encoder.layers, theirs.encoder.layers, strict=True):
        for name in ("weight", "bias"):
            parts = getattr(given.self_attn.qkv, name).chunk(3)
            for layer, part in zip(("q_proj", "k_proj", "v_proj"), parts, strict=True):
                getattr(getattr(own.self_attn, layer), name).copy_(part)
        own.self_attn.out_proj.load_state_dict(given.self_attn.projection.state_dict())
        for name in ("layer_norm1", "layer_norm2", "mlp"):
            getattr(own, name).load_state_dict(getattr(given, name).state_dict())


def _asked(pictures: Pictures, row: int, generator: random.Random, *, dense: bool) -> tuple[prompts.Prompt, str]:
    scene = draw_text_scene(generator, things=list(pictures.things[row]))
    if generator.random() < 0.3:
        scene = TextScene(scene.things, {})
    known, question, answer = draw_told_question(scene, generator, dense=dense)
    prompt = prompts.Prompt()
    prompts.tell_facts(prompt, known, generator, num_frames=1)
    prompts.end_prompt(prompt, question, generator)
    return prompt, answer


def _loss(
    language: Language, drawn: Sequence[tuple[prompts.Prompt, str]], noise: torch.Generator, *, visual: Tensor | None
) -> Tensor:
    for prompt, _ in drawn:  # a decoder continues behind the question: no end token stands there
        prompt.words.pop(), prompt.weights.pop(), prompt.soft.pop()
    embeds, mask = embed_prompts(language.embedding, [prompt for prompt, _ in drawn], noise)
    if visual is not None:
        embeds, mask = torch.cat([visual, embeds], 1), F.pad(mask, (visual.shape[1], 0), value=1)
    ids = language.answer_ids([answer for _, answer in drawn])
    logits = language.logits(pack(Prompt(embeds, mask.bool()), side="left"), ids)
    return F.cross_entropy(logits.flatten(0, 1), ids.flatten(), ignore_index=IGNORED)


def _save(model: Any, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    model.save_pretrained(out)
    write_processor(tokenizer, out)
    (out / TEMPLATE).write_text('{\n  "choice_scoring": "likelihood"\n}\n')
    (out / BACKBONE).write_text('{\n  "pretrained": false\n}\n')


def write_processor(tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write what makes inputs of clips and questions, with the tokenizer."""
    side = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    look: dict[str, Any] = {"size": side, "image_mean": list(IMAGE_MEAN), "image_std": list(IMAGE_STD)}
    processor = LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor(**look, image_grid_pinpoints=[[IMAGE_SIZE, IMAGE_SIZE]]),
        tokenizer=tokenizer,
        video_processor=LlavaOnevisionVideoProcessor(**look),
        num_image_tokens=(IMAGE_SIZE // PATCH) ** 2,
        vision_feature_select_strategy="full",
        chat_template=CHAT,
    )
    processor.save_pretrained(out)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m crema_world.pretrain_video", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="new or empty folder for the backbone")
    defaults = {
        "seed": 0, "language-steps": 5000, "lookup-steps": 1200, "align-steps": 800, "picture-steps": 2000,
        "num-pictures": 12_000,
    }  # fmt: skip
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    torch.set_num_threads(1)
    pretrain_video(
        given.out,
        language_steps=given.language_steps,
        lookup_steps=given.lookup_steps,
        align_steps=given.align_steps,
        picture_steps=given.picture_steps,
        num_pictures=given.num_pictures,
        seed=given.seed,
        report=lambda line: print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True),
    )


if __name__ == "__main__":
    main()
