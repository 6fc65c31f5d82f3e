"""Chat templates in the message formats of the published checkpoints, without tools and thinking."""

from __future__ import annotations

from collections.abc import Mapping


def chat_template(
    turns: Mapping[str, tuple[str, str]],
    *,
    answer: str,
    image: str = "",
    video: str = "",
    audio: str = "",
    start: str = "",
    system: str | None = None,
    text: str = "{{ part['text'] }}",
    media_first: bool = False,
) -> str:
    """Return the Jinja template of a family.

    Args:
        turns: What a role's turn opens and closes with.
        answer: What asks for an answer.
        image: Written for a picture.
        video: Written for a clip.
        audio: Written for a waveform.
        start: Opens the conversation.
        system: The system's turn where the conversation has none of its own.
        text: Written for a text.
        media_first: Whether all media of a turn stand before its texts.
    """
    media = "".join(
        f"{'el' * bool(number)}if part['type'] == '{name}' %}}{mark}{{% "
        for number, (name, mark) in enumerate(
            (name, mark) for name, mark in (("image", image), ("video", video), ("audio", audio)) if mark
        )
    )
    parts = "{% for part in message['content'] %}"
    close = "{% endfor %}"
    if media_first:
        body = f"{parts}{{% {media}endif %}}{close}{parts}{{% if part['type'] == 'text' %}}{text}{{% endif %}}{close}"
    else:
        body = f"{parts}{{% {media}elif part['type'] == 'text' %}}{text}{{% endif %}}{close}"
    content = "{% if message['content'] is string %}{{ message['content'] }}{% else %}" + body + "{% endif %}"
    roles = ""
    for number, (role, (opening, closing)) in enumerate(turns.items()):
        roles += f"{{% {'el' * bool(number)}if message['role'] == '{role}' %}}{opening}{content}{closing}"
    default = ""
    if system is not None:
        default = "{% if loop.first and message['role'] != 'system' %}" + system + "{% endif %}"
    return (
        f"{start}{{% for message in messages %}}{default}{roles}{{% endif %}}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{answer}{{% endif %}}"
    )


def chatml(*, image: str, video: str = "", audio: str = "", system: str | None = None, start: str = "") -> str:
    """Return the template of ChatML with media where they stand in the message."""
    turns = {role: (f"<|im_start|>{role}\n", "<|im_end|>\n") for role in ("system", "user", "assistant")}
    answer = "<|im_start|>assistant\n"
    return chat_template(turns, answer=answer, image=image, video=video, audio=audio, system=system, start=start)


QWEN_SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
