"""The options of a sense as rows of a table, from their JSON schema; imports neither torch nor the plugin."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

LIMITS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


class OptionRow(NamedTuple):
    """One option.

    Attributes:
        name: as it is written in `build` and in settings.
        type: with its limits, in the words of JSON: `integer >= 1`, `string | null`.
        default: as JSON, or "required".
        meaning: the description.
    """

    name: str
    type: str
    default: str
    meaning: str


def option_rows(schema: Mapping[str, Any]) -> list[OptionRow]:
    """Return the options in the order of their declaration.

    Args:
        schema: what pydantic's `model_json_schema` returns, the entry `options` of `crema_core.describe(name)`.

    Example:
        >>> from crema_core.plugins.spec import ModalityOptions
        >>> option_rows(ModalityOptions.model_json_schema())
        []
    """
    required = schema.get("required", [])
    return [
        OptionRow(
            name,
            _type_of(field),
            "required" if name in required else json.dumps(field.get("default")),
            field.get("description", ""),
        )
        for name, field in schema.get("properties", {}).items()
    ]


def _type_of(field: Mapping[str, Any]) -> str:
    if "enum" in field:
        return " | ".join(json.dumps(value) for value in field["enum"])
    if "anyOf" in field:
        return " | ".join(_type_of(choice) for choice in field["anyOf"])
    kind = str(field.get("type", json.dumps(field["const"]) if "const" in field else "object"))
    return " ".join([kind, *(f"{sign} {field[key]}" for key, sign in LIMITS.items() if key in field)])
