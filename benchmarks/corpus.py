"""What cleaning costs beside tokenising, and the memory that a corpus takes, whatever its size.

    python benchmarks/corpus.py                        # 500 MB, about a quarter of an hour on two cores
    python benchmarks/corpus.py --megabytes 50 2000    # these sizes

The text is Spanish prose that the package `dataset-build` carries, its sentences recombined at random so that hardly
two lines are the same. Planted in it: one document in twenty is a copy of another with one word changed, one in thirty
carries the same cookie notice, one in fifty is English. Each size is built in a process of its own, with nine tenths of
all characters as the budget: what is printed is that process's peak of resident memory (from Linux's /proc) and its time.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from adamergex.data import packaged
from adamergex.data.cleaning import Boilerplate, Duplicates, Languages
from adamergex.models.families import load_tokenizer
from adamergex.storage import checkpoints

NOTICE = "Utilizamos cookies propias y de terceros. Si continúa navegando, acepta su uso."
BATCH = 256
console = Console(width=140)
BUILD = """
import json, sys, time
from pathlib import Path
from adamergex.storage import checkpoints
from adamergex.data import corpus, sources
from adamergex.models.families import load_tokenizer
from adamergex.data.settings import Source
path, folder, characters, model = sys.argv[1:]
tokenizer = load_tokenizer(checkpoints.resolve(model))
tokenizer(["warm"] * 99)
# Loading a tokenizer takes more for a moment than working with it: what is the peak from here on?
Path("/proc/self/clear_refs").write_text("5")
status = lambda key: int(Path("/proc/self/status").read_text().partition(key + ":")[2].split()[0]) / 1024
before, began = status("VmRSS"), time.monotonic()
texts = sources.texts(Source(files=[path]), Path(), "es", "text")
facts = corpus.build(texts, tokenizer, Path(folder), corpus.Request("es", None, int(characters), 512, 0.02, 0), "es")
print(json.dumps(facts | {"before": before, "peak": status("VmHWM"), "seconds": time.monotonic() - began}))
"""


def sentences(language: str) -> list[str]:
    prose = " ".join(row["text"] for row in packaged.rows("dataset-build", language, "train"))
    return [sentence for sentence in re.split(r"(?<=[.!?]) +", prose) if 30 < len(sentence) < 400]


def documents(megabytes: int) -> Callable[[], list[str]]:
    """Makes one document and perhaps its copy at each call."""
    made = random.Random(megabytes)
    spanish, english = sentences("es"), sentences("en")

    def one() -> list[str]:
        if made.random() < 1 / 50:
            return [" ".join(made.choices(english, k=9))]
        lines = [" ".join(made.choices(spanish, k=made.randint(2, 5))) for _ in range(made.randint(2, 5))]
        text = "\n".join([NOTICE] * (made.random() < 1 / 30) + lines)
        if made.random() < 1 / 19:
            words = text.split(" ")
            words[len(words) // 2] = "cambiado"
            return [text, " ".join(words)]
        return [text]

    return one


def generate(path: Path, megabytes: int) -> int:
    """Write the file; how many characters it has."""
    characters = written = 0
    one = documents(megabytes)
    with path.open("wb") as file:
        while written < megabytes * 1_000_000:
            for text in one():
                written += file.write(f"{text}\n\n".encode())
                characters += len(text)
    return characters


def throughput(model: str, megabytes: int = 8) -> None:
    """Megabytes of text a second through each step, on one sample."""
    one = documents(megabytes)
    texts: list[str] = []
    while len(texts) < megabytes * 600:
        texts += one()
    size = sum(len(text.encode()) for text in texts) / 1e6
    batches = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
    tokenizer = load_tokenizer(checkpoints.resolve(model))
    duplicates, boilerplate, languages = Duplicates(), Boilerplate(), Languages("es")
    steps: dict[str, Callable[[list[str]], object]] = {
        "near-duplicates": duplicates.fresh,
        "lines, counting": boilerplate.count,
        "lines, taking out": boilerplate.without,
        "language": lambda batch: [languages.foreign(text) for text in batch],
        "tokenising": lambda batch: tokenizer(batch, add_special_tokens=False, split_special_tokens=True),
    }
    seconds = {}
    for name, step in steps.items():
        began = time.monotonic()
        for batch in batches:
            step(batch)
        seconds[name] = time.monotonic() - began
        console.print(f"{name:20} {size / seconds[name]:8.1f} MB/s")
    cleaning = sum(seconds.values()) - seconds["tokenising"]
    console.print(
        f"{'all cleaning':20} {size / cleaning:8.1f} MB/s; {cleaning / seconds['tokenising']:.2f} of tokenising"
    )


def memory(model: str, megabytes: int, folder: Path) -> None:
    """Build a corpus of a file of this size, and print what it took."""
    path = folder / "text.txt"
    characters = generate(path, megabytes)
    (folder / "corpus").mkdir(exist_ok=True)
    arguments = [str(path), str(folder / "corpus"), str(characters * 9 // 10), model]
    done = subprocess.run(
        [sys.executable, "-c", BUILD, *arguments], capture_output=True, text=True, check=True, env=os.environ
    )
    facts = json.loads(done.stdout.splitlines()[-1])
    console.print(
        f"{megabytes:,} MB, {facts['documents_read']:,} documents: peak {facts['peak']:,.0f} MiB of resident memory, "
        f"{facts['before']:,.0f} of it before; {facts['seconds']:,.0f} s, {megabytes / facts['seconds']:.2f} MB/s; "
        f"{facts['tokens']:,} tokens"
    )
    console.print(
        f"  dropped: {facts['near_duplicates_dropped'] / facts['documents_read']:.2%} near-duplicates, "
        f"{facts['boilerplate_lines_dropped'] / facts['documents']:.2%} of documents had a line of boilerplate; "
        f"{facts['in_other_languages'] / facts['documents']:.2%} in other languages {facts['other_languages']}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, nargs="*", default=[500])
    parser.add_argument("--tokenizer", default=checkpoints.PACKAGED)
    arguments = parser.parse_args()
    throughput(arguments.tokenizer)
    for megabytes in arguments.megabytes:
        with tempfile.TemporaryDirectory() as folder:
            memory(arguments.tokenizer, megabytes, Path(folder))


if __name__ == "__main__":
    main()
