"""Plain text as reference-task data: windows of tokens of the model's own tokenizer, some of them held out for validation.

Documents are separated by the end-of-sequence token; a window never joins two documents
without it. Lengths are tokens or characters, not words, so languages without spaces work. Text is read as far as the
budget needs it, spilled to the disk, shuffled there and written window by window: memory does not grow with it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import compress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Literal

from adamergex.data.cleaning import Boilerplate, Duplicates, Languages
from adamergex.data.shuffle_buffer import Pool
from adamergex.data.special_tokens import end_of_sequence, text_tokens
from adamergex.data.windows import Part, WindowFile
from adamergex.errors import DataError
from adamergex.storage.files import sha256

WINDOWS, HELDOUT = "windows.npy", "heldout.npy"
# Distributions that windows depend on: of the tokenizer, the shuffle, and the cleaning.
PACKAGES = ("transformers", "tokenizers", "numpy", "rensa", "rbloom", "py3langid")
# What is read before it is shuffled: characters for each token, or character, of the budget.
_POOL_PER_TOKEN, _POOL_PER_CHARACTER, _POOL_LEAST = 10, 3, 100_000
# Longer documents are split: so that each fits into memory, and that none is a great part of a small budget, for what is left
# of the document that fills the held-out windows is not trained on. Characters; and a share of the budget, a token being
# about four characters.
_LONGEST, _LARGEST_SHARE, _SHORTEST, _PER_TOKEN = 1_000_000, 0.1, 2_000, 4
_BATCH_DOCUMENTS, _BATCH_CHARACTERS = 256, 250_000


@dataclass(frozen=True)
class Request:
    """The settings of a corpus.

    Attributes:
        language: BCP 47 code of the text.
        tokens: the budget of the training windows, or
        characters: the same in characters of text; exactly one of the two.
        window: tokens in a window, without special tokens that a model adds around them.
        heldout: held-out windows, as a share of the budget and on top of it; at least one, or 0 for none.
        seed: of the shuffling of documents.
        duplicates: drop near-duplicates of earlier documents.
        boilerplate: drop lines that occur in many documents.
        other_languages: whether documents that are clearly in another language are counted or dropped.
    """

    language: str
    tokens: int | None
    characters: int | None
    window: int
    heldout: float
    seed: int
    duplicates: bool = True
    boilerplate: bool = True
    other_languages: Literal["count", "drop"] = "count"


def pool_size(tokens: int | None, characters: int | None) -> int:
    """How many characters are read before they are shuffled: by far enough for a budget, most often."""
    return _POOL_LEAST + (_POOL_PER_TOKEN * tokens if tokens else _POOL_PER_CHARACTER * (characters or 0))


class _Build:
    """The state of a build: its filters, the window files, and counts of what happened to documents."""

    def __init__(self, request: Request, folder: Path, heldout: Part, training: Part):
        self.request = request
        self.folder = folder
        self.heldout, self.training = heldout, training
        self.duplicates, self.boilerplate = Duplicates(), Boilerplate()
        self.languages = Languages(request.language)
        self.read = self.alike = self.emptied = self.lines = self.left_out = self.pool_bytes = 0
        budget = request.characters or _PER_TOKEN * (request.tokens or 0)
        self._longest = min(_LONGEST, max(_SHORTEST, int(_LARGEST_SHARE * budget)))
        # Tokens of all documents that were used, and of the longest one.
        self.tokens = self.longest = 0

    def batches(self, texts: Iterable[str]) -> Iterator[list[str]]:
        """Documents in a shuffled order: read up to a limit, shuffled, and so on until the texts end."""
        incoming = _batches(self._pieces(texts))
        while True:
            with TemporaryFile(dir=self.folder) as file:
                pool = Pool(file)
                self._read(incoming, pool)
                if not pool:
                    return
                self.pool_bytes = max(self.pool_bytes, pool.bytes)
                yield from _batches(pool.shuffled(self.request.seed))

    def _read(self, incoming: Iterator[list[str]], pool: Pool) -> None:
        request, characters = self.request, 0
        limit = pool_size(request.tokens, request.characters)
        for batch in incoming:
            fresh = self.duplicates.fresh(batch) if request.duplicates else [True] * len(batch)
            kept = list(compress(batch, fresh))
            self.alike += len(batch) - len(kept)
            if request.boilerplate:
                self.boilerplate.count(kept)
            for text in kept:
                pool.add(text)
                characters += len(text)
            if characters > limit:
                break

    def _pieces(self, texts: Iterable[str]) -> Iterator[str]:
        """Documents that are not empty, the longest in pieces."""
        for text in texts:
            if stripped := text.strip():
                self.read += 1
                yield from split(stripped, self._longest)

    def take(self, batch: Sequence[str], encode: Callable[[Sequence[str]], list[list[int]]]) -> None:
        """Clean these documents and add their tokens to held-out and training windows, until both are full."""
        cleaned = self.boilerplate.without(batch) if self.request.boilerplate else [(text, 0) for text in batch]
        for (text, lines), ids in zip(cleaned, encode([text for text, _ in cleaned]), strict=True):
            part = self.training if self.heldout.full else self.heldout
            if part.full:
                return
            self.lines += lines
            if self._wanted(text, part):
                used = part.cut(text)
                kept = ids if used == text else encode([used])[0]
                part.add(used, kept)
                self.tokens += len(kept)
                self.longest = max(self.longest, len(kept))

    def _wanted(self, text: str, part: Part) -> bool:
        request = self.request
        if not text:
            self.emptied += 1
            return False
        # Even where duplicates are kept, near-duplicates of held-out documents are not trained on.
        if not request.duplicates and request.heldout:
            fresh = self.duplicates.fresh([text], remember=part is self.heldout)[0]
            if part is self.training and not fresh:
                self.alike += 1
                return False
        if self.languages.foreign(text) and request.other_languages == "drop":
            self.left_out += 1
            return False
        return True


def split(text: str, most: int) -> Iterator[str]:
    """A document in pieces of at most so many characters; cut at the end of a line where there is one in the second half of a
    piece, else between words, else anywhere.
    """
    start = 0
    # By places in the text: what is left of a long one is not copied for each piece.
    while len(text) - start > most:
        ends = (text.rfind(mark, start + most // 2, start + most) for mark in ("\n", " "))
        end = next((end for end in ends if end > start), start + most)
        if piece := text[start:end].strip():
            yield piece
        start = end
    if piece := text[start:].strip():
        yield piece


def build(
    texts: Iterable[str],
    tokenizer: Any,
    folder: Path,
    request: Request,
    name: str,
    on_progress: Callable[[int, int, int], None] | None = None,
) -> dict[str, Any]:
    """Write `windows.npy` and `heldout.npy`, int32 arrays of tokens that `numpy.load` can map, and describe them.

    Args:
        texts: documents; empty ones are skipped. Read only as far as the budget needs.
        tokenizer: a Hugging Face tokenizer with an end-of-sequence or a separator token.
        folder: an existing folder, which also gets a temporary file.
        request: the settings.
        name: of the corpus, for messages.
        on_progress: called with the budget that is done, the whole budget, and the tokens of the last step.

    Returns:
        The manifest: documents, characters, tokens, what was dropped, hashes of the files.

    Raises:
        DataError: the corpus has too little text for the budget, the budget is below one window, or the tokenizer
            has no token to separate documents.
    """
    end = end_of_sequence(tokenizer)
    if end is None:
        raise DataError(f"{name}: the tokenizer has neither an eos nor a sep token, which keep documents apart")
    if request.tokens is not None and request.tokens < request.window:
        raise DataError(
            f"reference.tokens is {request.tokens}, less than one window of {request.window}; raise it or lower "
            "reference.window"
        )

    def encode(texts: Sequence[str]) -> list[list[int]]:
        return [[*ids, end] for ids in text_tokens(tokenizer, texts)]

    with ExitStack() as stack:
        heldout, training = parts = _parts(request, folder, stack)
        state = _Build(request, folder, heldout, training)
        for batch in state.batches(texts):
            before = state.tokens
            state.take(batch, encode)
            if on_progress and (done := sum(part.done for part in parts)):
                on_progress(done, sum(part.budget for part in parts), state.tokens - before)
            if training.full:
                break
        if not training.full or not training.file.windows:
            raise DataError(f"{name}: {_too_little(state)}")
    return _facts(state)


def _parts(request: Request, folder: Path, stack: ExitStack) -> tuple[Part, Part]:
    """The held-out windows, which are filled first, and those for training."""

    def part(file: str, share: float, least: int) -> Part:
        tokens = characters = None
        if request.tokens is not None:
            tokens = max(round(share * request.tokens) // request.window, least) * request.window
        else:
            characters = round(share * (request.characters or 0))
        return Part(stack.enter_context(WindowFile(folder / file, request.window)), tokens, characters, least)

    return part(HELDOUT, request.heldout, int(request.heldout > 0)), part(WINDOWS, 1, 0)


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Documents in batches of limited size."""
    batch: list[str] = []
    characters = 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if len(batch) == _BATCH_DOCUMENTS or characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _too_little(state: _Build) -> str:
    """The message for a corpus below the budget: its size, the budget, and one that would fit."""
    request, heldout, training = state.request, state.heldout, state.training
    if not state.read:
        return "the corpus is empty"
    if training.full:
        return (
            f"reference.characters is {request.characters}, which makes less than one window of {request.window} tokens; "
            "raise it or lower reference.window"
        )
    unit, budget = ("characters", request.characters) if request.tokens is None else ("tokens", request.tokens)
    fitting = training.done
    if not heldout.full and unit == "tokens":
        # With a smaller budget less is held out; the rest of its last document is lost.
        fitting = int((state.tokens - state.longest - request.window) / (1 + request.heldout))
    if unit == "tokens":
        fitting = fitting // request.window * request.window
    beside = f" beside {heldout.done:,} held-out ones" if request.heldout else ""
    removed = {
        "near-duplicates": state.alike,
        "lines of boilerplate": state.lines,
        "in other languages": state.left_out,
    }
    cleaned = ", ".join(f"{count:,} {what}" for what, count in removed.items() if count)
    return (
        f"the corpus has {training.done:,} {unit}{beside}{f' without {cleaned}' if cleaned else ''}, "
        f"the budget is {budget:,} for each language; "
        + (f"add text or set reference.{unit} to {fitting}" if fitting > 0 else "add text")
    )


def _facts(state: _Build) -> dict[str, Any]:
    request, heldout, training, languages = state.request, state.heldout, state.training, state.languages
    return {
        "documents": training.documents,
        "characters": training.used,
        "tokens": training.file.windows * request.window,
        "windows": training.file.windows,
        "heldout": {
            "documents": heldout.documents,
            "characters": heldout.used,
            "tokens": heldout.file.windows * request.window,
            "windows": heldout.file.windows,
        },
        "documents_read": state.read,
        "near_duplicates_dropped": state.alike,
        "boilerplate_lines_dropped": state.lines,
        "documents_of_boilerplate_dropped": state.emptied,
        "in_other_languages": languages.found.total() if languages.known else None,
        "in_other_languages_dropped": state.left_out,
        "other_languages": dict(languages.found.most_common(5)),
        "pool_bytes": state.pool_bytes,
        "settings": asdict(request),
        "sha256": {file: sha256(state.folder / file) for file in (WINDOWS, HELDOUT)},
    }
