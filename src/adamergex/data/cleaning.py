"""Cleaning of plain text in any script: near-duplicates, boilerplate, documents in other languages.

Each filter is an object that documents are streamed through. Its memory does not grow with the text, except for the
near-duplicates' Bloom filters, which take 70 to 220 bytes a document. Nothing depends on Python's own hash of strings,
which differs from process to process.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from hashlib import blake2b
from itertools import compress, pairwise
from typing import Any

import numpy as np
from langcodes import Language, tag_distance
from langcodes.data_dicts import MACROLANGUAGES
from rbloom import Bloom
from rensa import RMinHash

_BANDS, _ROWS = 20, 10
# Of one lookup; a document that is like no other is dropped by mistake with twenty times this probability.
_FALSE_POSITIVE = 1e-6
_FIRST_FILTER = 50_000
# Characters in a shingle; fewer in scripts whose characters are words or syllables.
_SHINGLE, _DENSE_SHINGLE = 10, 5
_DENSE = 0x2E80
_ODD = np.uint64(0x9E3779B97F4A7C15)


class Duplicates:
    """Finds documents that are near-duplicates of an earlier one.

    MinHash over shingles of characters (case and spaces aside), with 20 bands of 10 values: of two documents, the
    later is dropped with a probability of 2 % where they share half of their shingles, 44 % at 0.7, 90 % at 0.8 and
    above 99.9 % at 0.9. Candidates are not compared again, so that documents need not be kept: the curve is all there
    is. The bands are in Bloom filters, each twice as large as the one before.
    """

    def __init__(self) -> None:
        self._filters: list[Bloom] = []
        self._capacity = 0

    def fresh(self, texts: Sequence[str], remember: bool = True) -> list[bool]:
        """For each document, whether it is no near-duplicate of an earlier one; if so and `remember`, it counts as one later."""
        flags = []
        for keys in self._keys(texts):
            is_fresh = not any(key in known for known in self._filters for key in keys)
            if is_fresh and remember:
                self._remember(keys)
            flags.append(is_fresh)
        return flags

    def _remember(self, keys: list[int]) -> None:
        if self._capacity == 0:
            self._capacity = _FIRST_FILTER << len(self._filters)
            self._filters.append(Bloom(self._capacity * _BANDS, _FALSE_POSITIVE))
        self._filters[-1].update(keys)
        self._capacity -= 1

    @staticmethod
    def _keys(texts: Sequence[str]) -> list[list[int]]:
        """One number for each band of each document's signature."""
        if not texts:
            return []
        shingles = [_shingles(text) for text in texts]
        offsets = np.cumsum([0, *map(len, shingles)], dtype=np.uint64)
        signatures = RMinHash.digest_matrix_from_flat_token_hashes(
            np.concatenate(shingles), offsets, num_perm=_BANDS * _ROWS, seed=0
        )
        values = np.array(signatures.to_rows(), np.uint64).reshape(len(texts), _BANDS, _ROWS)
        keys = np.broadcast_to(np.arange(1, _BANDS + 1, dtype=np.uint64), values.shape[:2])
        for row in range(_ROWS):
            keys = _mixed(keys ^ values[:, :, row])
        listed: list[list[int]] = keys.tolist()
        return listed


def _shingles(text: str) -> np.ndarray:
    """The hashes of all shingles of a text; of the whole text where it is shorter than one."""
    folded = "".join(text.casefold().split())
    codes = np.frombuffer(folded.encode("utf-32-le", "replace"), np.uint32).astype(np.uint64)
    dense = 2 * np.count_nonzero(codes >= _DENSE) > len(codes)
    width = min(_DENSE_SHINGLE if dense else _SHINGLE, len(codes))
    count = len(codes) - width + 1
    hashes = codes[:count]
    for offset in range(1, width):
        hashes = hashes * _ODD + codes[offset : offset + count]
    return _mixed(hashes)


def _mixed(values: np.ndarray) -> np.ndarray:
    """Mix the bits of each hash."""
    values = (values ^ (values >> np.uint64(32))) * _ODD
    return values ^ (values >> np.uint64(29))


class Boilerplate:
    """Finds lines that occur in many documents: notices, navigation, headings such as "References".

    A line is boilerplate where at least ten documents have it, and more than one in ten thousand. Documents are
    counted in a count-min sketch of 16 MB, which never counts too few, and too many only where there are tens of
    millions of lines. The libraries that do this (datatrove, C4's filters) bring sentence splitters for each
    language or a hundred packages; lines need neither.
    """

    _LEAST, _SHARE = 10, 10_000
    _BITS = 20
    _MULTIPLIERS = np.array([_ODD, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93], np.uint64)

    def __init__(self) -> None:
        self._documents = 0
        self._sketch = np.zeros((len(self._MULTIPLIERS), 1 << self._BITS), np.uint32)

    def count(self, texts: Iterable[str]) -> None:
        """Count the lines of these documents."""
        lines: list[str] = []
        for text in texts:
            lines += dict.fromkeys(filter(None, map(_folded, text.split("\n"))))
            self._documents += 1
        for row, buckets in zip(self._sketch, self._buckets(lines), strict=True):
            np.add.at(row, buckets, 1)

    def without(self, texts: Sequence[str]) -> list[tuple[str, int]]:
        """The documents without boilerplate lines, each with the number of lines that were removed."""
        lines = [text.split("\n") for text in texts]
        folded = [_folded(line) for text_lines in lines for line in text_lines]
        counted = np.min(
            [row[buckets] for row, buckets in zip(self._sketch, self._buckets(folded), strict=True)], axis=0
        )
        common = counted >= max(self._LEAST, self._documents // self._SHARE + 1)
        common &= np.fromiter(map(bool, folded), bool, len(folded))
        bounds = np.cumsum([0, *map(len, lines)])
        return [
            ("\n".join(compress(text_lines, ~common[begin:end])).strip(), int(common[begin:end].sum()))
            for text_lines, (begin, end) in zip(lines, pairwise(bounds), strict=True)
        ]

    def _buckets(self, lines: Sequence[str]) -> np.ndarray:
        """The bucket of each line in each row of the sketch."""
        digests = b"".join(blake2b(line.encode("utf-8", "replace"), digest_size=8).digest() for line in lines)
        hashes = np.frombuffer(digests, "<u8")
        return (hashes[None] * self._MULTIPLIERS[:, None]) >> np.uint64(64 - self._BITS)


def _folded(line: str) -> str:
    """A line normalised for comparison, without case and extra spaces."""
    return " ".join(line.split()).casefold()


class Languages:
    """Finds documents that are clearly not in the language of their corpus.

    py3langid tells 139 languages apart, in numpy, without a download. A document counts where it has a hundred
    bytes and the identifier is at least 95 % sure that it is neither in the claimed language nor in one close to it:
    of the same macrolanguage (id and ms; hr, sr and bs; zh and yue), or understood by the same readers (no and da,
    cs and sk).

    Attributes:
        known: whether the identifier knows the claimed language; if not, every document passes.
        found: language → number of documents that are in it instead.
    """

    SAMPLE = 300
    _LEAST, _SURE = 100, 0.95

    def __init__(self, claimed: str):
        self._identifier = _identifier()
        self._accepted = {label for label in self._identifier.labels if close(claimed, label)}
        self.known = bool(self._accepted)
        self.found: Counter[str] = Counter()

    def foreign(self, text: str) -> bool:
        """Whether a document is clearly in another language; counts it in `found` if so."""
        if not self.known:
            return False
        # From the middle, because articles begin with names.
        begin = max(0, (len(text) - self.SAMPLE) // 2)
        sample = text[begin : begin + self.SAMPLE].encode("utf-8", "replace")[: self.SAMPLE]
        if len(sample) < self._LEAST:
            return False
        ranked = self._identifier.rank(sample)
        if sum(share for language, share in ranked if language in self._accepted) > 1 - self._SURE:
            return False
        self.found[ranked[0][0]] += 1
        return True


def language_shares(texts: Iterable[str]) -> dict[str, float]:
    """The languages that texts are in, each with its share of their characters, the largest first.

    The identifier reads 300 characters or more at once, so that short texts are told together with their neighbours.
    """
    counts: Counter[str] = Counter()
    joined = ""

    def count() -> None:
        if joined.strip():
            counts[_identifier().rank(joined.encode("utf-8", "replace"))[0][0]] += len(joined)

    for text in texts:
        joined += text[: Languages.SAMPLE] + "\n"
        if len(joined) >= Languages.SAMPLE:
            count()
            joined = ""
    # What is left of a few texts is all there is; of many it is too short to tell.
    if not counts:
        count()
    return {language: number / counts.total() for language, number in counts.most_common()}


def identifiable(language: str) -> bool:
    """Whether the identifier knows a language, or one close to it."""
    return any(close(language, label) for label in _identifier().labels)


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _main(tag: str) -> str:
    """The language of a tag, without script and country."""
    return Language.get(tag).language or tag


def _macro(language: str) -> str:
    main = _main(language)
    return MACROLANGUAGES.get(main, main)


def close(first: str, second: str) -> bool:
    """Whether readers of each understand the other; the script set aside, which hides that of hr and sr."""
    if _macro(first) == _macro(second):
        return True
    a, b = f"{_main(first)}-Latn", f"{_main(second)}-Latn"
    return max(tag_distance(a, b), tag_distance(b, a)) < 30
