"""Rows as people have them: columns of other names, semicolons, code pages, tables without names."""

import gzip
from pathlib import Path

import pytest

from adamergex.errors import DataError, RecipeError
from adamergex.inference.answer_files import answer
from adamergex.inference.answer_jobs import prepared
from adamergex.inference.predictor import Predictor, predictor
from adamergex.inference.row_file import FOUND, Reading, RowFile, named_columns
from adamergex.inference.rows_calibration import Wish
from adamergex.inference.settings import Evaluate
from adamergex.inference.usage import Asked, described
from adamergex.progress import Silent
from adamergex.tasks.task import Task

from .test_predictor import CHOICES, make  # noqa: F401  (a fixture)

ASKED = Asked(kind="choice", prompt="{text}:", choices={"pos": "yes", "neg": "no"}, column_names={"text": ("maoni",)})


def prompts(path: Path, asked: Asked = ASKED, reading: Reading = FOUND) -> list[str]:
    rows = RowFile(str(path), asked, reading)
    rows.look({}, False)
    return [rows.item(location, row).prompt for location, row in rows.rows()]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("maoni;n\ncafé, chai;1\n« ndio »;2\n".encode("cp1252"), "x.csv"),
        ("\ufeffmaoni;n\r\ncafé, chai;1\r\n« ndio »;2\r\n".encode(), "x.csv"),
        ("maoni\tn\ncafé, chai\t1\n« ndio »\t2\n".encode("utf-16"), "x.tsv"),
        ('maoni,n\n"café, chai",1\n« ndio »,2\n'.encode(), "x.csv"),
        # The prompt's own name, too.
        ('text,n\n"café, chai",1\n« ndio »,2\n'.encode(), "x.csv"),
        # Names are known, though one cell is as long as no name is.
        (f"maoni;{'n' * 70}\ncafé, chai;1\n« ndio »;2\n".encode(), "x.csv"),
        ("café, chai\n\n« ndio »\n".encode("cp1252"), "x.txt"),
        (gzip.compress("maoni;n\ncafé, chai;1\n« ndio »;2\n".encode(), mtime=0), "x.csv.gz"),
        ('{"maoni": "café, chai"}\n{"maoni": "« ndio »"}\n'.encode(), "x.json"),
        ('{"data": [{"maoni": "café, chai"},\n{"maoni": "« ndio »"}]}'.encode("cp1252"), "x.json"),
        ('[{"maoni": "café, chai"},\n{"maoni": "« ndio »"}]'.encode(), "x.jsonl"),
    ],
)
def test_tables_and_text_are_read_as_they_were_found(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert prompts(tmp_path / name, reading=Reading("fr")) == ["café, chai:", "« ndio »:"]


def test_columns_within_columns_are_answered(tmp_path: Path) -> None:
    asked = Asked(kind="choice", prompt="{review.body}:", choices={"pos": "yes", "neg": "no"})
    (tmp_path / "x.jsonl").write_text('{"review": {"body": "chai"}}\n')
    assert prompts(tmp_path / "x.jsonl", asked) == ["chai:"]
    reading = Reading(columns={"text": "review.body"})
    assert prompts(tmp_path / "x.jsonl", reading=reading) == ["chai:"]


def test_a_table_without_names_has_numbered_ones(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("1,chai\n2,kahawa\n")
    reading = Reading(columns={"text": "column_2"})
    assert prompts(tmp_path / "x.csv", reading=reading) == ["chai:", "kahawa:"]
    with pytest.raises(DataError, match=r"no column 'text'; the row has column_1, column_2; .*--columns text=NAME"):
        prompts(tmp_path / "x.csv")


def test_of_several_names_of_the_run_none_is_guessed(tmp_path: Path) -> None:
    """A table with the text in both languages, and one without names whose layout may be that of either file."""
    asked = ASKED.model_copy(update={"column_names": {"text": ("Review text", "maoni")}})
    (tmp_path / "x.csv").write_text("Review text,maoni\na,b\n")
    with pytest.raises(
        DataError, match=r"x.csv:2: the prompt's 'text' may be 'Review text' or 'maoni', .*--columns text=NAME"
    ):
        prompts(tmp_path / "x.csv", asked)
    assert prompts(tmp_path / "x.csv", asked, Reading(columns={"text": "maoni"})) == ["b:"]
    numbered = Asked(
        kind="choice",
        prompt="{column_1}:",
        choices={"pos": "yes", "neg": "no"},
        column_names={"column_1": ("column_2",)},
    )
    (tmp_path / "n.csv").write_text("1,chai\n2,kahawa\n")
    with pytest.raises(DataError, match=r"'column_1' may be 'column_1' or 'column_2'"):
        prompts(tmp_path / "n.csv", numbered)
    assert prompts(tmp_path / "n.csv", numbered, Reading(columns={"column_1": "column_2"})) == ["chai:", "kahawa:"]


def test_what_the_user_says_goes_first(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("maoni,text,other\na,b,c\n")
    assert prompts(tmp_path / "x.csv") == ["b:"]
    assert prompts(tmp_path / "x.csv", reading=Reading(columns={"text": "other"})) == ["c:"]
    with pytest.raises(DataError, match="no column 'nowhere'; the row has maoni, text, other"):
        prompts(tmp_path / "x.csv", reading=Reading(columns={"text": "nowhere"}))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("text", "--columns text: expected COLUMN=NAME, such as text=NAME"),
        ("text=", "expected COLUMN=NAME"),
        ("text=a,text=b", "--columns text=b: 'text' is named twice"),
        ("label=x", "--columns label=x: the prompt has no column 'label'; it has text"),
    ],
)
def test_names_of_columns_are_checked(text: str, says: str) -> None:
    assert named_columns("text=My text", ASKED) == {"text": "My text"}
    with pytest.raises(RecipeError, match=says):
        named_columns(text, ASKED)


def test_an_adapter_knows_what_its_files_call_the_columns_of_its_prompt() -> None:
    train = {"files": "a.csv", "columns": {"text": "Review text"}}
    task = Task.model_validate(
        CHOICES | {"train": train, "unlabelled": {"files": "b.csv", "columns": {"text": "maoni"}}}
    )
    told = described(task, Evaluate(), "sw", base_model="m", weights="w", dtype="float32")
    assert told["task"]["column_names"] == {"text": ["Review text", "maoni"]}
    plain = described(Task.model_validate(CHOICES), Evaluate(), "sw", base_model="m", weights="w", dtype="float32")
    assert "column_names" not in plain["task"]


def test_a_table_comes_out_as_it_went_in(make, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]  # noqa: F811
    source = {"files": "a.csv", "columns": {"text": "maoni"}}
    loaded: Predictor = predictor(make(CHOICES | {"train": source}))
    path = tmp_path / "x.csv"
    path.write_bytes("maoni;n\ncafé, chai;1\nndio;2\n".encode("cp1252"))
    (job,) = prepared(loaded.usage, [str(path)], None, Wish(), reading=Reading("fr"))
    said = answer(loaded, job, Wish(), Silent())
    assert "2 rows (read as cp1252, ';' between fields)" in said
    header, first, _ = (tmp_path / "x.predictions.csv").read_bytes().decode("utf-8").split("\n")[:3]
    # A mark, so that a spreadsheet reads UTF-8.
    assert header == "\ufeffmaoni;n;prediction;probability;p(pos);p(neg)"
    assert first.startswith("café, chai;1;")
    # From Python under either name.
    by_name, by_prompt = loaded([{"maoni": "ndio"}]), loaded([{"text": "ndio"}])
    assert by_name == by_prompt
