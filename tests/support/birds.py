"""A data set of songs with its own rule, measure, wording and columns, and training runs on it, for tests of core."""

from __future__ import annotations

from collections.abc import Sequence

from crema_core.datasets.spec import AnnotationFile, Column, DatasetSpec, Media, Wording
from crema_core.evaluation.metric import Metric, Pairs
from crema_core.plugins import registry
from crema_core.plugins.preset import Preset, PresetFamily

NAME = "songbirds"
WORDING = Wording(
    open_ended="Listen. {question} Name one bird.",
    multiple_choice="Listen. {question} {options} Choose a bird.",
    source="a field guide",
)
LETTERS = {"v": "video", "w": "wave"}


def _last_word(prediction: str, answers: Sequence[str]) -> bool:
    return prediction.lower().rstrip(".").split()[-1:] in [answer.split()[-1:] for answer in answers]


def _lengths(pairs: Pairs) -> dict[str, float]:
    words = [len(text.split()) for text, _ in pairs]
    return {"words": sum(words) / len(words), "most_words": float(max(words))}


LAST_WORD = Metric("last_word", "the last word is that of an answer", _last_word)
LENGTHS = Metric("lengths", "words of an answer", compute=_lengths)
SONGBIRDS = DatasetSpec(
    name=NAME,
    summary="Which bird sings.",
    source="https://example.org/songbirds",
    license="CC0-1.0",
    splits=("train",),
    files=(AnnotationFile(path="songs.csv"),),
    media=(Media(modality="video", path="clips/<clip>.mp4"),),
    read=lambda place: iter(()),
    wording=WORDING,
    scorer=LAST_WORD.name,
    measures=(LENGTHS.name,),
    columns=(Column(name="Songs", types=("short", "long")), Column(name="Calls", types=("alarm",))),
)


def _run(variant: str) -> Preset | None:
    if not variant or not set(variant) <= set(LETTERS):
        return None
    return Preset(
        f"{NAME}-{variant}",
        NAME,
        {"modalities": [LETTERS[letter] for letter in variant], "fusion": "self_gated", "template": WORDING.template},
        {"lr": 3e-4, "weight_decay": 0.07, "warmup_steps": 30},
        {"lr": "a guess", "weight_decay": "a field guide", "template": WORDING.source},
    )


RUNS = PresetFamily(NAME, ("v", "vw"), _run)


def register_songbirds() -> None:
    """Make the data set, what judges it, and its runs known by name until the test ends."""
    registry.register(LAST_WORD, kind="metric")
    registry.register(LENGTHS, kind="metric")
    registry.register(SONGBIRDS, kind="dataset")
    registry.register(RUNS, kind="preset")
