"""Options as rows: every kind of field pydantic writes into a schema is said in words."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from crema_core.plugins.spec import ModalityOptions, OptionRow, option_rows


class Many(ModalityOptions):
    """One of each."""

    port: str = Field(description="where")
    size: int = Field(default=2, ge=1, le=8, description="how large")
    kind: Literal["a", "b"] | None = Field(default=None, description="which")
    only: Literal["x"] = "x"
    share: float = Field(default=0.5, gt=0, lt=1, description="how much")


def test_rows_are_in_the_order_of_the_declaration() -> None:
    assert option_rows(Many.model_json_schema()) == [
        OptionRow("port", "string", "required", "where"),
        OptionRow("size", "integer >= 1 <= 8", "2", "how large"),
        OptionRow("kind", '"a" | "b" | null', "null", "which"),
        OptionRow("only", "string", '"x"', ""),
        OptionRow("share", "number > 0 < 1", "0.5", "how much"),
    ]


def test_a_modality_without_options_has_no_rows() -> None:
    assert option_rows(ModalityOptions.model_json_schema()) == []
