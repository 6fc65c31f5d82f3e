"""Text tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence


def counted(number: int, noun: str) -> str:
    """Return "1 question" or "1,234 questions".

    Example:
        >>> counted(2, "question")
        '2 questions'
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Align columns with two spaces between them, first row the header; no line ends with spaces.

    Example:
        >>> print(table([["name", "status"], ["video", "ok"]]))
        name   status
        video  ok
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)
