"""Text of the world: facts of all modalities, a question and its answer, to teach the small language model.

Every fact is drawn on its own, and every second sample asks for several facts at once: dense supervision is what makes
so small a model learn to look things up.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from crema_world.prompts import Label, Prompt, end_prompt, show_things, tell_facts
from crema_world.questions import CHOICES_OF_TYPE, FACT_OF_TYPE, TEMPLATE_OF_TYPE
from crema_world.scene import COLORS, SHAPES, SLOTS
from crema_world.vocabulary import DESCRIBE_ALL, DESCRIBE_BY_SHAPE, DESCRIBE_OBJECTS, TEXTURES


@dataclass(frozen=True)
class TextScene:
    """What a prompt tells: three things, and answers by type for questions that RGB cannot answer."""

    things: list[Label]
    facts: Mapping[str, str]


def draw_text_scene(generator: random.Random, *, things: list[Label] | None = None) -> TextScene:
    """Draw facts, and things unless given, all independent; one scene in eight has textures in the place of shapes."""
    if things is None:
        colors = generator.sample(COLORS, 3)
        shapes = generator.choices(TEXTURES, k=3) if generator.random() < 0.125 else generator.sample(SHAPES, 3)
        things = list(zip(SLOTS, colors, shapes, strict=True))
    return TextScene(things, {kind: generator.choice(CHOICES_OF_TYPE[kind]) for kind in FACT_OF_TYPE})


def draw_text_sample(
    generator: random.Random, *, dense: bool, num_frames: int, brief: bool = False
) -> tuple[Prompt, str]:
    """Draw a prompt and its answer.

    Args:
        generator: source of all randomness.
        dense: ask for a description of several facts instead of one.
        num_frames: how many times the prompt shows the things.
        brief: only things, no other facts.
    """
    scene = draw_text_scene(generator)
    if brief:
        scene = TextScene(scene.things, {})
    known, question, answer = draw_told_question(scene, generator, dense=dense)
    prompt = Prompt()
    show_things(prompt, scene.things, generator, num_frames=num_frames)
    tell_facts(prompt, known, generator, num_frames=num_frames)
    end_prompt(prompt, question, generator)
    return prompt, answer


def draw_told_question(scene: TextScene, generator: random.Random, *, dense: bool) -> tuple[dict[str, str], str, str]:
    """Draw the facts that will be told, a question and its answer."""
    known = {kind for kind in scene.facts if generator.random() < 0.7}
    asked, question, answer = _draw_question(scene, known, generator, dense=dense)
    if asked in scene.facts:
        known.add(asked)
        if generator.random() < 0.05:  # nobody tells: every answer should be as likely as the others
            known.discard(asked)
            answer = generator.choice(CHOICES_OF_TYPE[asked])
    return {kind: scene.facts[kind] for kind in known}, question, answer


def draw_lookup_sample(generator: random.Random, *, dense: bool) -> tuple[Prompt, str]:
    """Draw a prompt about three things and an answer that finds colours by shapes.

    A decoder does not find out by itself how to look up by one of many keys. Where the answer spells the shapes in
    random order, each with its colour behind it, the key is the last word it read: from there it learns the rest.

    Args:
        generator: source of all randomness.
        dense: spell all shapes with their colours, instead of answering for one.
    """
    slots = zip(SLOTS, generator.sample(COLORS, 3), generator.sample(SHAPES, 3), strict=True)
    things = generator.sample(list(slots), 3)
    if dense:
        question, answer = DESCRIBE_BY_SHAPE, " ".join(f"{shape} {color} ." for _, color, shape in things)
    else:
        _, answer, shape = things[0]
        question = TEMPLATE_OF_TYPE["color"].format(colored_shape=shape)
    prompt = Prompt()
    show_things(prompt, things, generator, num_frames=1)
    end_prompt(prompt, question, generator)
    return prompt, answer


def describe_things(scene: TextScene) -> str:
    """Spell the things: `"left red ball . middle blue cube . right green cone ."`."""
    return " . ".join(" ".join(thing) for thing in scene.things) + " ."


def _draw_question(scene: TextScene, known: set[str], generator: random.Random, *, dense: bool) -> tuple[str, str, str]:
    if dense:
        described, draw = describe_things(scene), generator.random()
        if draw < 0.5 and len({shape for _, _, shape in scene.things}) == 3:
            return "describe", *_ask_in_turn(scene, generator)
        if draw < 0.75:
            return "describe", DESCRIBE_OBJECTS, described
        told = [f"{word} {scene.facts[kind]} ." for kind, word in FACT_OF_TYPE.items() if kind in known]
        return "describe", DESCRIBE_ALL, " ".join([described, *told])
    asked = generator.choice(("color", "color", "shape", "shape", *scene.facts))
    slot, color, shape = generator.choice(scene.things)
    if asked == "color" and shape in TEXTURES:
        asked = "shape"
    question = TEMPLATE_OF_TYPE[asked].format(colored_shape=shape, slot=slot)
    return asked, question, {"color": color, "shape": shape, **scene.facts}[asked]


def _ask_in_turn(scene: TextScene, generator: random.Random) -> tuple[str, str]:
    """Ask about all things in random order: three lookups by key in one answer teach binding soonest."""
    things = generator.sample(scene.things, 3)
    if generator.random() < 0.5:
        keys, values = [shape for _, _, shape in things], [color for _, color, _ in things]
        question = "what color is the " + " , the ".join(keys) + "?"
    else:
        keys, values = [slot for slot, _, _ in things], [shape for _, _, shape in things]
        question = "what is on the " + " , the ".join(keys) + "?"
    return question, " . ".join(values) + " ."
