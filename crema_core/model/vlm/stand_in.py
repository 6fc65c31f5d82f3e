"""Processors without a checkpoint's files, to count by shapes: the family's own classes around a stand-in tokenizer.

How many visual tokens a picture or clip has is decided by code and settings of a processor, not by its vocabulary. So
the class runs as it is, with the settings of the published checkpoint (`stand_ins.yaml`), and only words are counted by
a rule: one token each, see `crema_core.model.shapes.shape_tokenizer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import transformers
import yaml
from pydantic import BaseModel, ConfigDict, Field
from transformers import PreTrainedConfig, PreTrainedTokenizerFast

from crema_core.model.shapes import shape_tokenizer

FILE = Path(__file__).parent / "stand_ins.yaml"
COMPONENTS = ("image_processor", "video_processor", "feature_extractor")


class StandIn(BaseModel):
    """What a processor is built of."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    processor: str = Field(description="its class in transformers")
    arguments: dict[str, Any] = Field(default={}, description="more of its arguments")
    image_processor: dict[str, Any] = Field(description="its class and settings")
    video_processor: dict[str, Any] | None = Field(default=None, description="its class and settings")
    feature_extractor: dict[str, Any] | None = Field(default=None, description="its class and settings")
    tokens: dict[str, tuple[str, str | None]] = Field(
        description="by the name it reads a token by: the token, and the attribute of the configuration with its id"
    )
    begin: str | None = Field(default=None, description="token a conversation begins with")
    turns: dict[str, tuple[str, str]] = Field(description="by role, what its turn opens and closes with")
    picture: str = Field(description="what the chat template writes for a picture")
    clip: str | None = Field(default=None, description="what it writes for a clip; None: it takes none")

    def build(self, config: PreTrainedConfig) -> Any:
        """Return the processor.

        Args:
            config: of the whole model, which has the ids of its tokens.
        """
        parts = {name: _made(getattr(self, name)) for name in COMPONENTS if getattr(self, name) is not None}
        tokenizer = self.tokenizer(config)
        make = getattr(transformers, self.processor)
        return make(tokenizer=tokenizer, chat_template=self.template(), **parts, **self.arguments)

    def tokenizer(self, config: PreTrainedConfig) -> PreTrainedTokenizerFast:
        """Return a tokenizer with the named tokens at the ids the configuration has for them."""
        ids = {text: None if path is None else getattr(config, path) for text, path in self.tokens.values()}
        tokenizer = shape_tokenizer({text: own for text, own in ids.items() if own is not None})
        free = [text for text, own in ids.items() if own is None]
        tokenizer.add_special_tokens({"additional_special_tokens": free} if free else {})
        for name, (text, _) in self.tokens.items():
            tokenizer._set_model_specific_special_tokens(special_tokens={name: text})
        if self.begin is not None:
            tokenizer.add_special_tokens({"bos_token": self.begin})
        return tokenizer

    def template(self) -> str:
        """Return a chat template in Jinja of turns and marks."""
        marks = "{% if part.type == 'image' %}" + self.picture
        if self.clip is not None:
            marks += "{% elif part.type != 'text' %}" + self.clip
        parts = f"{{% for part in turn.content %}}{marks}{{% else %}}{{{{ part.text }}}}{{% endif %}}{{% endfor %}}"
        roles = "".join(
            f"{{% if turn.role == '{role}' %}}{opens}{parts}{closes}{{% endif %}}"
            for role, (opens, closes) in self.turns.items()
        )
        answer = self.turns["assistant"][0]
        prompt = f"{{% if add_generation_prompt %}}{answer}{{% endif %}}"
        return f"{self.begin or ''}{{% for turn in messages %}}{roles}{{% endfor %}}{prompt}"


@cache
def stand_ins() -> Mapping[str, StandIn]:
    """Return the processors that can be built without files, by model type."""
    found = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return {model_type: StandIn.model_validate(own) for model_type, own in found.items()}


def _made(settings: Mapping[str, Any]) -> Any:
    """Return an instance of a class of transformers."""
    own = dict(settings)
    return getattr(transformers, own.pop("class"))(**own)
