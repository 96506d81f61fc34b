"""Exact match and F1 of extractive answers: SQuAD's metrics, with MLQA's normalisation for each language."""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache

import regex

from adamergex.scoring.languages import UNSPACED, caseless, primary_language

# MLQA's lists; its pattern for Arabic comes down to this prefix anywhere in a word.
_ARTICLES = {
    "en": r"\b(?:a|an|the)\b",
    "es": r"\b(?:un|una|unos|unas|el|la|los|las)\b",
    "vi": r"\b(?:của|là|cái|chiếc|những)\b",
    "de": r"\b(?:ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b",
    "ar": "ال",
}
_MLQA = {"ar", "de", "en", "es", "hi", "vi", "zh"}
_MLQA_CHINESE = re.compile(r"[\u4e00-\u9fa5]|[^\s\u4e00-\u9fa5]+")
# What stands between syllables or words where others have a space: the tsheg of Tibetan, the wordspace of Ethiopic.
_BETWEEN = regex.compile(r"(?V1)[\p{P}&&[\p{Tibetan}\p{Ethiopic}]]")
_BY_SCRIPT = regex.compile(rf"(?V1)(?={UNSPACED})\X|(?:(?!{UNSPACED})\S)+")


def exact_match(prediction: str, golds: Sequence[str], language: str) -> float:
    """1 where the prediction is equal to a gold answer after normalisation, else 0.

    Both lose differences in case, punctuation, articles and additional white space, as in MLQA's own scorer (Lewis et
    al. 2020, mlqa_evaluation_v1.py); for English this is SQuAD's (Rajpurkar et al. 2016). Unlike there, they are brought into
    one form of Unicode before, and case is the language's (`languages.caseless`).

    MLQA defines this for ar, de, en, es, hi, vi and zh: which words are articles, and that in Chinese each of the
    characters U+4E00–9FA5 is a token. The rest is an extension: in other languages no articles are removed, and in scripts
    without spaces (Thai, kana, Han, Khmer, …) every grapheme cluster is a token, in Tibetan every syllable, so that F1 is
    not all or nothing.
    Published XQuAD figures in other languages than MLQA's are mostly made with SQuAD's English normalisation.

    Args:
        prediction: the model's answer.
        golds: all right answers; the best match counts.
        language: a BCP 47 code; of the answers, not of the question.

    Raises:
        ValueError: there is no gold answer, or `language` is no well-formed code.
    """
    tokens = _tokens(prediction, language)
    return max(float(tokens == _tokens(gold, language)) for gold in _checked_golds(golds))


def f1(prediction: str, golds: Sequence[str], language: str) -> float:
    """The harmonic mean of precision and recall over tokens, in 0..1; normalised and raising as `exact_match`.

    The best gold answer counts. An answer that is empty after normalisation scores 0, as in MLQA's scorer.
    """
    tokens = _tokens(prediction, language)
    return max(_overlap(tokens, _tokens(gold, language)) for gold in _checked_golds(golds))


def _checked_golds(golds: Sequence[str]) -> Sequence[str]:
    if not golds:
        raise ValueError("an answer without gold answers")
    return golds


def _overlap(tokens: list[str], gold: list[str]) -> float:
    shared = sum((Counter(tokens) & Counter(gold)).values())
    return 2 * shared / (len(tokens) + len(gold)) if shared else 0.0


def _tokens(answer: str, language: str) -> list[str]:
    """The tokens that are compared."""
    language = primary_language(language)
    text = _BETWEEN.sub(" ", caseless(answer, language))
    text = "".join(char for char in text if not _is_punctuation(char))
    text = re.sub(_ARTICLES.get(language, r"(?!)"), " ", text)
    if language == "zh":
        return _MLQA_CHINESE.findall(text)
    return text.split() if language in _MLQA else _BY_SCRIPT.findall(text)


@cache
def _is_punctuation(char: str) -> bool:
    return unicodedata.category(char).startswith("P") or char in string.punctuation
