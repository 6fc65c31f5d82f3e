"""Backbones as shapes alone, to count without their weights.

Every weight is one zero seen through a view of its full shape, so a model of billions
of parameters takes no memory and still runs its real control flow; whatever depends on values is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import nn
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedTokenizerFast


def shape_model(model_class: Any, config: PreTrainedConfig, *, dtype: torch.dtype) -> Any:
    """Build a model of the right shapes whose weights take no memory.

    Args:
        model_class: of transformers, or what else makes a model of a configuration.
        config: of the whole model.
        dtype: of vision encoder and language model, which decides the megabytes that are reported.
    """
    with init_empty_weights(include_buffers=False):
        model = model_class(config)
    if isinstance(getattr(model, "language_model", None), GenerationMixin):  # what comes before it shares nothing
        _tie(model.language_model)
    elif isinstance(model, GenerationMixin):  # a language model, or a video language model
        _tie(model)
    return _without_memory(model, dtype)


@contextmanager
def shapes_alone(module: nn.Module) -> Iterator[None]:
    """Keep the parameters that the block gives a module as shapes: one zero each, seen through its full shape.

    Args:
        module: gets its parameters inside the block; those it has already stay as they are.
    """
    with init_empty_weights(include_buffers=False):
        yield
    for own in list(module.modules()):
        for key, parameter in list(own.named_parameters(recurse=False)):
            if parameter.is_meta:
                zero = torch.zeros((), dtype=parameter.dtype).expand(parameter.shape)
                setattr(own, key, nn.Parameter(zero, requires_grad=False))


def _without_memory(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    seen: dict[int, nn.Parameter] = {}
    for path, module in model.named_modules():
        # What lies between the frozen parts and the adapters is float32 in every model, see `precision.keep_full`.
        own = torch.float32 if path.startswith(("qformer", "language_projection")) or not path else dtype
        for key, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) not in seen:  # tied weights stay tied
                zero = torch.zeros((), dtype=own).expand(parameter.shape)
                seen[id(parameter)] = nn.Parameter(zero, requires_grad=False)
            setattr(module, key, seen[id(parameter)])
    return model


def _tie(language_model: Any) -> None:
    # Building without memory loses shared weights. T5 1.1 shares its embedding between both stacks and keeps an output
    # layer of its own, although transformers 5 sets tie_word_embeddings for every T5.
    shared = getattr(language_model, "shared", None)
    if shared is None:
        language_model.tie_weights()
    else:
        for stack in ("encoder", "decoder"):
            language_model.get_submodule(stack).get_submodule("embed_tokens").weight = shared.weight


def shape_tokenizer(special: Mapping[str, int] | None = None) -> PreTrainedTokenizerFast:
    """Return a stand-in tokenizer, one token per word, digit and punctuation mark, to count prompt lengths.

    Args:
        special: ids of special tokens, which texts may contain.
    """
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

    given = dict(special or {})
    free = (number for number in count() if number not in given.values())
    words = {**{text: next(free) for text in ("<pad>", "</s>", "<unk>")}, **given}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(r"[^\w\s]|\d"), behavior="isolated")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", words["</s>"])])
    tokenizer.add_special_tokens(list(given))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
