"""`adamergex init`: files as spreadsheets write them, to a recipe that validates and runs."""

import json
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.prompt import Prompt
from rich.text import Text

from adamergex.cli import init, main
from adamergex.cli.init import _Asking
from adamergex.models.machine import machine
from adamergex.recipes import drafting, loading, preflight
from adamergex.recipes.interview import Interview, Wanted
from adamergex.recipes.recipe import Recipe
from adamergex.tasks.items import read_items
from adamergex.terminal import Terminal
from tests.chat_templates import save

GOOD = "I loved this café, the staff were kind to all of us"
BAD = "The room was dirty and loud, and nobody came to help"
SWAHILI = (
    "Hoteli hii ilikuwa nzuri sana na wafanyakazi walikuwa wakarimu",
    "Chakula kilikuwa baridi na kibaya sana jana",
)
Run = Callable[..., tuple[int, str, str]]


def reviews(count: int = 24) -> list[tuple[str, str]]:
    """Texts with a line break and both separators, and their labels."""
    return [((GOOD, BAD)[i % 2] + f";\nvisit {i}, all told", ("positive", "negative")[i % 2]) for i in range(count)]


def sheet(
    rows: Sequence[tuple[str, ...]], separator: str, header: tuple[str, ...] = ("Review text", "Sentiment")
) -> str:
    return "\r\n".join(separator.join(f'"{cell}"' for cell in row) for row in [header, *rows]) + "\r\n"


@pytest.fixture
def run(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit status, output and errors of the command line, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "200")

    def call(command: str, *arguments: object, model: object = tiny_model) -> tuple[int, str, str]:
        more = ["--model", str(model), "--target", "sw"] if command == "init" else []
        monkeypatch.setattr(sys, "argv", ["adamergex", command, *map(str, arguments), *more])
        with pytest.raises(SystemExit) as caught:
            main.main()
        shown = capsys.readouterr()
        return int(caught.value.code or 0), shown.out, shown.err

    return call


def prose(words: str, documents: int = 60) -> str:
    draw = random.Random(0)
    return "\n\n".join(" ".join(draw.choices(words.split(), k=40)) for _ in range(documents))


def write_texts(folder: Path) -> None:
    for name, words in (("sw", SWAHILI[0]), ("en", GOOD)):
        (folder / name).mkdir()
        (folder / name / "a.txt").write_text(prose(words))


WRITERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "semicolons": ("a.csv", lambda path: path.write_bytes(sheet(reviews(), ";").encode("utf-8-sig"))),
    "tabs": ("a.tsv", lambda path: path.write_bytes(sheet(reviews(), "\t").encode())),
    "utf-16": ("a.tsv", lambda path: path.write_bytes(sheet(reviews(), "\t").encode("utf-16"))),
    "cp1252": ("a (1).csv", lambda path: path.write_bytes(sheet(reviews(), ",").encode("cp1252"))),
    "brackets": ("a [1].csv", lambda path: path.write_bytes(sheet(reviews(), ",").encode())),
    "jsonl": (
        "a.jsonl",
        lambda path: path.write_text(
            "".join(json.dumps({"Review text": t, "Sentiment": s}) + "\n" for t, s in reviews())
        ),
    ),
    "parquet": (
        "a.parquet",
        lambda path: pq.write_table(
            pa.Table.from_pylist([{"Review text": t, "Sentiment": s} for t, s in reviews()]), path
        ),
    ),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_each_kind_of_file_is_read_by_the_recipe_as_it_was_found(run: Run, tmp_path: Path, kind: str) -> None:
    name, write = WRITERS[kind]
    write(tmp_path / name)
    status, shown, errors = run("init", name, "--output", "deep/own.yaml")
    assert (status, errors) == (0, "")
    assert "24 rows" in shown
    recipe = loading.load("deep/own.yaml")
    items = read_items(recipe.task, recipe.task.train, Path("deep"), "en")
    head = "Sentiments: positive, negative\nText: "
    assert [(item.prompt, item.answer) for item in items] == [
        (f"{head}{text}\nSentiment:", f" {label}") for text, label in reviews()
    ]
    assert recipe.targets == ["sw"]
    assert recipe.reference.corpus is not None
    assert recipe.reference.corpus.in_language("sw").config == "20231101.sw"
    assert run("validate", "deep/own.yaml")[0] == 0


def test_numbered_columns_of_one_file_say_nothing_of_another(run: Run, tmp_path: Path) -> None:
    """Without names, the text is looked for in each file: a number stands where the labelled file has the text."""
    labelled = [(f"{(GOOD, BAD)[i % 2]} {i}", ("positive", "negative")[i % 2]) for i in range(24)]
    (tmp_path / "a.csv").write_text("".join(f"{text.replace(',', '')},{label}\n" for text, label in labelled))
    (tmp_path / "in.csv").write_text("".join(f"{i};{SWAHILI[i % 2]} namba {i}\n" for i in range(60)))
    scored = [(i, f"{SWAHILI[i % 2]} jaribio {i}", ("positive", "negative")[i % 2]) for i in range(8)]
    (tmp_path / "test.csv").write_text("".join(f"{i};{text};{label}\n" for i, text, label in scored))
    status, _, errors = run("init", "a.csv", "--inputs", "in.csv", "--test", "test.csv")
    assert (status, errors) == (0, "")
    recipe = loading.load("recipe.yaml")
    unlabelled, test = recipe.task.unlabelled, recipe.task.test
    assert unlabelled is not None
    assert test is not None
    assert unlabelled.columns == {"column_1": "column_2"}
    assert test.columns == {"column_1": "column_2", "column_2": "column_3"}
    assert run("validate", "recipe.yaml")[0] == 0


def test_a_spreadsheet_becomes_an_adapter(run: Run, tmp_path: Path) -> None:
    """From a sheet to a scored and refined adapter, without a word but of the files."""
    (tmp_path / "reviews.csv").write_bytes(sheet(reviews(), ";").encode("utf-8-sig"))
    inputs = [(f"{SWAHILI[i % 2]}, namba {i}",) for i in range(110)]
    (tmp_path / "in.csv").write_bytes(sheet(inputs, ",", ("maoni",)).encode())
    scored = [(f"{SWAHILI[i % 2]}, jaribio {i}", ("positive", "negative")[i % 2]) for i in range(8)]
    (tmp_path / "test.csv").write_bytes(sheet(scored, ";", ("maoni", "hisia")).encode())
    write_texts(tmp_path)
    status, shown, errors = run(
        "init", "reviews.csv", "--text", "sw", "--source-text", "en", "--inputs", "in.csv", "--test", "test.csv"
    )
    assert (status, errors) == (0, "")
    assert "semicolons between fields" in shown
    recipe = loading.load("recipe.yaml")
    preflight.check(recipe, Path())
    assert recipe.name == "reviews-sw"
    assert recipe.refine is not None
    assert recipe.selection is not None
    assert recipe.systems == ["base", "source-adapter", "adamergex", "refined"]
    quick = ["train.task={epochs: 1}", "adapter={r: 2, alpha: 4, target_modules: [q_proj]}"]
    status, shown, errors = run(
        "run", "recipe.yaml", "--output", "done", *[part for q in quick for part in ("--set", q)]
    )
    assert status == 0, errors
    assert "sw: t = 0 was chosen" in shown or "sw: merging changed accuracy by" in shown
    assert (tmp_path / "done/delivered/sw/adapter_model.safetensors").is_file()


def draft(run: Run, *arguments: object) -> Recipe:
    status, _, errors = run("init", *arguments, "--overwrite")
    assert status == 0, errors
    return loading.load("recipe.yaml")


def test_rows_on_several_lines_are_said(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(sheet(reviews(), ",") + f'"{GOOD}\n\nand more",positive\n')
    status, shown, errors = run("init", "a.csv", "--overwrite")
    assert status == 0, errors
    # Two for each row, and the header.
    assert "25 rows, UTF-8, on 51 lines, as line breaks stand in quotes" in " ".join(shown.split())


def test_columns_within_columns_are_found_by_their_path(run: Run, tmp_path: Path) -> None:
    rows = [
        {"id": i, "review": {"body": f"{GOOD} number {i}", "stars": i % 2}, "answers": {"text": [("yes", "no")[i % 2]]}}
        for i in range(12)
    ]
    (tmp_path / "a.json").write_text(json.dumps({"version": 1, "data": rows}))
    recipe = draft(run, "a.json", "--label-column", "answers.text")
    assert recipe.task.prompt == "Labels: yes, no\nText: {review.body}\nLabel:"
    items = read_items(recipe.task, recipe.task.train, Path(), "en")
    assert [item.answer for item in items] == [" yes", " no"] * 6
    assert f"Text: {GOOD} number 3\n" in items[3].prompt


def test_many_different_answers_are_written(run: Run, tmp_path: Path) -> None:
    rows = [{"question": f"What is {i} and {i} in words?", "answer": f"twice {i}"} for i in range(30)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = draft(run, "a.jsonl", "--inputs", "a.jsonl")
    assert (recipe.task.choices, recipe.task.answer_kind, recipe.task.unlabelled) == (None, "text", None)
    assert recipe.task.prompt == "Text: {question}\nAnswer:"
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row | {"answer": i * 3}) + "\n" for i, row in enumerate(rows)))
    assert draft(run, "a.jsonl").task.answer_kind == "number"


def test_braces_quotes_and_words_of_yaml_in_labels_survive(run: Run, tmp_path: Path) -> None:
    labels = ["yes", "no", "{x}", 'say "a, b"', "null", "#1: é"]
    rows = [{"text": f"{GOOD} {i}", "label": label} for i, label in enumerate(labels * 3)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = draft(run, "a.jsonl")
    items = read_items(recipe.task, recipe.task.train, Path(), "en")
    assert [item.answer for item in items] == [f" {label}" for label in labels * 3]
    listed = items[0].prompt.splitlines()[0].removeprefix("Labels: ").split("; ")
    assert sorted(listed) == sorted(labels)


def test_few_inputs_calibrate_and_are_not_learned_from(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(sheet(reviews(), ","))
    for count in (99, 100):
        (tmp_path / "in.csv").write_text(sheet([(f"{SWAHILI[0]} {i}",) for i in range(count)], ",", ("maoni",)))
        recipe = draft(run, "a.csv", "--inputs", "in.csv")
        assert recipe.task.unlabelled is not None
        assert (recipe.refine is not None) == (count >= 100)
        assert recipe.task.unlabelled.columns == {"Review text": "maoni"}


def test_test_rows_that_were_labelled_out_of_the_inputs_are_taken_out_of_these(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(sheet(reviews(), ","))
    inputs = [f"{SWAHILI[i % 2]}, namba {i}" for i in range(110)]
    (tmp_path / "in.csv").write_text(sheet([(text,) for text in inputs], ",", ("maoni",)))
    labelled = [(text, ("positive", "negative")[i % 2]) for i, text in enumerate(inputs[:8])]
    (tmp_path / "test.csv").write_text(sheet(labelled, ",", ("maoni", "hisia")))
    recipe = draft(run, "a.csv", "--inputs", "in.csv", "--test", "test.csv")
    assert recipe.task.overlap == "drop"
    assert draft(run, "a.csv", "--inputs", "in.csv").task.overlap == "refuse"


def test_a_model_in_a_folder_is_written_as_seen_from_the_recipe(
    run: Run, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.csv").write_text(sheet(reviews(), ","))
    (tmp_path / "my model").symlink_to(tiny_model, target_is_directory=True)
    status, _, errors = run("init", "a.csv", "--output", "deep/recipe.yaml", model="my model")
    assert status == 0, errors
    assert loading.load("deep/recipe.yaml").base_model == "../my model"
    monkeypatch.chdir("/")
    assert run("validate", tmp_path / "deep/recipe.yaml")[0] == 0


def test_the_users_folder_is_found_where_the_shell_leaves_its_sign(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    (home / "ä b.csv").write_text(sheet(reviews(), ","))
    status, _, errors = run("init", "~/ä b.csv", "--output=~/recipes/recipe.yaml")
    assert status == 0, errors
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    train = loading.load(str(home / "recipes/recipe.yaml")).task.train
    assert train is not None
    assert train.files == ["../ä b.csv"]
    # Elsewhere it is a character.
    assert "~ä.csv: no such file" in run("init", "~ä.csv")[2]


def test_text_in_columns_and_in_a_wikipedia_of_another_code(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(sheet(reviews(), ","))
    rows = [{"id": i, "body": body} for i, body in enumerate(prose(SWAHILI[0]).split("\n\n"))]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = draft(run, "a.csv", "--text", "t.jsonl")
    assert recipe.reference_source("sw").columns == {"text": "body"}
    assert recipe.reference_source("en").config == "20231101.en"
    # Three quarters of what there is but the longest, in two digits.
    assert recipe.reference.characters is not None
    total = sum(len(str(row["body"])) for row in rows)
    assert 0.6 * total < recipe.reference.characters < 0.75 * total
    recipe = draft(run, "a.csv", "--source", "nb")
    assert recipe.reference_source("nb").config == "20231101.no"


@pytest.mark.parametrize(
    ("content", "arguments", "says"),
    [
        (None, [], r"a.csv: no such file"),
        ("", [], r"a.csv: holds nothing"),
        ("text,label\n", [], "a.csv: holds no rows"),
        ("text\none thing\nanother thing\n", [], "a.csv: one column only, 'text'"),
        ("text,label\none thing,a\nanother thing,a\n", [], "has one value only, 'a'"),
        ("text,label\none thing,a\nanother thing,\n", [], "a.csv:3: column 'label' is empty"),
        ("text,label\none thing,a\nanother,thing,b\n", [], "a.csv:3: expected 2 columns, got 3"),
        (
            "text,label\none thing,a\nanother thing,b\n",
            ["--label-column", "lable"],
            "no column 'lable'; there are text, label",
        ),
        ("text,label\none thing,a\nanother thing,b\n", ["--text", "absent/"], "absent: no such file"),
        ("text,label\none thing,a\nanother thing,b\n", ["--source", "english"], "'english' is not a language code"),
        (
            "text,label\none thing,a\nanother thing,b\n",
            ["--source", "sw"],
            "targets lists sw, which is the source language",
        ),
        (
            "text,label\none thing,a\nanother thing,b\n",
            ["--encoding", "utf-9"],
            "--encoding utf-9: expected the name of one",
        ),
        ("text,label\none thing,a\nanother thing,b\n", ["--output", "a.txt"], "expected a name that ends in .yaml"),
        ("text,label\none thing,a\nanother thing,b\n", ["--test", "test.csv"], "test.csv:2: unknown label 'c'"),
        (
            "text,label\none thing,a\nanother thing,b\n",
            ["--test", "a.csv"],
            "task.train and the scored split are the same source",
        ),
    ],
)
def test_what_cannot_be_learned_is_one_line(
    run: Run, tmp_path: Path, content: str | None, arguments: list[str], says: str
) -> None:
    if content is not None:
        (tmp_path / "a.csv").write_text(content)
    (tmp_path / "test.csv").write_text("text,label\nkitu,c\n")
    status, _, errors = run("init", "a.csv", *(["--source", "en"] if "--source" not in arguments else []), *arguments)
    assert status == 2
    assert errors.startswith("error: ")
    assert len(errors.splitlines()) == 1, errors
    assert says in errors
    assert not (tmp_path / "recipe.yaml").exists()


def test_a_chat_template_is_pointed_to_and_conversations_to_their_recipe(run: Run, tmp_path: Path) -> None:
    write_texts(tmp_path)
    (tmp_path / "a.csv").write_bytes(sheet(reviews(), ",").encode())
    options = ("--text", "sw", "--source-text", "en", "--source", "en", "--yes")
    status, out, _ = run("init", "a.csv", *options)
    assert (status, "chat template" in out, "chat:" in (tmp_path / "recipe.yaml").read_text()) == (0, False, False)
    model = save("gemma3", tmp_path / "chat-model")
    recipe = tmp_path / "recipe.yaml"
    interview = Interview(
        Wanted(tmp_path / "a.csv", "sw", tmp_path, "en", "sw", "en", model=str(model)),
        _Asking(Terminal(), False),
        machine(),
    )
    drafted = drafting.draft(interview.draft())
    assert [note for note in interview.notes if note.startswith("the base model has a chat template")]
    recipe.write_text(drafted)
    assert not loading.load(str(recipe)).task.chat
    recipe.write_text(drafted.replace("  # chat: true ", "  chat: true "))
    assert loading.load(str(recipe)).task.chat
    (tmp_path / "b.jsonl").write_text(json.dumps({"messages": [{"role": "user", "content": "a"}]}) + "\n")
    status, _, err = run("init", "b.jsonl", *options, "--overwrite")
    assert status == 2
    assert "b.jsonl: column 'messages' holds conversations" in err
    assert "messages: messages in place of its prompt" in err


def test_a_recipe_is_replaced_only_where_that_is_said(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(sheet(reviews(), ","))
    (tmp_path / "recipe.yaml").write_text("mine")
    status, _, errors = run("init", "a.csv")
    assert (status, errors) == (2, "error: recipe.yaml exists already; choose another --output, or add --overwrite\n")
    assert (tmp_path / "recipe.yaml").read_text() == "mine"
    draft(run, "a.csv")


def test_it_asks_on_a_terminal_what_it_cannot_know(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"a": f"{GOOD} {i}", "shop": i % 3, "mood": i % 2} for i in range(12)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked: list[str] = []

    def answer(question: Text, **options: Any) -> str:
        asked.append(question.plain)
        return {"0": "sad", "1": "glad"}.get(question.plain.partition("does ")[2][:1], "mood")

    monkeypatch.setattr(Prompt, "ask", answer)
    recipe = draft(run, "a.jsonl")
    assert asked == []
    assert recipe.task.answer == "mood"
    assert recipe.task.choices == {"0": "0", "1": "1"}
    monkeypatch.setattr(init, "_Asking", lambda console, asks: _Asking(console, True))
    recipe = draft(run, "a.jsonl")
    assert asked == [
        "a.jsonl: which column holds the label?",
        "mood: what does 0 mean, in a word?",
        "mood: what does 1 mean, in a word?",
    ]
    assert recipe.task.choices == {"0": "sad", "1": "glad"}
    assert recipe.task.prompt.startswith("Moods: sad, glad\n")


def test_instructions_whose_input_is_sometimes_empty_are_asked_with_and_without(run: Run, tmp_path: Path) -> None:
    rows = [
        {
            "instruction": f"Say it in {i} other words.",
            "input": GOOD * (i % 2),
            "output": f"{BAD}, as I said {i} times before",
        }
        for i in range(24)
    ]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    status, shown, errors = run("init", "a.json")
    assert (status, errors) == (0, "")
    assert "text 'instruction', 'input', answer 'output'" in shown
    recipe = loading.load("recipe.yaml")
    assert recipe.task.optional == {"input": "\nInput: {input}"}
    short, full = read_items(recipe.task, recipe.task.train, Path(), "en")[:2]
    assert short.prompt == "Instruction: Say it in 0 other words.\nOutput:"
    assert full.prompt == f"Instruction: Say it in 1 other words.\nInput: {GOOD}\nOutput:"
    # The recipe asks for what another file lacks.
    (tmp_path / "test.jsonl").write_text(json.dumps({"instruction": "Sema.", "output": "Ndiyo"}) + "\n")
    status, _, errors = run("init", "a.json", "--test", "test.jsonl", "--output", "other.yaml")
    assert status == 2
    assert errors == "error: test.jsonl: as in a.json: no column 'input'; there are instruction, output\n"


REFUSED: dict[str, tuple[str, bytes, str]] = {
    "mixed": (
        "a.csv",
        sheet(reviews(), ",").encode() + b'"caf\xe9","positive"\r\n',
        "a.csv:50: not UTF-8 text, in 1 of 13 lines that are not plain ASCII; the others are: save it in one encoding",
    ),
    "merged cells": (
        "a.csv",
        sheet([("Review text", "Sentiment"), *reviews()], ",", ("Survey", "")).encode(),
        "a.csv: one column only, 'Survey'; expected one with the text and one with the label or the answer; other columns have no name: "
        "remove the lines above the names of the columns, if there are any",
    ),
    "title": (
        "a.csv",
        ("Survey\r\n\r\n" + sheet(reviews(2), ",")).encode(),
        "a.csv:3: expected 1 columns, got 2; remove the lines above the names of the columns, such as 'Survey', if it is none",
    ),
    "JSON": (
        "a.csv",
        json.dumps([{"text": GOOD, "label": "a"}]).encode(),
        "a.csv: begins as JSON does, and is no table; give it its own ending, or save it as CSV",
    ),
    "HTML": (
        "a.csv",
        b"\n<HTML><table><tr><td>text</td></tr></table>",
        "a.csv: begins as HTML or XML does, and is no table; give it its own ending, or save it as CSV",
    ),
    "columns": (
        "a.json",
        json.dumps({"text": [GOOD], "label": ["a"]}).encode(),
        "a.json: an object; expected that it holds a list of objects, got columns or rows by name; write it as a list of rows "
        "(pandas: to_json(path, orient='records'))",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_table_of_rows_is_refused_with_what_to_do(run: Run, tmp_path: Path, case: str) -> None:
    name, content, says = REFUSED[case]
    (tmp_path / name).write_bytes(content)
    status, _, errors = run("init", name)
    assert status == 2
    assert errors.splitlines()[0] == f"error: {says}"
    assert not (tmp_path / "recipe.yaml").exists()


def test_a_folder_of_parts_is_named_in_the_recipe(run: Run, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    assert run("init", "parts")[2] == (
        "error: parts: a folder; give one of its files here, and name the folder in the recipe that is written\n"
    )


def test_names_of_classes_are_those_that_the_hub_s_parquet_has(run: Run, tmp_path: Path) -> None:
    rows = [{"text": text, "label": int(label == "positive")} for text, label in reviews()]
    features = {
        "text": {"_type": "Value", "dtype": "string"},
        "label": {"_type": "ClassLabel", "names": ["bad", "good"]},
    }
    told = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    pq.write_table(pa.Table.from_pylist(rows).replace_schema_metadata(told), tmp_path / "a.parquet")
    status, _, errors = run("init", "a.parquet")
    assert (status, errors) == (0, "")
    assert loading.load("recipe.yaml").task.choices == {"0": "bad", "1": "good"}
