"""Measures of a whole data set."""

from __future__ import annotations

import importlib.util
import math
import shutil

import pytest

from crema_benchmarks import captions
from crema_benchmarks.captions import caption_scores, split_words
from crema_benchmarks.measures import in_vocabulary
from crema_core.errors import OptionsError
from crema_core.evaluation.metric import find_scorer, measure, require_measures
from crema_core.plugins import registry

PAIRS = [("a dog barks", ("dog barking", "a dog barks")), ("cat", ("cat meowing",)), ("drums", ("drum",))]


def test_answers_outside_the_vocabulary_are_counted_apart() -> None:
    pairs = [("Dog.", ("dog",)), ("cat", ("dog",)), ("woof", ("dog",)), ("cat", ("cat",))]
    assert in_vocabulary(pairs) == {"in_vocabulary": 0.75, "accuracy_in_vocabulary": 2 / 3}
    assert in_vocabulary([("woof", ("dog",))]) == {"in_vocabulary": 0.0, "accuracy_in_vocabulary": 0.0}


def test_rules_are_measures_too() -> None:
    assert measure(["exact", "em_refined"], PAIRS) == {"exact": 1 / 3, "em_refined": 2 / 3}


def test_unknown_measures_are_refused_before_any_work() -> None:
    with pytest.raises(OptionsError) as error:
        require_measures(["caption"])
    assert str(error.value) == (
        f"'caption' is not an installed metric. Installed: {', '.join(registry.installed_names('metric'))}. Did you "
        "mean 'captions'?"
    )


def test_an_absent_package_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions, "PACKAGE", "pycocoevalcap_absent")
    with pytest.raises(OptionsError) as error:
        require_measures(["captions"])
    assert str(error.value) == (
        "'captions' (BLEU-4, ROUGE-L, CIDEr) needs the package pycocoevalcap_absent, which is not installed. Leave the "
        "measure out, or run: pip install 'crema-benchmarks[captions]'"
    )


def test_absent_java_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions, "PACKAGE", "json")  # any package that is there
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(OptionsError) as error:
        require_measures(["captions_java"])
    assert str(error.value) == (
        "'captions_java' needs the program java for METEOR and the Penn Treebank tokenizer; there is none. Install "
        "Java, or use 'captions', which does without."
    )


def test_words_are_split_like_captions() -> None:
    assert split_words("It's a man, isn't it? 3.5 m, black-white!") == "it 's a man is n't it 3.5 m black-white"


@pytest.mark.skipif(importlib.util.find_spec("pycocoevalcap") is None, reason="pycocoevalcap is not installed")
def test_captions_by_hand() -> None:
    same = [
        ("a man sits on a chair", ("A man sits on a chair.",)),
        ("a dog runs in the park", ("a dog runs in the park",)),
    ]
    perfect = caption_scores(same)
    assert perfect["bleu_4"] == pytest.approx(1.0)
    assert perfect["rouge_l"] == pytest.approx(1.0)
    assert perfect["cider"] == pytest.approx(10.0)
    # Five of six words in order: precision 1, recall 5/6, and F with beta 1.2.
    cut = caption_scores([("a man sits on chair", ("A man sits on a chair.",)), same[1]])
    recall, beta2 = 5 / 6, 1.2**2
    assert cut["rouge_l"] == pytest.approx(((1 + beta2) * recall / (recall + beta2) + 1) / 2)
    # Words 11/11, pairs 8/9, triples 6/7, quadruples 4/5 over both; brevity 11 words for 12.
    precisions = [11 / 11, 8 / 9, 6 / 7, 4 / 5]
    expected = math.exp(1 - 12 / 11) * math.prod(precisions) ** 0.25
    assert cut["bleu_4"] == pytest.approx(expected, rel=1e-6)


def test_a_measure_of_whole_data_sets_judges_no_single_answer() -> None:
    with pytest.raises(OptionsError) as error:
        find_scorer("captions")
    assert str(error.value) == (
        "'captions' (BLEU-4, ROUGE-L and CIDEr) measures a data set as a whole and cannot judge single answers. "
        "Accepted as scorer: a metric with a rule for them, such as 'exact'. Name it among the measures instead."
    )
