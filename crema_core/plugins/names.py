"""Names that examples use and packages must not: two packages made from one example would both be called so."""

from __future__ import annotations

PLACEHOLDERS = frozenset(
    "modality my_modality sense my_sense name_of_plugin plugin my_plugin example placeholder changeme template foo bar "
    "baz todo untitled new_sense your_sense".split()
)
