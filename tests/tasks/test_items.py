"""What an item keeps on its way: its right answers where it is cut, and an id that no other row has."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from adamergex.data.settings import Source
from adamergex.inference.answering import PromptSpec, answers, build_prompts
from adamergex.inference.journal import Journal
from adamergex.inference.settings import Evaluate
from adamergex.models.encode import fitted
from adamergex.models.resident import ResidentModel
from adamergex.pipeline.run import run
from adamergex.recipes import loading
from adamergex.tasks.items import Item, read_items
from adamergex.tasks.prompting import answering, few_shot, xlt
from adamergex.tasks.task import Task
from tests.reporting.test_html import Walk

LONG = "x" * 300
ITEM = Item("a:1", f"Context: {LONG} Question:", " one", (), (9, 309), ("one", "uno"))


def written(path: Path, count: int, name: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": f"{name} {i}", "label": "ab"[i % 2]}) + "\n" for i in range(count)))


def task(**changes: object) -> Task:
    settings = {"prompt": "{text} =", "answer": "label", "choices": ["a", "b"], "train": "a.jsonl"}
    return Task.model_validate(settings | changes)


def test_an_item_that_is_remade_keeps_all_that_it_is_not_remade_for(resident: ResidentModel) -> None:
    [cut], shortened = fitted(resident.tokenizer, [ITEM], "causal", None, 100, 8)
    assert shortened == 1
    for remade in (cut, few_shot([ITEM], [ITEM], 1, 0)[0], xlt([ITEM], "extraction", "es")[0]):
        assert (remade.id, remade.answer, remade.golds) == (ITEM.id, ITEM.answer, ITEM.golds)
        assert set(remade.prompt[slice(*remade.longest_column)]) == {"x"}
    assert answering([ITEM], ["So."])[0].golds == ITEM.golds


def test_long_items_of_every_written_kind_are_scored(resident: ResidentModel) -> None:
    for kind in ("text", "number", "extraction", "generation"):
        item = Item("a:1", ITEM.prompt, " 1", (), ITEM.longest_column, ("1", "1.0"))
        spec = PromptSpec(task(choices=None, kind=kind), Evaluate(max_new_tokens=4), "es", "plain", 0)
        items, shortened = build_prompts(resident, spec, [item], [], 100)
        [answer] = answers(resident, spec, items, lambda done, total: None, lambda name: Journal(None))
        assert (shortened, answer.golds) == (1, ("1", "1.0"))


def test_no_two_rows_of_any_source_have_one_id(tmp_path: Path) -> None:
    for name in ("one/part", "two/part", "two/more/part", "test/part"):
        written(tmp_path / f"{name}.jsonl", 3, name)
    sources = [["one/part.jsonl", "two/**/*.jsonl"], ["test"], [str(tmp_path.parent / tmp_path.name / "../else.jsonl")]]
    written(tmp_path.parent / "else.jsonl", 2, "else")
    found = [item.id for files in sources for item in read_items(task(), Source(files=files), tmp_path, "es")]
    assert len(found) == len(set(found)) == 3 * 4 + 2
    # As the recipe writes it, so that a folder that was moved has the same items.
    assert found[0] == "one/part.jsonl:1"
    assert found[9] == "test/part.jsonl:1"
    packaged = task(prompt="{name}", answer="category", choices=None, kind="text")
    splits = [
        read_items(packaged, Source(package="emoji", split=split, limit=4), tmp_path, language)
        for split in ("train", "dev", "test")
        for language in ("en", "es")
    ]
    assert len({item.id for items in splits for item in items}) == 6 * 4


def test_a_file_that_two_patterns_match_is_read_once(tmp_path: Path) -> None:
    for name in "ab":
        written(tmp_path / f"{name}.jsonl", 2, name)
    found = read_items(task(), Source(files=["b.jsonl", "./*.jsonl", "b.jsonl"]), tmp_path, "es")
    assert [item.id for item in found] == ["b.jsonl:1", "b.jsonl:2", "a.jsonl:1", "a.jsonl:2"]


def test_items_are_those_of_a_folder_wherever_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("here", "there/again"):
        rows = [
            {"premise": f"It rained {i}.", "choice1": "A.", "choice2": "B.", "question": "effect"} for i in range(2)
        ]
        path = tmp_path / name / "resident/copa/train.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("".join(json.dumps({**row, "label": i}) + "\n" for i, row in enumerate(rows)))
    copa = loading.load("own-data", ["task={benchmark: xcopa, data: resident}"]).task
    here, there = (read_items(copa, copa.train, tmp_path / name, "en") for name in ("here", "there/again"))
    assert here == there
    assert here[0].id == "copa/train.jsonl:1"
    monkeypatch.chdir(tmp_path / "here")
    assert read_items(copa, copa.train, Path(), "en") == here


def test_the_page_shows_each_answer_with_its_own_prompt(own_data: Callable[..., Path]) -> None:
    path = own_data(evaluate={"methods": ["base", "source-adapter", "adamergex"]})
    loaded = loading.load(str(path), ["task.test=tests/{language}", "task.choices=null", "task.kind=text"])
    for part in ("one", "two"):
        written(path.parent / f"tests/es/{part}/part.jsonl", 5, part)
    run(loaded, folder=path.parent, output=path.parent / "run")
    shown = Walk((path.parent / "run/report.html").read_text()).texts
    places = [place for place, text in enumerate(shown) if "part.jsonl:" in text]
    assert len({shown[place] for place in places}) > 4
    for place in places:
        part, line = re.findall(r"es/(\w+)/part\.jsonl:(\d)", shown[place])[0]
        assert next(text for text in shown[place + 1 :] if text.endswith(":")) == f"{part} {int(line) - 1}:"
