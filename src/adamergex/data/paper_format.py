"""The reference files of the paper: a JSON list of objects with a prompt and its completion, both text.

This module only writes them: any `.json` file of objects is read as a source of rows.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

# Incomplete characters are decoded to this.
_HALF = "\ufffd"


def write(path: Path, windows: Iterable[Sequence[int]], tokenizer: Any, completion: int) -> int:
    """Write each window as a prompt and a completion of its last tokens; the end of a document is its token's text.

    The split is moved by as few tokens as needed where it would divide a character, which is possible where tokens are
    bytes; incomplete characters at the ends of a window are left out.

    Args:
        path: of the file.
        windows: token ids.
        tokenizer: of these tokens.
        completion: number of tokens of the completion.

    Returns:
        The number of examples; a window that cannot be split into two texts gives none.
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
            # A prompt that ends within a character is not a prefix of the whole text.
            if not whole.startswith(prompt):
                continue
            before, after = prompt.lstrip(_HALF), whole[len(prompt) :].rstrip(_HALF)
            if before.strip() and after.strip():
                yield {"prompt": before, "completion": after}
                break


def _decoded(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text
