"""Text that cannot be written: halves of a character, as a program leaves them that cuts an emoji in two.

JSON can spell them, so they arrive; no file, terminal or tokenizer takes them. They are refused where they come in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_HALF = re.compile("[\ud800-\udfff]")


def half_character(value: object) -> str:
    r"""Return the first half of a character in a value or inside of it, spelled as JSON spells it; empty for none.

    Args:
        value: a text, or lists and mappings that hold some; whatever else is in them is passed over.

    Example:
        >>> half_character(["bell", "bell \ud83d?"])
        '\\ud83d'
        >>> half_character("bell \U0001f514")
        ''
    """
    if isinstance(value, str):
        found = None if value.isascii() else _HALF.search(value)
        return f"\\u{ord(found[0]):04x}" if found else ""
    if isinstance(value, Mapping):
        value = [own for pair in value.items() for own in pair]
    if isinstance(value, list | tuple):
        # Every text of every line comes by here: one that is ASCII costs no call.
        others = [own for own in value if not (isinstance(own, str) and own.isascii())]
        return next(filter(None, map(half_character, others)), "")
    return ""
