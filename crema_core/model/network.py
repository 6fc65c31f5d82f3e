"""The model: frozen backbone, one adapter per modality, a fusion.

`encode` runs the encoders, `modality_tokens` one modality's adapter, `prompt` fuses and lays out the language
model's input, which `generate` and `score_choices` answer. The trainer calls these parts one by one so that nothing is
computed twice; `model(batch)` does all of it and returns the loss, as any module of torch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import Tensor, nn

from crema_core.common.tensors import copy_state
from crema_core.data import modality_calls
from crema_core.data.dataset import TrainBatch
from crema_core.errors import OptionsError, UnknownModalityError, did_you_mean
from crema_core.fusion.base import Fusion, FusionWatch, ModalitySet
from crema_core.fusion.connector import Connector, QFormerText
from crema_core.modality import Modality
from crema_core.model.backbone import Backbone
from crema_core.model.feature_tokens import pack_features, run_connector
from crema_core.model.memory import require_room
from crema_core.model.own_tokens import OwnTokens
from crema_core.model.precision import computing_as_built
from crema_core.model.prompt import Prompt
from crema_core.model.template import PromptTemplate
from crema_core.plugins.spec import MMQASpec, ModalitySpec
from crema_core.tokens import ModalityBatch, ModalityFeatures, ModalityInput, ModalityTokens, known_inputs

ENCODER = "encoder."
"""Start of the keys of a trainable encoder in an adapter file."""

Outputs = Mapping[str, Mapping[str, float]]
"""Further numbers about a sample: by name of an output, such as "encoder_weights", numbers by name."""


Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def computes_as_built(call: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Let a function whose argument `model` comes first compute as that answers, see `CremaNetwork.computing`."""

    @functools.wraps(call)
    def computing(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        model = cast(CremaNetwork, args[0] if args else kwargs["model"])
        with model.computing():
            return call(*args, **kwargs)

    return computing


class CremaNetwork(nn.Module):
    """What is trained and run; `crema_core.CremaModel` adds the verbs users look for.

    Args:
        backbone: the frozen parts.
        branches: by name, in the order of sequential training.
        fusion: the strategy.
        major: name of the modality whose frames the others are fused on.
        template: wording of questions.
        config: what is needed to build the same model again, plain JSON data.
    """

    def __init__(
        self,
        backbone: Backbone,
        branches: Mapping[str, ModalityBranch],
        fusion: Fusion,
        *,
        major: str,
        template: PromptTemplate,
        config: dict[str, Any],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.modalities = nn.ModuleDict(branches)
        self.fusion = fusion
        self.major, self.template, self.config = major, template, config
        self.language = backbone.speaking(template)
        self.left_out: LeftOut | None = None
        self.train(False)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the modalities, in the order of sequential training."""
        return tuple(self.modalities)

    @property
    def specs(self) -> dict[str, ModalitySpec]:
        """Declarations of the modalities."""
        return {name: self.branch(name).spec for name in self.names}

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.backbone.device

    def branch(self, name: str) -> ModalityBranch:
        """Return one built modality.

        Raises:
            UnknownModalityError: when the model has no such modality.
        """
        if self.left_out is not None and name in self.left_out.modalities:
            package = self.left_out.modalities[name].entry["distribution"] or "its spec"
            raise UnknownModalityError(
                f"This model was opened without '{name}'. It answers from: {', '.join(self.names)}. Leave its sources "
                f"out, or install {package} and load the model whole."
            )
        if name not in self.modalities:
            raise UnknownModalityError(
                f"This model has no modality '{name}'. It has: {', '.join(self.names)}."
                f"{did_you_mean(name, self.names)} Add one with model.add_modality('{name}')."
            )
        branch = self.modalities[name]
        assert isinstance(branch, ModalityBranch)
        return branch

    def computing(self) -> AbstractContextManager[None]:
        """Compute what is inside as this model answers: in bf16 where it was built so, see `computing_as_built`."""
        return computing_as_built(self.config["backbone"]["precision"], self.device)

    def encode(self, batches: Mapping[str, ModalityBatch]) -> dict[str, ModalityFeatures]:
        """Run the encoders, frozen ones without gradient."""
        return {name: self.branch(name).encode(batch.to(self.device)) for name, batch in batches.items()}

    def encode_frozen(self, batches: Mapping[str, ModalityBatch]) -> dict[str, ModalityInput]:
        """Run the frozen encoders; what trainable ones read is moved to the device, for `modality_tokens`."""
        return {
            name: batch.to(self.device) if self.branch(name).modality.trainable else self.encode({name: batch})[name]
            for name, batch in batches.items()
        }

    @property
    def reads_questions(self) -> bool:
        """Whether a modality's tokens depend on the question (InstructBLIP's Q-Former)."""
        return self._reads_text and self.template.qformer_input == "question"

    @property
    def _reads_text(self) -> bool:
        return any(self.branch(name).adapter.reads_text for name in self.names)

    def modality_tokens(
        self, name: str, features: ModalityInput, questions: Sequence[str] | None = None
    ) -> ModalityTokens:
        """Return one modality's tokens `(R, T, Q, L)`; differentiable in that modality's adapter.

        Given what its encoder reads, as `encode_frozen` leaves that of a trainable one, the encoder runs here, and they
        are differentiable in it too.

        Where the fusion lets all modalities pass the Q-Former together, they are the features as they came.

        Args:
            name: the modality.
            features: of the samples that have it, or their prepared sources on the model's device.
            questions: rendered texts of all samples; needed where `reads_questions`, else not looked at.

        Raises:
            OptionsError: when the questions are needed and missing.
        """
        if isinstance(features, ModalityBatch):
            features = self.branch(name).encode(features)
        text = self._text(features, questions)
        if self.fusion.reads_features:
            return pack_features(features, text)
        return self.branch(name).tokens(features, text)

    def _text(self, features: ModalityFeatures, questions: Sequence[str] | None) -> QFormerText | None:
        """Return what the Q-Former reads beside the features; None where it reads no text."""
        if self._reads_text and self.template.qformer_input == "instruction":
            num_samples = int(features.rows.max()) + 1  # one text for all samples
            return self.backbone.read([self.template.instruction] * num_samples)
        if not self.reads_questions:
            return None
        if questions is None:
            raise OptionsError(
                "This backbone's Q-Former reads the question, so tokens of a modality need the questions of the batch. "
                "Accepted: one rendered text per sample. Pass modality_tokens(name, features, questions), or build "
                "with template={'qformer_input': 'queries'}."
            )
        return self.backbone.read(questions)

    def tokens(self, features: Mapping[str, ModalityInput], questions: Sequence[str]) -> dict[str, ModalityTokens]:
        """Return the tokens of all modalities of a batch; `questions` are texts already rendered."""
        return {name: self.modality_tokens(name, own, questions) for name, own in features.items()}

    def prompt(
        self,
        tokens: Mapping[str, ModalityTokens],
        questions: Sequence[str],
        *,
        fusion: Fusion | None = None,
        watch: FusionWatch | None = None,
    ) -> Prompt:
        """Fuse the modalities and lay out the language model's input.

        Args:
            tokens: of the modalities of the batch.
            questions: B texts already rendered.
            fusion: the strategy to fuse with; None: the model's own.
            watch: is filled in with what the fusion did, see `FusionWatch`; None: nobody looks.

        Raises:
            OutOfMemoryError: for a prompt that cannot fit into the machine's memory.
        """
        ordered = {name: tokens[name] for name in self.names if name in tokens}
        connectors = {name: self.branch(name).adapter for name in self.names}
        fusion = self.fusion if fusion is None else fusion
        if self.fusion.reads_features and not fusion.reads_features:
            ordered = {name: run_connector(connectors[name], own) for name, own in ordered.items()}
        specs = self.specs
        segments = []
        if ordered:
            modalities = ModalitySet(
                ordered,
                major=self.major,
                num_samples=len(questions),
                prefixes=self._prefixes(),
                per_frame=frozenset(name for name, spec in specs.items() if spec.per_frame),
                watch=watch,
                connectors=connectors,
            )
            segments = fusion(modalities)
        prompt = self.language.prompt(segments, questions, max_question_tokens=self.template.max_question_tokens)
        require_room(prompt.embeds, self.language.model.config)
        return prompt

    def _prefixes(self) -> dict[str, str]:
        """Return the prefix of every modality; fused tokens have that of the major one."""
        found = {name: self.branch(name).prefix for name in self.names}
        if isinstance(self.branch(self.major).adapter, OwnTokens):  # whose text is around its tokens already
            entries = [{"name": name, "prefix": prefix} for name, prefix in found.items()]
            entries = entries if self.left_out is None else self.left_out.among(entries)
            prefixes = [entry["prefix"] for entry in entries if entry["name"] != self.major]
            titles = [prefix.replace(" {index}", "").rstrip(": ") for prefix in prefixes]
            found[self.major] = ", ".join(titles) + ": "
        return found

    def forward(self, batch: TrainBatch, *, features: Mapping[str, ModalityFeatures] | None = None) -> Tensor:
        """Return the loss of a training batch (scalar), differentiable in everything that is trainable.

        This is the whole model as torch and accelerate know modules: encoders, adapters, fusion, language model. The
        sequential trainer calls the parts instead, because it keeps what a sub-step does not change.

        Args:
            batch: B samples with their answers, as `crema_core.data.dataset.collate` makes them.
            features: of the modalities in `batch.present`, where they are encoded already, for example by
                `crema_core.features.encode.encode_batch` from a cache; None: `batch.modalities` are encoded here.

        Raises:
            OptionsError: when a modality of the batch is neither prepared nor given as features.
            DataFileError: when an answer is not one of its question's choices.

        Example:
            >>> loss = model(batch)    # doctest: +SKIP
            >>> loss.backward()    # doctest: +SKIP
        """
        found = self.encode(batch.modalities) if features is None else features
        if lacking := [name for name in batch.present if name not in found]:
            raise OptionsError(
                f"The batch has {', '.join(lacking)} in some samples, neither prepared nor as features. Accepted: "
                "every modality of batch.present, in batch.modalities or in features. Pass "
                "model(batch, features=encode_batch(model, cache, batch)) where a cache holds them."
            )
        questions = [self.template.render(record.question, record.choices) for record in batch.records]
        answers = [self.template.target(record.answer, record.choices) for record in batch.records]
        own = known_inputs({name: found[name] for name in batch.present})
        return self.loss(self.tokens(own, questions), questions, answers)

    def loss(
        self,
        tokens: Mapping[str, ModalityTokens],
        questions: Sequence[str],
        answers: Sequence[str],
        *,
        num_tokens: int | None = None,
    ) -> Tensor:
        """Return the mean cross-entropy of the answers' tokens (scalar), see `Language.loss`."""
        return self.language.loss(self.prompt(tokens, questions), answers, num_tokens=num_tokens)

    def extra_outputs(self, tokens: Mapping[str, ModalityTokens], num_samples: int) -> list[Outputs]:
        """Return what the connectors say of every sample beside its tokens; most say nothing.

        Args:
            tokens: of the modalities of a batch.
            num_samples: of the batch.
        """
        found: list[dict[str, Mapping[str, float]]] = [{} for _ in range(num_samples)]
        for name, own in tokens.items():
            for output, values in self.branch(name).adapter.outputs(own).items():
                for row, numbers in zip(own.rows.tolist(), values, strict=True):
                    found[row][output] = numbers
        return list(found)

    @torch.no_grad()
    def generate(
        self, prompt: Prompt, *, max_new_tokens: int = 10, num_beams: int = 1, length_penalty: float = 1.0
    ) -> list[str]:
        """Return generated answers to what `prompt` laid out."""
        return self.language.generate(
            prompt, max_new_tokens=max_new_tokens, num_beams=num_beams, length_penalty=length_penalty
        )

    @torch.no_grad()
    def score_choices(self, prompt: Prompt, choices: Sequence[Sequence[str]]) -> list[list[float]]:
        """Return a log-probability per sample and choice, by the template's `choice_scoring`."""
        if self.template.choice_scoring == "likelihood":
            return self.language.likelihood_scores(prompt, choices)
        released = self.template.choice_scoring == "released"
        score = self.language.released_letter_scores if released else self.language.letter_scores
        scores = score(prompt, max(map(len, choices)))
        rows = [row[: len(own)].log_softmax(-1) for row, own in zip(scores, choices, strict=True)]
        of_all = iter(torch.cat(rows).tolist())  # read from the device at once
        return [list(islice(of_all, len(own))) for own in choices]

    def lora_parameters(self, name: str) -> dict[str, nn.Parameter]:
        """Return one modality's LoRA matrices by `<layer>.<query|value>.<A|B>`; none where its connector has none."""
        return self.branch(name).adapter.lora()

    def adapter_parameters(self, name: str) -> dict[str, nn.Parameter]:
        """Return everything trainable of one modality except its fusion block, keyed as in an adapter file."""
        return self.branch(name).trained()

    def fusion_parameters(self, names: Sequence[str] | None = None) -> dict[str, nn.Parameter]:
        """Return the fusion's parameters: the blocks of `names` alone, or all of them with what they share."""
        if names is None:
            return dict(self.fusion.named_parameters())
        return self.fusion.block_parameters(names)

    def language_parameters(self) -> dict[str, nn.Parameter]:
        """Return what is trained of the language model, see `crema_core.model.tuning`; nothing where it is frozen."""
        return self.backbone.tuned_parameters()

    def shared_parameters(self) -> dict[str, nn.Parameter]:
        """Return the trainable state that belongs to no modality alone, keyed `fusion.*` and `language.*`."""
        found = {f"fusion.{key}": parameter for key, parameter in self.fusion.shared_parameters().items()}
        return found | {f"language.{key}": parameter for key, parameter in self.language_parameters().items()}

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """Return all trainable state, keyed `modalities.<name>.*`, `fusion.*` and `language.*`."""
        found = {
            f"modalities.{name}.{key}": parameter
            for name in self.names
            for key, parameter in self.adapter_parameters(name).items()
        }
        found |= {f"fusion.{key}": parameter for key, parameter in self.fusion_parameters().items()}
        return found | {f"language.{key}": parameter for key, parameter in self.language_parameters().items()}

    def adapter_state_dict(self) -> dict[str, Tensor]:
        """Return detached copies of all trainable state, on the CPU."""
        return {key: value.detach().cpu().clone() for key, value in self.trainable_parameters().items()}

    @torch.no_grad()
    def load_adapter_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Copy trainable state into the model; keys and shapes must be exactly this model's.

        Raises:
            CheckpointError: listing every missing, unknown or wrongly shaped tensor; nothing is changed then.
        """
        copy_state(self.trainable_parameters(), state)

    def frozen_fingerprint(self) -> str:
        """Return the sha256 of the frozen backbone."""
        return self.backbone.fingerprint()

    def train(self, mode: bool = True) -> CremaNetwork:
        """Put adapters and fusion in train mode; everything frozen stays in eval mode."""
        super().train(mode)
        self.backbone.train(mode)
        self.backbone.train_lora(mode)
        return self


@dataclass(frozen=True)
class LeftOutModality:
    """A modality of a saved model that is not built here: what its folder holds."""

    position: int  # in the order of sequential training
    entry: dict[str, Any]  # its record in the model's configuration
    description: dict[str, Any]  # of its adapter file
    tensors: dict[str, Tensor]  # everything trained of it, its fusion block included


@dataclass(frozen=True)
class LeftOut:
    """What a model was opened without, see `crema_core.load`; it is saved again with the model."""

    modalities: dict[str, LeftOutModality]
    fusion: dict[str, Tensor]  # shared weights of a fusion that has nothing to fuse here, keyed `fusion.*`
    encoders: list[dict[str, str]]  # encoders of these modalities alone, as a configuration names them

    def among(self, entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return records of the model's modalities with those of the ones left out at their places."""
        everyone = list(entries)
        for own in sorted(self.modalities.values(), key=lambda own: own.position):
            everyone.insert(own.position, own.entry)
        return everyone


@dataclass(frozen=True)
class Provenance:
    """Which installed package provides a modality; recorded in every checkpoint."""

    distribution: str
    version: str
    api_version: str


class ModalityBranch(nn.Module):
    """A modality and its adapter.

    Args:
        modality: the plugin's instance; frozen unless it is `trainable`.
        adapter: its connector, which holds everything else that is trained of the modality.
        mmqa: the sizes of an adapter around the Q-Former, number of queries filled in.
        provenance: the package it came from.
        prefix: text before its tokens; the declared one unless the user chose another.
    """

    def __init__(
        self, modality: Modality, adapter: Connector, mmqa: MMQASpec, provenance: Provenance, prefix: str | None = None
    ) -> None:
        super().__init__()
        self.modality, self.adapter = modality, adapter
        self.mmqa, self.provenance = mmqa, provenance
        self.prefix = modality.spec.prefix if prefix is None else prefix
        # options left open by the user, as the modality chose them for this backbone
        self.defaults: dict[str, Any] = {}
        # the fingerprint its weights were trained with, where the features made here have another one
        self.trained_features: Mapping[str, Any] | None = None

    @property
    def spec(self) -> ModalitySpec:
        """The plugin's declaration."""
        return self.modality.spec

    def trained(self) -> dict[str, nn.Parameter]:
        """Return everything trainable of the modality except its fusion block, keyed as in an adapter file."""
        return self.adapter.trained() | self.encoder_parameters()

    def encoder_parameters(self) -> dict[str, nn.Parameter]:
        """Return the parameters of a trainable encoder, keyed `encoder.*`; nothing of a frozen one."""
        if not self.modality.trainable:
            return {}
        return {f"{ENCODER}{key}": parameter for key, parameter in self.modality.named_parameters()}

    def encode(self, batch: ModalityBatch) -> ModalityFeatures:
        """Run the encoder, a frozen one without gradient; what it returns is checked against the contract.

        Raises:
            ContractError, TrainingError: as `crema_core.data.modality_calls.encode`.
        """
        return ModalityFeatures(modality_calls.encode(self.modality, batch.batch, batch.labels), batch.rows)

    def tokens(self, features: ModalityFeatures, text: QFormerText | None = None) -> ModalityTokens:
        """Turn features `(R, T, N, D)` into tokens, see `Connector.forward`; differentiable in the adapter."""
        tokens: ModalityTokens = self.adapter(features, text)
        return tokens
