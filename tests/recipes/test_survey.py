"""What labelled files hold."""

from pathlib import Path
from typing import Any

import pytest

from adamergex.data.formats import Format
from adamergex.errors import DataError
from adamergex.recipes import columns, survey
from adamergex.recipes.columns import Pick, Table

GOOD, BAD = "I loved this hotel and the people", "The room was dirty and far too loud"


def table(rows: list[dict[str, Any]]) -> Table:
    located = [(f"a.jsonl:{number}", row) for number, row in enumerate(rows, 1)]
    return Table(Path("a.jsonl"), Format(), located, list(dict.fromkeys(name for row in rows for name in row)))


def labelled(labels: list[Any], **more: Any) -> Table:
    return table([{"text": f"{GOOD} {i}", "label": label, **more} for i, label in enumerate(labels)])


@pytest.mark.parametrize(
    ("rows", "text", "answer"),
    [
        # The longest column; the last one with few values, since none is named as labels are.
        ([{"id": i, "a": f"{GOOD} {i}", "b": "xy"[i % 2]} for i in range(6)], Pick("a"), Pick("b")),
        (
            [{"a": f"{GOOD} {i}", "shop": "xy"[i % 2], "mood": "+-"[i % 2]} for i in range(6)],
            Pick("a"),
            Pick("mood", ("shop",)),
        ),
        # A name wins over a place, and over some more characters.
        ([{"label": "xy"[i % 2], "a": f"{GOOD} {i}", "b": "uv"[i % 2]} for i in range(6)], Pick("a"), Pick("label")),
        (
            [{"title": f"{GOOD} {i} !!", "review": f"{GOOD} {i}", "stars": i % 2} for i in range(6)],
            Pick("review", ("title",)),
            Pick("stars"),
        ),
        # Addresses are longer than texts, and a summary may be.
        (
            [{"url": f"https://example.org/{i}{'x' * 80}", "a": f"{GOOD} {i}", "topic": "xy"[i % 2]} for i in range(6)],
            Pick("a"),
            Pick("topic"),
        ),
        ([{"question": f"What is {i}?", "answer": f"{GOOD} {i}"} for i in range(6)], Pick("question"), Pick("answer")),
    ],
)
def test_columns_are_found(rows: list[dict[str, Any]], text: Pick, answer: Pick) -> None:
    found = columns.text_column(table(rows))
    assert found == text
    assert columns.answer_column(table(rows), found.column) == answer


def test_classes_are_counted_in_their_order() -> None:
    assert survey.look(labelled(list("abbbca")), "text", "label").classes == {"b": 3, "a": 2, "c": 1}
    numbers = survey.look(labelled([10, 2, 2, 1] * 2), "text", "label")
    assert list(numbers.classes.items()) == [("1", 2), ("2", 4), ("10", 2)]


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        (["a", "b"], "choice"),
        ([f"answer {i // 2}" for i in range(20)], "choice"),
        ([f"answer {i}" for i in range(20)], "text"),
        ([str(i * 1.5) for i in range(20)], "number"),
        ([f"{BAD}, {BAD} {i}" for i in range(20)], "generation"),
        ([f"two\nlines {i}" for i in range(20)], "generation"),
        # A hundred and one classes are too many.
        ([f"class {i // 2}" for i in range(202)], "text"),
        ([f"class {i // 2}" for i in range(200)], "choice"),
    ],
)
def test_few_answers_are_labels_and_many_are_written(answers: list[str], kind: str) -> None:
    found = survey.look(labelled(answers), "text", "label")
    assert found.kind == kind
    assert bool(found.classes) == (kind == "choice")


def test_what_stands_twice_is_counted() -> None:
    rows = [("One two!", "a"), ("one  two", "a"), ("ONE TWO", "b"), ("three", "b"), ("", "b"), ("", "a")]
    found = survey.look(table([{"text": text, "label": label} for text, label in rows]), "text", "label")
    assert (found.duplicates, found.contradictions, found.empty) == (1, [("a.jsonl:1", "a.jsonl:3")], 2)
    assert found.length == (6, 8)


def test_languages_are_told() -> None:
    swahili = ["Hoteli hii ilikuwa nzuri sana na wafanyakazi walikuwa wakarimu kwetu sote"] * 20
    found = survey.languages(swahili + [GOOD] * 5)
    assert next(iter(found)) == "sw"
    assert sum(found.values()) == pytest.approx(1)
    assert survey.foreign(survey.languages(swahili), "sw") is None
    assert survey.foreign(survey.languages([GOOD] * 20), "sw") == "en"
    # The identifier does not know it, so that nothing is said of it.
    assert survey.foreign(survey.languages([GOOD] * 20), "bem") is None
    assert survey.languages([]) == {}


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (["a", "a"], "has one value only, 'a'"),
        (["a", "", "b", None], r"a\.jsonl:2: column 'label' is empty, as in 2 of 4 rows"),
        (["Good", "bad", "good"] * 2, "'Good' and 'good', which differ in case, spaces or form of Unicode alone"),
        (["café", "bad", "cafe\u0301"] * 2, "which differ in case, spaces or form of Unicode alone"),
        (["a", {"b": 1}], r"a\.jsonl:2: column 'label' holds a dict"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(labels: list[Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        survey.look(labelled(labels), "text", "label")


def test_columns_that_are_not_there_are_refused() -> None:
    with pytest.raises(DataError, match="one column only, 'text'"):
        columns.answer_column(table([{"text": GOOD}, {"text": BAD}]), "text")
    plain = Table(Path("a.txt"), Format(), [("a.txt:1", {"text": GOOD})], ["text"])
    with pytest.raises(DataError, match=r"plain text has no columns: give a table its own ending, .csv or .tsv$"):
        columns.answer_column(plain, "text")
    with pytest.raises(DataError, match="no column has several values; expected labels or answers in one of language"):
        columns.answer_column(table([{"text": GOOD, "language": "en"}, {"text": BAD, "language": "en"}]), "text")
    with pytest.raises(DataError, match="no column holds text"):
        columns.text_column(table([{"a": 1, "b": "2020-01-01"}] * 2))
    with pytest.raises(DataError, match="--text-column: no column 'txt'; there are text, label; did you mean text"):
        columns.require(labelled(["a"]), "txt", "--text-column")


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"instruction": "a", "input": "b", "output": "c"}, ("instruction", ("input",), "output")),
        (
            {"instruction": "a", "context": "b", "response": "c", "category": "d"},
            ("instruction", ("context",), "response"),
        ),
        (
            {"id": 1, "title": "t", "context": "a", "question": "b", "answers": "c"},
            ("context", ("question",), "answers"),
        ),
        ({"Premise": "a", "Hypothesis": "b", "label": 0}, ("Premise", ("Hypothesis",), "label")),
        ({"sentence1": "a", "sentence2": "b", "idx": 3, "label": 0}, ("sentence1", ("sentence2",), "label")),
        ({"instruction": "a", "output": "c"}, ("instruction", (), "output")),
        ({"prompt": "a", "completion": "c"}, ("prompt", (), "completion")),
        ({"text": "a", "label": "c"}, None),
        ({"premise": "a", "choice1": "b", "choice2": "c", "label": 0}, None),
    ],
)
def test_well_known_layouts_are_known(row: dict[str, Any], found: tuple[str, tuple[str, ...], str] | None) -> None:
    assert columns.layout(table([row])) == found


@pytest.mark.parametrize(
    ("first", "second", "more", "found"),
    [
        ("sent_A", "sent_B", {}, True),
        ("#1 String", "#2 String", {"#1 ID": 70, "#2 ID": 71}, True),
        ("Text1", "Text2", {"id": 4}, True),
        ("option_a", "option_b", {"option_c": GOOD}, False),
        ("choice1", "choice2", {"premise": BAD}, False),
        ("text", "comment", {}, False),
    ],
)
def test_two_texts_that_are_numbered_belong_together(
    first: str, second: str, more: dict[str, Any], found: bool
) -> None:
    rows = [{**more, first: f"{GOOD} {i}", second: f"{BAD} {i}", "verdict": "yn"[i % 2]} for i in range(6)]
    assert columns.layout(table(rows)) == ((first, (second,), "verdict") if found else None)
    unlabelled = [{name: value for name, value in row.items() if name != "verdict"} for row in rows]
    assert columns.layout(table(unlabelled)) is None


def test_texts_that_belong_together_are_looked_at_together() -> None:
    rows = [
        {"premise": "It rains.", "hypothesis": other, "label": label}
        for other, label in (("Wet.", 0), ("Dry.", 2), ("Wet.", 0))
    ]
    found = survey.look(table(rows), "premise", "label", ["hypothesis"])
    assert (found.duplicates, found.contradictions, found.length) == (1, [], (14, 14))
    asked = [
        {"context": f"{name} came.", "question": "Who came?", "answers": [name]}
        for name in ("Ann", "Bob", "Cy", "Di", "Ed")
    ]
    assert survey.look(table(asked), "context", "answers", ["question"]).kind == "extraction"
    assert survey.look(table(asked), "context", "answers").kind == "text"


def test_rows_are_not_answered_by_their_numbers() -> None:
    rows = [{"id": i, "text": f"{GOOD} {i}", "mood": "+-"[i % 2]} for i in range(6)]
    assert columns.answer_column(table(rows), "text") == Pick("mood")
    with pytest.raises(DataError, match="one column only, 'text'"):
        columns.answer_column(table([{"id": i, "text": f"{GOOD} {i}"} for i in range(6)]), "text")


def test_errors_of_a_spreadsheet_s_formulas_are_no_labels() -> None:
    with pytest.raises(DataError) as caught:
        survey.look(labelled(["a", "#N/A", "b", "a", "#N/A", "b"]), "text", "label")
    assert str(caught.value) == (
        "a.jsonl:2: column 'label' is #N/A, an error of a spreadsheet's formula, as in 2 of 6 rows; set the formula right, or "
        "remove them"
    )


def test_what_is_chosen_from_is_missed_where_it_is_a_list() -> None:
    rows = [{"question": GOOD, "choices": ["a", "b"], "tags": ["c"], "answer": i % 2} for i in range(6)]
    assert survey.left_out(table(rows), "answer", ["choices", "tags"]) == [
        "column 'choices' holds lists and is not in the prompt; if they are what is chosen from, name them in it, or as the words of "
        "choices: {choices[0]}"
    ]
    assert survey.left_out(table(rows), "answer", []) == []


def test_a_text_that_may_belong_to_the_prompt_is_said_to_be_left_out() -> None:
    rows = [
        {"column_1": GOOD, "column_2": BAD, "column_3": ["yes", "no"][i % 2], "column_4": f"a{i}"} for i in range(6)
    ]
    assert survey.left_out(table(rows), "column_3", ["column_2", "column_4"]) == [
        "column 'column_2' holds text, too, and is not in the prompt; write {column_2} there if it belongs to it"
    ]
