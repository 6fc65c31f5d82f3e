"""The normalisation with which SQA3D and ScanQA answers are compared in the literature (LEO, then PAVE and others).

Its rules are kept as they are published, oddities included ("none" is "zero", "let" is "left"), because published
numbers rest on them.
"""

from __future__ import annotations

import re

_WORDS = {
    **dict.fromkeys(("letf", "let"), "left"),
    **dict.fromkeys(("rigth", "rght"), "right"),
    "tehre": "there",
    "behine": "behind",
    "tv": "TV",
    "chai": "chair",
    "wasing": "washing",
    "waslked": "walked",
    "oclock": "o'clock",
    "backwards": "backward",
    "none": "zero",
    "23": "twenty-three",
}
_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
).split()
_WORDS |= {str(number): word for number, word in enumerate(_NUMBERS)}


def clean(answer: str) -> str:
    """Return an answer in the form in which SQA3D and ScanQA answers are compared.

    Example:
        >>> clean(" The  2 chai.")
        'two chair'
    """
    text = re.sub(" {2,}", " ", answer.lower().strip(" "))
    text = re.sub(r"[^a-z0-9,'\s\-:]+", "", text)
    text = re.sub(r"\bo' +clock\b", "o'clock", text)
    text = re.sub(r"\w+", lambda word: _WORDS.get(word[0], word[0]), text)
    text = re.sub(r"\b([a-zA-Z]+)[0-9]\b", r"\1", text)  # a word with a digit at its end: "mat2"
    for article in ("a", "an", "the"):
        text = re.sub(rf"\b{article}\b ([a-zA-Z]+)", r"\1", text)
    return text
