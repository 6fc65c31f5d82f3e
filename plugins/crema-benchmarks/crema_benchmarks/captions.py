"""Measures of sentences against references: BLEU-4, ROUGE-L and CIDEr, with Java also METEOR; by pycocoevalcap.

The only module that touches pycocoevalcap. Its measures are pure Python; the Penn Treebank tokenizer that published
numbers use, and METEOR, are Java programs. `captions` splits words here, without Java, which agrees with that
tokenizer except on abbreviations and brackets; `captions_java` is the published procedure.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Mapping, Sequence

from crema_core.errors import OptionsError

PACKAGE = "pycocoevalcap"
Tokens = Mapping[int, list[str]]


def require_captions(name: str) -> None:
    """Check that a measure can be computed here.

    Args:
        name: `captions` or `captions_java`.

    Raises:
        OptionsError: when the package or Java is absent.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        raise OptionsError(
            f"'{name}' (BLEU-4, ROUGE-L, CIDEr) needs the package {PACKAGE}, which is not installed. Leave the measure "
            "out, or run: pip install 'crema-benchmarks[captions]'"
        )
    if name == "captions_java" and shutil.which("java") is None:
        raise OptionsError(
            "'captions_java' needs the program java for METEOR and the Penn Treebank tokenizer; there is none. Install "
            "Java, or use 'captions', which does without."
        )


def split_words(text: str) -> str:
    """Return lower-case words separated by single spaces, punctuation left out, as COCO's captions are compared.

    Example:
        >>> split_words("It's a man, isn't it?")
        "it 's a man is n't it"
    """
    lowered = text.lower().replace("’", "'")
    lowered = re.sub(r"(\w)(n't)\b", r"\1 \2", lowered)
    lowered = re.sub(r"(\w)('(?:s|re|ve|ll|d|m))\b", r"\1 \2", lowered)
    return " ".join(re.findall(r"n't|'(?:s|re|ve|ll|d|m)\b|\w+(?:[-.,']\w+)*", lowered))


def caption_scores(pairs: Sequence[tuple[str, Sequence[str]]], *, java: bool = False) -> dict[str, float]:
    """Return the measures of a data set.

    Args:
        pairs: prediction and references, at least one.
        java: tokenise as published, and compute METEOR.

    Returns:
        `bleu_4`, `rouge_l`, `cider` (0..10, where papers print a hundred times that) and, with Java, `meteor`.

    Raises:
        OptionsError: when the package or Java is absent.
    """
    require_captions("captions_java" if java else "captions")
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    references, predictions = _tokens(pairs, java=java)
    found = {
        "bleu_4": float(Bleu(4).compute_score(references, predictions, verbose=0)[0][3]),
        "rouge_l": float(Rouge().compute_score(references, predictions)[0]),
        "cider": float(Cider().compute_score(references, predictions)[0]),
    }
    if java:
        from pycocoevalcap.meteor.meteor import Meteor

        found["meteor"] = float(Meteor().compute_score(references, predictions)[0])
    return found


def _tokens(pairs: Sequence[tuple[str, Sequence[str]]], *, java: bool) -> tuple[Tokens, Tokens]:
    if not java:
        return (
            {number: [split_words(text) for text in own] for number, (_, own) in enumerate(pairs)},
            {number: [split_words(text)] for number, (text, _) in enumerate(pairs)},
        )
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    tokenizer = PTBTokenizer()
    return (
        tokenizer.tokenize({number: [{"caption": text} for text in own] for number, (_, own) in enumerate(pairs)}),
        tokenizer.tokenize({number: [{"caption": text}] for number, (text, _) in enumerate(pairs)}),
    )
