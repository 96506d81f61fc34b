"""The reference files of the paper: a JSON list of objects with a prompt and its completion, both text.

Only writing is here: any `.json` file of objects is read as a source of rows.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

# What a part of a character is decoded to.
_HALF = "\ufffd"


def write(path: Path, windows: Iterable[Sequence[int]], tokenizer: Any, completion: int) -> int:
    """Write each window as a prompt and a completion of its last tokens; the end of a document is its token's text.

    The cut is moved by as few tokens as needed where it would go through a character, as it can where tokens are
    bytes; what a window has of a character at its own ends is left out.

    Args:
        path: of the file.
        windows: token ids.
        tokenizer: that they are of.
        completion: how many tokens the completion has.

    Returns:
        How many examples there are: a window that cannot be cut into two pieces of text makes none.
    """
    count = 0
    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        for example in _examples(windows, tokenizer, completion):
            file.write((",\n" if count else "\n") + json.dumps(example, ensure_ascii=False))
            count += 1
        file.write("\n]\n")
    return count


def _examples(windows: Iterable[Sequence[int]], tokenizer: Any, completion: int) -> Iterator[dict[str, str]]:
    for window in windows:
        ids = [int(token) for token in window]
        whole = _decoded(tokenizer, ids)
        for cut in sorted(range(1, len(ids)), key=lambda cut: abs(len(ids) - completion - cut)):
            prompt = _decoded(tokenizer, ids[:cut])
            # A prompt that ends within a character is no beginning of the whole.
            if not whole.startswith(prompt):
                continue
            before, after = prompt.lstrip(_HALF), whole[len(prompt) :].rstrip(_HALF)
            if before.strip() and after.strip():
                yield {"prompt": before, "completion": after}
                break


def _decoded(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text
