"""A model of lmms-eval: `lmms-eval --model crema --model_args pretrained=my-model --tasks ...`.

lmms-eval brings tasks and scoring, this class brings answers. It is found through the entry-point group
`lmms_eval.models` and is a "simple" model there: a text, and a function that returns the media of a question.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from lmms_eval.api.model import lmms

from crema_benchmarks.lmms_eval_media import as_sources, routes
from crema_core.api.load import load
from crema_core.cli.inputs import model_folder
from crema_core.errors import OptionsError
from crema_core.features.feature_cache import prepare_batch
from crema_core.model.language import IGNORED
from crema_core.tokens import ModalityTokens
from crema_core.train.distributed import join_processes, own_device

logger = logging.getLogger(__name__)

PLACEHOLDER = "<image>"  # where a simple model of lmms-eval may put its media; here their place is before the question
MAX_NEW_TOKENS = 32


class CremaLmms(lmms):  # type: ignore[misc]  # lmms-eval is not installed where types are checked
    """A saved model that answers lmms-eval's requests.

    Args:
        pretrained: saved model, or run directory of `crema fit`.
        backbone, language_model: where they are now, if they moved.
        device: for example "cuda"; processes of a launch choose their own.
        batch_size: questions per pass.
        image_modality, clip_modality: modalities for pictures and clips; by default the major one.
        sound_modality: the modality for sounds, see `crema_benchmarks.lmms_eval_media.routes`.
        max_batch_size: given by lmms-eval and not needed.

    Raises:
        CheckpointError: when the model cannot be loaded.
        UnknownModalityError: for a modality the model does not have.
        OptionsError: for a batch size that is no number from 1.
    """

    is_simple = True

    def __init__(
        self,
        pretrained: str,
        backbone: str | None = None,
        language_model: str | None = None,
        device: str | None = None,
        batch_size: int | str = 8,
        image_modality: str | None = None,
        clip_modality: str | None = None,
        sound_modality: str | None = None,
        max_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        if not str(batch_size).isdigit() or int(batch_size) < 1:
            raise OptionsError(
                f"batch_size is '{batch_size}'. Accepted: a number from 1, it is not searched for. Write "
                "--batch_size 8."
            )
        processes = join_processes()
        self._rank, self._world_size = processes.rank, processes.count
        if processes.count > 1:
            self.accelerator = Accelerator()  # lmms-eval gathers the answers of all processes with it
        self.crema = load(
            model_folder(pretrained),
            backbone=backbone,
            language_model=language_model,
            device=own_device() if processes.count > 1 else device,
        )
        self.crema.backbone.require_weights()
        self.crema.eval()
        self.batch_size = int(batch_size)
        self.routes = routes(self.crema, picture=image_modality, clip=clip_modality, sound=sound_modality)
        self._told = False

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Return one answer per request; greedy, or with beams where the task requests them.

        Args:
            requests: instances with `args` (text, generation settings, function to media, index, task, split).
        """
        answers: dict[int, str] = {}
        for settings, places in self._grouped(requests):
            for start in range(0, len(places), self.batch_size):
                few = places[start : start + self.batch_size]
                texts = self._generate([requests[place] for place in few], settings)
                answers |= dict(zip(few, texts, strict=True))
        return [answers[place] for place in range(len(requests))]

    @torch.no_grad()
    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Return for every request the summed log-probability of its continuation, its end token included, and whether
        greedy decoding would give it.

        Args:
            requests: instances with `args` (text, continuation or function to it, function to media, index, task,
                split).
        """
        found: list[tuple[float, bool]] = []
        for start in range(0, len(requests), self.batch_size):
            few = requests[start : start + self.batch_size]
            targets = []
            for request in few:
                _, target, _, index, task, split = request.args
                targets.append(target if isinstance(target, str) else str(target(self._document(task, split, index))))
            language = self.crema.language
            ids_BA = language.answer_ids(targets).to(self.crema.device)
            with self.crema.computing():
                questions, tokens = self._read(few)
                logits_BAV = language.logits(self.crema.prompt(tokens, questions), ids_BA)
            logprobs_BAV = logits_BAV.float().log_softmax(-1)
            real = ids_BA != IGNORED
            picked = logprobs_BAV.gather(2, ids_BA.clamp(min=0)[:, :, None]).squeeze(2) * real
            greedy = ((logprobs_BAV.argmax(-1) == ids_BA) | ~real).all(1)
            found += zip(picked.sum(1).tolist(), greedy.tolist(), strict=True)
        return found

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Refuse: the model answers one question at a time.

        Raises:
            OptionsError: always.
        """
        raise OptionsError(
            "This task queries in several rounds. Models of this package answer single questions. Use a task of the "
            "kind generate_until or loglikelihood."
        )

    @torch.no_grad()
    def _generate(self, requests: Sequence[Any], settings: Mapping[str, Any]) -> list[str]:
        with self.crema.computing():
            questions, tokens = self._read(requests)
            texts = self.crema.generate(
                self.crema.prompt(tokens, questions),
                max_new_tokens=int(settings.get("max_new_tokens") or MAX_NEW_TOKENS),
                num_beams=int(settings.get("num_beams") or 1),
            )
        until = settings.get("until") or []
        return [_cut(text, [until] if isinstance(until, str) else until) for text in texts]

    @torch.no_grad()
    def _read(self, requests: Sequence[Any]) -> tuple[list[str], dict[str, ModalityTokens]]:
        """Return the rendered questions and the tokens of what they are about."""
        sources, questions = [], []
        for request in requests:
            text, _, to_media, index, task, split = request.args
            media = to_media(self._document(task, split, index))
            sources.append(as_sources([own for own in media or [] if own is not None], self.routes))
            questions.append(self.crema.template.render(text.replace(PLACEHOLDER, "").strip()))
        features = self.crema.encode(prepare_batch(self.crema, sources))
        return questions, self.crema.tokens(features, questions)

    def _document(self, task: str, split: str, index: Any) -> Any:
        return self.task_dict[task][split][index]

    def _grouped(self, requests: Sequence[Any]) -> list[tuple[Mapping[str, Any], list[int]]]:
        """Return the places of requests with equal settings; answers of one pass have one length limit."""
        groups: dict[str, tuple[Mapping[str, Any], list[int]]] = {}
        for place, request in enumerate(requests):
            settings = request.args[1]
            groups.setdefault(repr(sorted(settings.items())), (settings, []))[1].append(place)
        samples = any(own.get("do_sample") or (own.get("temperature") or 0) > 0 for own, _ in groups.values())
        if samples and not self._told:
            self._told = True
            logger.warning(
                "The task requests sampled answers. Models of this package answer greedily, so answers are the most "
                "likely ones and equal at every repetition. Set temperature=0 in the task to say so."
            )
        return list(groups.values())


def _cut(text: str, ends: Sequence[str]) -> str:
    for end in ends:
        if end:
            text = text.split(end)[0]
    return text.strip()
