"""What a backbone family is: the code that turns a checkpoint of certain model types into a `Backbone`.

A package adds one with entry points of the group `crema.backbones`, one line for each `model_type` of transformers the
family loads. All of them may name the same object:

```toml
[project.entry-points."crema.backbones"]
llava_next = "crema_more.llava:FAMILY"
llava_next_video = "crema_more.llava:FAMILY"
crema-more-small = "crema_more.shipped:SMALL"   # a NamedCheckpoint: backbone="crema-more-small"
llava-next-7b = "crema_more.shipped:NEXT_7B"    # a NamedShape: to count without its weights
any-llava = "crema_more.generic:FAMILY"         # asked about model types that have no entry of their own
```

The module of a family may register configuration classes with transformers (`AutoConfig.register`): it is imported
before the configuration is read, where `config.json` names its model type.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedConfig

from crema_core.errors import CheckpointError, OptionsError
from crema_core.model.backbone import Backbone
from crema_core.model.precision import frozen_dtype
from crema_core.model.quantization import quantization_config
from crema_core.model.settings import BackboneSettings


@dataclass(frozen=True)
class BackboneRequest:
    """What a backbone is to be.

    Attributes:
        settings: as they were given, `settings.source` filled in; recorded in saved models.
        place: folder or hub id the checkpoint lies at; of a shape its name.
        language_config: configuration of the language model that replaces that of the checkpoint's own, or None.
    """

    settings: BackboneSettings
    place: str
    language_config: PreTrainedConfig | None = None

    def dtype(self, config: PreTrainedConfig) -> torch.dtype:
        """Return the number format of the frozen parts.

        Args:
            config: of the whole checkpoint.

        Raises:
            PrecisionError: for a precision the language model cannot hold.
        """
        own: PreTrainedConfig = getattr(config, "text_config", config)
        return frozen_dtype(self.settings.precision, self.language_config or own)

    def quantized(self, config: PreTrainedConfig, *, whole: Sequence[str] = ()) -> Any:
        """Return the settings of transformers for a quantised language model, None where it is not.

        Args:
            config: of the whole checkpoint.
            whole: paths of modules beside the language model, whose weights stay as they are.

        Raises:
            MissingRequirementError: when the library it needs is absent.
        """
        kind = self.settings.quantization
        return None if kind is None else quantization_config(kind, dtype=self.dtype(config), whole=whole)

    def refuse_image_size(self, own: int) -> None:
        """Raise `OptionsError` where another size was asked for than the one the family's pictures have.

        Args:
            own: side in pixels the checkpoint was trained on.
        """
        asked = self.settings
        if asked.image_size not in (None, own):
            raise OptionsError(
                f"image_size={asked.image_size} was given, and '{asked.source}' was trained on pictures of {own} "
                "pixels and takes no others. Accepted: another size for Qwen-VL backbones alone. Leave image_size out."
            )


class BackboneFamily(ABC):
    """Loads the checkpoints of one or several model types; an entry point names an instance."""

    def recognises(self, config: PreTrainedConfig) -> bool:
        """Whether it loads a checkpoint whose model type has no entry of its own; asked of entries named `any-...`.

        Args:
            config: of the whole checkpoint.
        """
        return False

    @abstractmethod
    def load(self, config: PreTrainedConfig, request: BackboneRequest) -> Backbone:
        """Load a checkpoint.

        Args:
            config: of the whole checkpoint.
            request: where it lies and what is asked of it.

        Raises:
            CheckpointError: when weights or tokenizer are absent or damaged, or another language model was asked for
                and the family has no place for one.
            OptionsError: for an image size it cannot take.
            PrecisionError: for a precision its language model cannot hold.
        """

    def shape(self, config: PreTrainedConfig, request: BackboneRequest) -> Backbone:
        """Return the backbone without weights, for counting, see `crema_core.model.shapes`.

        Args:
            config: of the whole checkpoint.
            request: what is asked of it.

        Raises:
            CheckpointError: when the family cannot be counted without weights.
        """
        raise CheckpointError(
            f"'{request.settings.source}' cannot be counted without its weights: {type(self).__name__} has no shapes. "
            "Accepted: a folder or hub id with weights. Name one as backbone."
        )


@dataclass(frozen=True)
class NamedCheckpoint:
    """A checkpoint that comes with a package and is used by the name of its entry point.

    Attributes:
        name: of the entry point.
        place: returns the folder, in transformers format; raises `CremaError` where the files are absent.
    """

    name: str
    place: Callable[[], Path]


@dataclass(frozen=True)
class NamedShape:
    """A published checkpoint without its weights, for counting; used by the name of its entry point.

    Attributes:
        name: of the entry point.
        file: JSON of the checkpoint's configuration, with its `model_type`.
        weights: hub id where the weights are, for messages.
    """

    name: str
    file: Path
    weights: str

    def config(self) -> PreTrainedConfig:
        """Return the configuration of the whole checkpoint."""
        return AutoConfig.for_model(**json.loads(self.file.read_text(encoding="utf-8")))
