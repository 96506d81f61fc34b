"""MasakhaNEWS as headline generation: the headline of a news article, in sixteen languages of Africa.

Citation: Adelani et al. 2023, MasakhaNEWS: News Topic Classification for African languages,
    https://arxiv.org/abs/2304.09972
Licence: AFL-3.0 on the hub's card; the authors' repository states none
Data: masakhane/masakhanews at fa3b5fff8a91d187bf0c5900a39c4271d08cf7fe (pinned by several public repositories; its
    tables are read without a script); or swa/train.tsv, swa/dev.tsv and swa/test.tsv and their like of
    masakhane-io/masakhanews
An item: {"category": "politics", "headline": "Mfahamu Spika mpya wa Bunge la Kenya   Moses Wetangula", "text":
    "Kiongozi wa chama cha Ford-Kenya, Moses Wetangula, ametangazwa kuwa spika  wa bunge la Kenya ..."}

The authors made it for topics; most of its articles are the BBC's, as those of XL-Sum are. A folder without train.tsv is
read from train50.tsv, the authors' train set of fifty articles for each topic. The wording is this package's own.
"""

from collections.abc import Iterator
from pathlib import Path

from adamergex.data.formats import Row
from adamergex.tasks.benchmarks import files
from adamergex.tasks.benchmarks.benchmark import Benchmark, Prompt, text

_CODES = {
    "am": "amh",
    "en": "eng",
    "fr": "fra",
    "ha": "hau",
    "ig": "ibo",
    "ln": "lin",
    "lg": "lug",
    "om": "orm",
    "pcm": "pcm",
    "rn": "run",
    "sn": "sna",
    "so": "som",
    "sw": "swa",
    "ti": "tir",
    "xh": "xho",
    "yo": "yor",
}


def _files(folder: Path, split: str, code: str) -> Iterator[Row]:
    names = [f"{code}/{name}.tsv" for name in ([split, "train50"] if split == "train" else [split])]
    return files.table(folder, *names, *(f"data/{name}" for name in names))


def _columns(rows: Iterator[Row], split: str, language: str) -> Iterator[Row]:
    for count, (location, row) in enumerate(rows):
        # A headline is written on one line; some of the tables break it.
        headline = " ".join(text(row, "headline", location).split())
        article = text(row, "text", location)
        # Every language has articles of its own.
        columns = {"id": f"{language}-{count}", "category": text(row, "category", location)}
        yield location, columns | {"headline": headline, "text": article}


BENCHMARK = Benchmark(
    name="masakhanews",
    title="MasakhaNEWS, headlines",
    citation="Adelani et al. 2023, https://arxiv.org/abs/2304.09972",
    licence="AFL-3.0",
    kind="generation",
    codes=_CODES,
    splits={"train": "train", "dev": "validation", "test": "test"},
    answer="headline",
    learned="headline",
    prompts={"en": Prompt("Article: {text}\nHeadline:", {})},
    dataset="masakhane/masakhanews",
    revision="fa3b5fff8a91d187bf0c5900a39c4271d08cf7fe",
    config="{code}",
    files=_files,
    columns=_columns,
    training="masakhanews",
)
