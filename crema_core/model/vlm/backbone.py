"""A vision-language model of transformers as backbone: frozen as a whole, with a Q-Former for further modalities.

Shape letters: M pictures, B samples, V steps of a sample, N visual tokens of a step, E width of a picture's tokens, L
width of the language model, K layers with more features, I width before the projector.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, cast

import torch
import transformers
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from crema_core.common.tensors import padded_by_name
from crema_core.errors import OptionsError
from crema_core.fusion.connector import VisualLayout
from crema_core.modality import Batch, Features
from crema_core.model.backbone import Backbone
from crema_core.model.kernels import layers
from crema_core.model.language import Language
from crema_core.model.qformer import QFormer
from crema_core.model.settings import BackboneSettings
from crema_core.model.template import PromptTemplate
from crema_core.model.trainable import fingerprint, freeze
from crema_core.model.tuning import FULL, LanguageLora, tune_language
from crema_core.model.vlm.chat import VisualChat, visual_chat
from crema_core.model.vlm.hooks import Visual, captured, captured_twice
from crema_core.model.vlm.language import VisualLanguage
from crema_core.model.vlm.reader import VisualReader
from crema_core.model.vlm.traits import Traits
from crema_core.tokens import OWN_IDS, OWN_LAYOUT

SIDE = 336
"""Side in pixels of the square pictures of further modalities, where the processor takes any size."""
PROBED = 256
"""Rows of the input embedding whose length gives the scale of ours."""


class VisualBackbone(Backbone):
    """A frozen vision-language model.

    Args:
        model: whole, as transformers loads it.
        processor: of transformers.
        tokenizer: of its language model, with the processor's chat template.
        traits: of the family.
        settings: what it was loaded by.
        qformer: for modalities that pass one.
        query_tokens: its queries.
        **more: see `Backbone`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: Any,
        tokenizer: PreTrainedTokenizerBase,
        *,
        traits: Traits,
        settings: BackboneSettings,
        qformer: QFormer | None = None,
        query_tokens: nn.Parameter | None = None,
        **more: Any,
    ) -> None:
        super().__init__(
            model,
            tokenizer,
            settings=settings,
            qformer=qformer,
            query_tokens=query_tokens,
            image_mean=(0.0, 0.0, 0.0),  # the processor normalises pictures itself
            image_std=(1.0, 1.0, 1.0),
            **more,
        )
        self.processor, self.traits = processor, traits
        for module in model.modules():
            if type(module).__name__ in traits.two_way:
                cast(Any, module).is_causal = False
        self.placeholders = placeholder_ids(model, traits)
        picture = self.visual_chat(chat=True).picture if traits.pictures_always else None
        self.kinds = kinds_of(processor, model, picture=picture)
        self.any_image_size = settings.image_size is not None
        freeze(self)
        self.eval()

    @property
    def soft_token(self) -> int:
        """Id that stands where our tokens are: the padding's, else that of the end of a text."""
        pad = self.tokenizer.pad_token_id
        found = pad if pad is not None else self.tokenizer.eos_token_id
        assert isinstance(found, int), "a tokenizer pads or ends texts"
        return found

    @property
    def image_size(self) -> int:
        """Side in pixels of the square pictures of further modalities."""
        return self.settings.image_size or picture_side(self.processor)

    @property
    def vision_dim(self) -> int:
        """Width E of a picture's tokens: the language model's."""
        return self.language_dim

    @property
    def own_dim(self) -> int:
        """Width of the model's own visual tokens, with what its first layers add: `(1 + K) * L`."""
        return self.language_dim * (1 + self._num_deep)

    @property
    def inner_dim(self) -> int:
        """Width I of these before the projector; 0 where the family's traits name none."""
        projector = self._projector()
        return 0 if projector is None else int(next(projector.parameters()).shape[-1])

    def _projector(self) -> nn.Module | None:
        return self.language_model.get_submodule(self.traits.projector) if self.traits.projector else None

    @property
    def visual_layout(self) -> VisualLayout:
        """What its visual tokens are."""
        return VisualLayout(self.own_dim, inner_width=self.inner_dim, closing=self.traits.closing)

    @property
    def _num_deep(self) -> int:
        vision: Any = getattr(self.language_model.config, "vision_config", None)
        return len(getattr(vision, "deepstack_visual_indexes", None) or ())

    def visual_chat(self, *, chat: bool) -> VisualChat:
        """Return the text of a turn."""
        marks = [str(self.tokenizer.convert_ids_to_tokens(one)) for one in self.placeholders]
        takes_clips = self.traits.clips
        if takes_clips is None:
            takes_clips = getattr(self.processor, "video_processor", None) is not None
        picture = str(getattr(self.processor, "image_token", None) or marks[0])
        clip = str(getattr(self.processor, "video_token", None) or marks[-1])
        return visual_chat(
            self.language_model,
            self.tokenizer,
            marks=(picture, clip if takes_clips else None),
            plain=self.traits.plain,
            chat=chat,
        )

    def reader(self, *, chat: bool) -> VisualReader:
        """Return what makes samples of frames; it can be sent to other processes."""
        arguments = forward_arguments(self.language_model)
        return VisualReader(
            self.processor,
            self.visual_chat(chat=chat),
            self.traits,
            self.placeholders,
            arguments,
            begin=self.tokenizer.bos_token_id,
        )

    def own_sight(self, *, inner: bool = False) -> dict[str, Any]:
        """Return what a modality needs that sees as the model was trained to, see `BuildContext`."""
        inner = inner and self.inner_dim > 0
        return {
            "reader": self.reader(chat=True),
            "encode_own": partial(self.encode_own, inner=inner),
            "own_dim": self.own_dim + inner * self.inner_dim,
        }

    def own_hearing(self) -> dict[str, Any]:
        """Return what a modality needs that hears as the model was trained to, see `BuildContext`."""
        if not self._sound_ids():
            return {}
        return {"hear": self.encode_sound, "hear_dim": self.language_dim}

    def _sound_ids(self) -> list[int]:
        return named_ids(self.language_model, self.traits.sound)

    @torch.no_grad()
    def encode_sound(self, samples_S: Tensor) -> Tensor:
        """Encode a sound by the model's own feature extractor, audio encoder and projector.

        Args:
            samples_S: `(S,)` at 16 kHz, in -1..1.

        Returns:
            `(N, L)` the tokens its language model would be given.
        """
        ids = self._sound_ids()
        mark = str(getattr(self.processor, "audio_token", None) or self.tokenizer.convert_ids_to_tokens(ids[0]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of settings that a checkpoint brings along
            found = self.processor(text=[mark], audio=[samples_S.float().cpu().numpy()], return_tensors="pt")
        known = forward_arguments(self.language_model)
        inputs = {
            name: self._cast(value.to(self.device)) if isinstance(value, Tensor) else value
            for name, value in found.items()
            if name in known
        }
        is_own = torch.isin(inputs["input_ids"], torch.tensor(ids, device=self.device))
        return self._captured(inputs, is_own).embeds

    def speaking(self, template: PromptTemplate) -> Language:
        """Return the language model as the rest sees it."""
        return VisualLanguage(
            self.language_model,
            self.tokenizer,
            chat=self.visual_chat(chat=template.chat),
            traits=self.traits,
            placeholders=self.placeholders,
            kinds=self.kinds,
            soft_token=self.soft_token,
            scale=self.embedding_scale(),
            placement=template.placement,
        )

    @torch.no_grad()
    def embedding_scale(self) -> float:
        """Return the root of the mean square of the input embeddings, as the model reads them."""
        embedding: Any = self.language_model.get_input_embeddings()
        rows = torch.linspace(0, embedding.num_embeddings - 1, PROBED, device=self.device).long().unique()
        return float(embedding(rows[None]).float().square().mean().sqrt())

    @torch.no_grad()
    def encode_own(self, batch: Batch, *, inner: bool = False) -> Features:
        """Return the model's own visual tokens of prepared pictures and clips.

        Args:
            batch: from `VisualReader.collate`.
            inner: with the tokens before the projector behind them.

        Returns:
            Values `(B, V, N, (1 + K) * L)`, or `(B, V, N, (1 + K) * L + I)`; ids and what else the prompt needs among
            the extras.
        """
        rows: list[Tensor] = []
        masks: list[Tensor] = []
        extras = []
        for row in range(len(batch.mask)):
            own = {
                name: tensor[row][tuple(slice(0, int(size)) for size in batch.sizes[name][row])]
                for name, tensor in batch.tensors.items()
                if int(batch.sizes[name][row].prod())
            }
            layout_V2 = own.pop(OWN_LAYOUT)
            ids = own.pop(OWN_IDS)
            kinds = {name: own[name] for name in self.kinds if name in own}
            inputs = {name: self._cast(value) for name, value in own.items() if name not in kinds}
            given = {"input_ids": ids[None], "attention_mask": torch.ones_like(ids)[None]}
            given |= {name: kind[None] for name, kind in kinds.items()} | inputs
            is_own = torch.isin(ids, torch.tensor(self.placeholders, device=ids.device))
            projector = self._projector() if inner else None
            if projector is None:
                found = self._captured(given, is_own[None])
                values = torch.cat([found.embeds, *found.deep], dim=1)
            else:
                found, before = captured_twice(
                    self.language_model, given, is_own[None], projector=projector, width=self.inner_dim
                )
                values = torch.cat([found.embeds, *found.deep, before], dim=1)
            sizes_V = layout_V2.prod(1)
            sizes_V[-1] += len(values) - sizes_V.sum()  # behind a clip's frames
            masks.append(torch.arange(int(sizes_V.max()), device=ids.device) < sizes_V[:, None])
            rows.append(values.new_zeros(*masks[-1].shape, values.shape[1]))
            rows[-1][masks[-1]] = values
            kept = {name: value.long() for name, value in kinds.items()}
            kept |= {name: _exact(value) for name, value in own.items() if name in self.traits.kept}
            extras.append({OWN_IDS: ids, OWN_LAYOUT: layout_V2} | kept)
        shape = [max(own.shape[dim] for own in rows) for dim in (0, 1)]
        values = rows[0].new_zeros(len(rows), *shape, rows[0].shape[2])
        mask = torch.zeros(values.shape[:3], dtype=torch.bool, device=values.device)
        for index, (tokens, real) in enumerate(zip(rows, masks, strict=True)):
            values[index, : tokens.shape[0], : tokens.shape[1]] = tokens
            mask[index, : tokens.shape[0], : tokens.shape[1]] = real
        return Features(values, mask, batch.times, padded_by_name(extras))

    @torch.no_grad()
    def encode_images(self, pixels_MCHW: Tensor) -> Tensor:
        """Encode pictures by the model's own vision encoder and projector.

        Args:
            pixels_MCHW: `(M, 3, S, S)` in 0..1.

        Returns:
            `(M, N, E)` the tokens its language model would be given of each.
        """
        bytes_MCHW = (pixels_MCHW.float() * 255).round().clamp(0, 255).byte()
        inputs = {
            name: self._cast(value.to(self.device)) if isinstance(value, Tensor) else value
            for name, value in self.reader(chat=True).picture_inputs(bytes_MCHW).items()
        }
        is_own = torch.isin(inputs["input_ids"], torch.tensor(self.placeholders, device=self.device))
        rows: Tensor = self._captured(inputs, is_own).embeds
        tokens: Tensor = rows.unflatten(0, (len(pixels_MCHW), -1))
        return tokens

    def processing(self) -> dict[str, str]:
        """Return class and settings of the processor, and the version of transformers that runs it."""
        settings = [self.processor.to_dict(), self.tokenizer.chat_template, self.placeholders, self.soft_token]
        text = json.dumps(settings, default=str, sort_keys=True)
        return {
            "class": type(self.processor).__name__,
            "settings": hashlib.sha256(text.encode()).hexdigest(),
            "transformers": transformers.__version__,
        }

    def sight(self) -> str | None:
        """Return a sha256 over weights, settings of the processor and the version of transformers that runs it."""
        self.require_weights()
        text = json.dumps([self.processor.to_dict(), self.traits.model_dump(), transformers.__version__], default=str)
        return hashlib.sha256((fingerprint(self.language_model) + text).encode()).hexdigest()

    def _captured(self, inputs: Mapping[str, Any], own_BS: Tensor) -> Visual:
        return captured(self.language_model, inputs, own_BS, first_layer=self.traits.first_layer)

    def _cast(self, value: Tensor) -> Tensor:
        return value.to(self.dtype) if value.is_floating_point() and value.dim() > 1 else value

    def vision_parts(self) -> tuple[nn.Module, ...]:
        """Return the vision encoder of the model."""
        found: Any = self.language_model.get_encoder(modality="image")
        return () if found is self.language_model else (found,)

    def language_layers(self) -> list[nn.Module]:
        """Return the layers of the decoder; its encoders run for the samples that have something to encode."""
        inside = encoder_names(self.language_model)
        within = decoder_names(self.language_model)
        found = {id(layer) for layer in layers(self.language_model)}
        return [
            module
            for name, module in self.language_model.named_modules()
            if id(module) in found and name.startswith(within) and not name.startswith(inside)
        ]

    def vision_layers(self) -> tuple[nn.Module, ...]:
        """Return nothing: what a vision encoder's layers are is the family's own affair."""
        return ()

    def tune(self, tuning: LanguageLora | Literal["full"] | None) -> None:
        """Let the language model be trained, see `Backbone.tune`; its vision encoder never is."""
        self.tuning = tuning
        if isinstance(tuning, LanguageLora):
            own = self.language_model
            tune_language(own, tuning, within=decoder_names(own), outside=encoder_names(own))
        elif tuning == FULL and not self.shape_only:
            self.identity(), self.language_identity()

    def tuned_parameters(self) -> dict[str, nn.Parameter]:
        """Return what is trained of the language model; nothing where it is frozen."""
        if self.tuning != FULL:
            return super().tuned_parameters()
        within, outside = decoder_names(self.language_model), encoder_names(self.language_model)
        return {
            name: own
            for name, own in self.language_model.named_parameters()
            if name.startswith(within) and not name.startswith(outside)
        }


def decoder_names(model: PreTrainedModel) -> str:
    """Return the start of the names of everything in a model's decoder, such as "model.language_model."."""
    decoder = model.get_decoder()
    return next(f"{name}." for name, module in model.named_modules() if module is decoder)


def encoder_names(model: PreTrainedModel) -> tuple[str, ...]:
    """Return starts of the names of what a decoder has of encoders inside (Phi-4)."""
    decoder: Any = model.get_decoder()
    return tuple(
        f"{decoder_names(model)}{name}."
        for name, part in decoder.named_children()
        if any(
            isinstance(module, PreTrainedModel) and module.config.model_type != decoder.config.model_type
            for module in part.modules()
        )
    )


def beside_decoder(model: PreTrainedModel) -> list[str]:
    """Return the paths of what is no part of the decoder and holds none of it: encoders, projectors, the output layer.

    Args:
        model: whole; one of shapes alone will do.
    """
    decoder, inside = decoder_names(model), encoder_names(model)
    modules = [f"{name}." for name, _ in model.named_modules() if name]
    beside = [name for name in modules if not decoder.startswith(name) and not name.startswith(decoder)]
    top = [name for name in beside if not any(name != own and name.startswith(own) for own in beside)]
    head = model.get_output_embeddings()  # Llama 4's is inside its decoder
    top += [f"{name}." for name, module in model.named_modules() if module is head]
    return [name.removesuffix(".") for name in dict.fromkeys((*top, *inside))]


def placeholder_ids(model: PreTrainedModel, traits: Traits) -> tuple[int, ...]:
    """Return the ids that visual tokens take the place of.

    Raises:
        OptionsError: when the configuration names none.
    """
    found = named_ids(model, traits.placeholders)
    if not found:
        raise OptionsError(
            f"The configuration of this '{model.config.model_type}' model names no token for pictures "
            f"({', '.join(traits.placeholders)}). Accepted: vision-language models whose prompts have such tokens. Use "
            "a model of another family, see docs/backbones.md."
        )
    return tuple(found)


def named_ids(model: PreTrainedModel, paths: Sequence[str]) -> list[int]:
    """Return the ids that a configuration has under some attributes, dotted; an attribute may be absent or a list."""
    found: list[int] = []
    for path in paths:
        value: Any = model.config
        for part in path.split("."):
            value = getattr(value, part, None)
        found += [value] if isinstance(value, int) else list(value or ())
    return list(dict.fromkeys(found))


def kinds_of(processor: Any, model: PreTrainedModel, *, picture: str | None) -> tuple[str, ...]:
    """Return the names of the arguments a family gives per token beside the ids.

    Args:
        processor: is asked for a prompt.
        model: whose forward pass takes them.
        picture: text of a picture, where the processor refuses text alone.
    """
    if picture is None:
        found = processor(text=["a"], return_tensors="pt")
    else:
        found = processor(text=[picture], images=[Image.new("RGB", (SIDE, SIDE))], return_tensors="pt")
    shape, arguments = found["input_ids"].shape, forward_arguments(model)
    names = [name for name, value in found.items() if getattr(value, "shape", None) == shape and name in arguments]
    return tuple(name for name in names if name not in ("input_ids", "attention_mask"))


def forward_arguments(model: PreTrainedModel) -> frozenset[str]:
    """Return the names of the arguments of a model's forward pass."""
    return frozenset(inspect.signature(model.forward).parameters) - {"labels"}


def picture_side(processor: Any) -> int:
    """Return the side of the square pictures a processor takes; `SIDE` where it takes any."""
    size = getattr(processor.image_processor, "size", None) or {}
    given: Sequence[int] = [int(size[name]) for name in ("height", "width") if size.get(name)]
    return given[0] if len(given) == 2 and given[0] == given[1] else SIDE


def _exact(value: Tensor) -> Tensor:
    return value.double() if value.is_floating_point() else value.long()
