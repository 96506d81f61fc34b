"""What an item keeps on its way: its right answers where it is cut, and an id that no other row has."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from adamergex.data.settings import Source
from adamergex.errors import DataError
from adamergex.inference import usage
from adamergex.inference.answering import PromptSpec, answers, build_prompts
from adamergex.inference.journal import Journal
from adamergex.inference.predict import PredictionRequest, marked
from adamergex.inference.settings import Evaluate
from adamergex.models.encode import fitted
from adamergex.models.resident import ResidentModel
from adamergex.pipeline.run import run
from adamergex.pipeline.stages.items import ItemsParams
from adamergex.recipes import loading
from adamergex.scoring.numbers import Notation
from adamergex.tasks.cells import is_empty
from adamergex.tasks.items import Item, question, read_items
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


def rows_of(tmp_path: Path, *rows: object) -> Source:
    # NaN as pandas and Python write it.
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Source(files=["rows.jsonl"])


def problems_of(task: Task, tmp_path: Path, *rows: object, language: str = "en") -> list[str]:
    with pytest.raises(DataError) as caught:
        read_items(task, rows_of(tmp_path, *rows), tmp_path, language)
    return [problem.removeprefix(f"{tmp_path}/") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (["a"], "column 'text' holds a list; expected text or a number"),
        ({"en": "a"}, "column 'text' holds a dict; expected text or a number"),
        (float("nan"), "column 'text' is nan, which is no value; fill it, or remove the row"),
        (None, "column 'text' is null; fill it, or remove the row"),
        ("", "column 'text' is empty; fill it, or remove the row"),
        (" \u00a0\n", "column 'text' is empty; fill it, or remove the row"),
    ],
)
def test_what_makes_no_prompt_is_refused_with_row_and_column(tmp_path: Path, value: object, says: str) -> None:
    good, bad = {"text": "x", "label": "a"}, {"text": value, "label": "a"}
    assert problems_of(task(), tmp_path, good, bad) == [f"rows.jsonl:2: {says}"]
    of_two = task(prompt="{text} {label}")
    if is_empty(value):
        says_more = "column 'text' is empty; fill it, remove the row, or let it be empty with task.optional: [text]"
        assert problems_of(of_two, tmp_path, good, bad) == [f"rows.jsonl:2: {says_more}"]
    else:
        assert problems_of(of_two, tmp_path, good, bad) == [f"rows.jsonl:2: {says}"]
    # In a choice, too; and in an answer.
    chosen = task(prompt="{label}", choices={"a": "{text}", "b": "no"})
    assert problems_of(chosen, tmp_path, good, bad) == [f"rows.jsonl:2: {says}"]
    if value != ["a"]:
        answered = task(prompt="{label}", answer="text", choices=None)
        assert problems_of(answered, tmp_path, good, bad) == [f"rows.jsonl:2: {says}"]


@pytest.mark.parametrize(
    ("label", "says"),
    [
        (None, "column 'label' is null; fill it, or remove the row"),
        ([], "the answer in column 'label' is an empty list; expected a right answer"),
        (
            ["né", "b"],
            "column 'label' lists 2 labels; of choices one is right: name it, or leave choices out (kind: text takes any of "
            "several answers)",
        ),
        (
            "ne\u0301",
            "unknown label 'ne\u0301'; task.choices has né, b, 1; it differs from 'né' in its form of Unicode alone (NFC, NFD); "
            "write both in one",
        ),
        (
            "B",
            "unknown label 'B'; task.choices has né, b, 1; it differs from 'b' in case, spaces or look-alike characters alone; "
            "write it in the same way",
        ),
        (
            1.0,
            "unknown label '1.0'; task.choices has né, b, 1; it is '1' as a decimal number, as tables with empty cells have it; "
            "write it without the point",
        ),
        ("c", "unknown label 'c'; task.choices has né, b, 1"),
    ],
)
def test_a_label_that_is_none_is_refused_with_its_cause(tmp_path: Path, label: object, says: str) -> None:
    three = task(choices=["né", "b", "1"])
    assert problems_of(three, tmp_path, {"text": "x", "label": label}) == [f"rows.jsonl:1: {says}"]
    (item,) = read_items(three, rows_of(tmp_path, {"text": "x", "label": ["b"]}), tmp_path, "en")
    assert (item.answer, item.golds) == (" b", ("b",))


def test_choices_that_differ_in_their_form_of_unicode_alone_are_refused() -> None:
    with pytest.raises(ValidationError, match="two labels have the same words"):
        task(choices={"a": "né", "b": "ne\u0301"})


def test_all_wrong_rows_are_counted_and_five_are_shown(tmp_path: Path) -> None:
    rows = [{"text": "" if number % 2 else "x", "label": "a"} for number in range(200)]
    found = problems_of(task(), tmp_path, *rows)
    assert [line.partition(": ")[0] for line in found] == [f"rows.jsonl:{line}" for line in (2, 4, 6, 8, 10)] + [
        "rows.jsonl"
    ]
    assert found[-1] == "rows.jsonl: 100 of 200 rows are wrong, 5 of which are shown"
    assert len(problems_of(task(), tmp_path, *rows[:10])) == 5
    # What cannot be read ends it, and what was found before is told.
    (tmp_path / "cut.jsonl").write_text('{"text": "", "label": "a"}\n{"text": "x", "label": "a"}\n{"text": "x", "la')
    with pytest.raises(DataError, match=r"jsonl:1: column 'text' is empty.*\n.*jsonl:3: not JSON"):
        read_items(task(), Source(files=["cut.jsonl"]), tmp_path, "en")


def test_right_numbers_are_canonical_or_refused_with_their_row(tmp_path: Path) -> None:
    numbers = task(choices=None, kind="number")
    rows = [
        {"text": "x", "label": label}
        for label in (3, 0.25, 1e-7, 1e22, "2.125,5", "1.000.000", ["7", "$8"], "#### 1,5")
    ]
    golds = [item.golds for item in read_items(numbers, rows_of(tmp_path, *rows), tmp_path, "es")]
    assert golds[:4] == [("3",), ("0.25",), ("0.0000001",), ("10000000000000000000000",)]
    assert golds[4:] == [("2125.5",), ("1000000",), ("7", "8"), ("1.5",)]
    doubtful = {"text": "x", "label": "1.234"}
    (line,) = problems_of(numbers, tmp_path, rows[0], doubtful, language="es")
    assert line.startswith(
        "rows.jsonl:2: the answer in column 'label': '1.234' is 1.234 with a decimal point, and 1234 as numbers"
    )
    assert "task.answer_format: canonical, or language" in line
    read: list[tuple[Notation | None, str]] = [("canonical", "1.234"), ("language", "1234"), (None, "1.234")]
    for form, gold in read:
        language = "es" if form else "en"
        (item,) = read_items(
            task(choices=None, kind="number", answer_format=form), rows_of(tmp_path, doubtful), tmp_path, language
        )
        assert (item.answer, item.golds) == (" 1.234", (gold,))
        # What was learned is right when it is written.
        request = PredictionRequest([item], "number", language, notation=form)
        assert marked(item, " 1.234", request).scores == {"accuracy": 1.0}
    (line,) = problems_of(numbers, tmp_path, {"text": "x", "label": "18 apples"})
    assert line.endswith("what else is to be learned belongs in the column that task.learned names")
    # Of what is learned alone nothing is compared.
    (item,) = read_items(numbers, rows_of(tmp_path, {"text": "x", "label": "18 apples"}), tmp_path, "en", scored=False)
    assert item.answer == " 18 apples"


def test_a_format_of_numbers_belongs_to_numbers() -> None:
    with pytest.raises(ValidationError, match="answer_format belongs to kind: number; remove it"):
        task(answer_format="language")


ALPACA = "Instruction: {instruction}{input}\nResponse:"


@pytest.mark.parametrize("empty", ["", "  ", None, float("nan")])
def test_what_stands_for_an_optional_column_is_left_out_where_it_is_empty(tmp_path: Path, empty: object) -> None:
    asked = task(prompt=ALPACA, answer="output", choices=None, optional={"input": "\nInput: {input}"})
    rows = [
        {"instruction": "Add.", "input": "1, 2, and then three", "output": "6"},
        {"instruction": "Sing.", "input": empty, "output": "la"},
    ]
    full, short = read_items(asked, rows_of(tmp_path, *rows), tmp_path, "en")
    assert full.prompt == "Instruction: Add.\nInput: 1, 2, and then three\nResponse:"
    assert full.prompt[slice(*full.longest_column)] == "1, 2, and then three"
    assert short.prompt == "Instruction: Sing.\nResponse:"
    assert short.prompt[slice(*short.longest_column)] == "Sing."
    listed = task(prompt=ALPACA, answer="output", choices=None, optional=["input"])
    assert [item.prompt for item in read_items(listed, rows_of(tmp_path, *rows), tmp_path, "en")] == [
        "Instruction: Add.1, 2, and then three\nResponse:",
        "Instruction: Sing.\nResponse:",
    ]
    # A column that is not there is a name that was written wrongly; one that is not optional has to be filled.
    assert problems_of(asked, tmp_path, {"instruction": "Add.", "inputs": "1", "output": "6"}) == [
        "rows.jsonl:1: no column 'input'; the row has instruction, inputs, output"
    ]
    nothing = {"instruction": "", "input": "x", "output": "la"}
    assert problems_of(listed, tmp_path, rows[0], nothing) == [
        "rows.jsonl:2: column 'instruction' is empty; fill it, or remove the row"
    ]


def test_a_delivered_adapter_leaves_out_what_its_task_left_out(tmp_path: Path) -> None:
    asked = task(prompt=ALPACA, answer="output", choices=None, optional={"input": "\\nInput: {input}"})
    facts: dict[str, Any] = {"base_model": "m", "weights": "w", "dtype": "float32"}
    told = usage.Usage.model_validate(usage.described(asked, Evaluate(), "es", **facts)).task
    for value in ("1", "", None):
        row = {"instruction": "Add.", "input": value, "output": "x"}
        [item] = read_items(asked, rows_of(tmp_path, row), tmp_path, "es")
        assert question(told, (), "a:1", told.named(row)).prompt == item.prompt
    keys = [
        ItemsParams(
            task=one, source=one.train, content={}, language="es", scored=True, folder=str(tmp_path)
        ).identity()["task"]
        for one in (asked, task(prompt=ALPACA, answer="output", choices=None))
    ]
    assert keys[0] == keys[1] | {"optional": asked.optional}


def test_an_optional_column_may_be_a_path(tmp_path: Path) -> None:
    asked = task(prompt="{text}{of.context}", optional={"of.context": " ({of.context})"})
    rows = [{"text": "x", "of": {"context": "y"}, "label": "a"}, {"text": "x", "of": {"context": None}, "label": "a"}]
    assert [item.prompt for item in read_items(asked, rows_of(tmp_path, *rows), tmp_path, "en")] == ["x (y)", "x"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"optional": ["input"]}, "optional: the prompt has no column 'input'; it has text"),
        ({"optional": ["text"]}, "optional: a prompt needs a column that is never empty"),
        (
            {"prompt": "{text} {more}", "optional": {"more": "more"}},
            "optional: expected that 'more' has its own column in it, and no other",
        ),
        (
            {"prompt": "{text} {more}", "optional": {"more": "{text}"}},
            "optional: expected that '{text}' has its own column in it",
        ),
        ({"prompt": "{text} {more}", "optional": {"more": "{more"}}, "double a brace"),
    ],
)
def test_an_optional_column_stands_in_the_prompt(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(says)):
        task(**changes)
