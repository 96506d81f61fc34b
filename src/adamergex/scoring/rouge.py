"""ROUGE and chrF of generated text, in every script."""

from functools import cache

import regex
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import Tokenizer
from sacrebleu.metrics import CHRF

from adamergex.scoring.languages import UNSPACED, caseless, composed, primary_language

_TOKEN = regex.compile(rf"(?V1)(?={UNSPACED})\X|(?:(?!{UNSPACED})[\p{{L}}\p{{M}}\p{{N}}])+")
_CHRF = CHRF(char_order=6, word_order=0, beta=2)


def rouge(prediction: str, reference: str, language: str) -> dict[str, float]:
    """ROUGE-1, ROUGE-2 and ROUGE-L F-measures (Lin 2004), by the `rouge-score` package with a multilingual tokenizer.

    Tokens are runs of letters, combining marks and digits, `caseless`; of scripts that put no space between words
    (Han, kana, Thai, Lao, Khmer, Myanmar) every grapheme cluster is a token. There is no stemming: on ASCII
    text these are the tokens of `rouge-score` itself, which drops every other letter. XL-Sum's multilingual ROUGE
    (Hasan et al. 2021) cuts words as this does, but divides letters from digits, stems where it is asked to, and has
    word segmenters for Chinese, Japanese and Thai; figures in those are not comparable with ours.

    Args:
        prediction: the model's text.
        reference: the human's text.
        language: a BCP 47 code, for its rules of lower case (Turkish I and İ).

    Returns:
        `rouge1`, `rouge2` and `rougeL`, in 0..1; 0 where one of the texts has no token, or no two for ROUGE-2.

    Raises:
        ValueError: `language` is no well-formed code.
    """
    scores = _scorer(primary_language(language)).score(reference, prediction)
    return {name: float(score.fmeasure) for name, score in scores.items()}


def chrf(prediction: str, reference: str) -> float:
    """Sentence chrF2 in 0..1 (Popović 2015), by sacrebleu.

    Character n-grams up to 6, no word n-grams, β = 2, case kept, white space dropped, no smoothing:
    `nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no`. Both texts are brought into one form of Unicode before (`composed`).
    """
    return float(_CHRF.sentence_score(composed(prediction), [composed(reference)]).score) / 100


@cache
def _scorer(language: str) -> RougeScorer:
    return RougeScorer(["rouge1", "rouge2", "rougeL"], tokenizer=_Tokens(language))


class _Tokens(Tokenizer):
    """The tokenizer that `rouge-score` calls."""

    def __init__(self, language: str):
        self._language = language

    def tokenize(self, text: str) -> list[str]:
        return _TOKEN.findall(caseless(text, self._language))
