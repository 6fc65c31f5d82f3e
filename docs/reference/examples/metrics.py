from collections.abc import Sequence

import crema_core
from crema_core.contract import Metric


def is_right(prediction: str, answers: Sequence[str]) -> bool:
    """Whether the first word is an answer's first word."""
    return prediction.split()[:1] in [answer.split()[:1] for answer in answers]


def compute(pairs: Sequence[tuple[str, Sequence[str]]]) -> dict[str, float]:
    """Values of a data set by name."""
    return {
        "first_word": sum(is_right(text, answers) for text, answers in pairs) / len(pairs),
        "words": sum(len(text.split()) for text, _ in pairs) / len(pairs),
    }


crema_core.registry.register(Metric("first_word", "the first words are equal", is_right, compute), kind="metric")
metric = crema_core.registry.load("metric", "first_word")
print(metric.values([("red ball", ["red cube"]), ("a sphere", ["sphere"])]))
