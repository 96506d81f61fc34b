"""The report as a page: what it says, what it keeps out, and that it stands alone."""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from adamergex.reporting import figures, html, html_parts
from adamergex.reporting.report import ChangedAnswer, Report, cells, headings, verdict
from adamergex.scoring.results import AVERAGE, Row

VOID = {"meta", "link", "img", "br", "hr", "input"}
HOSTILE = '</script><script>alert("1")</script>\' onload=x & \x00 \u202e\u2067 \u2069 \ud800 \ufffe $x$'


class Walk(HTMLParser):
    """A page taken apart: what is open where, identifiers, attributes, text."""

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in self.open
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data
        if not self.open or self.open[-1] != "style":
            self.texts.append(data)

    def having(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def row(language: str, method: str, score: float, difference: float | None, **more: Any) -> Row:
    p_value = None if difference is None else math.exp(-60 * abs(difference))
    return Row(language, method, f"{method} of {language}", "exact", 200, score, score - 0.07, score + 0.06, difference,
               p_value, average=language == AVERAGE, **more)  # fmt: skip


def rows(*languages: str) -> list[Row]:
    found = []
    for number, language in enumerate(languages):
        up = 0.013 * number
        found += [
            row(language, "base", 0.311 + up, -0.2113, unreadable=3),
            row(language, "source-adapter", 0.5223 + up, None),
            row(language, "adamergex", 0.6447 + up, 0.1224, gap_closed=0.71, others={}, role="merged"),
            row(language, "ceiling", 0.6951 + up, 0.1728),
        ]
    return found


def example(**changes: Any) -> ChangedAnswer:
    given = ChangedAnswer(
        "ar", "adamergex", "merged", "test/1", "ما العاصمة؟", ("القاهرة", "مصر"), "باريس", 0.0, "القاهرة", 1.0
    )
    return replace(given, **changes)


def curve(steps: int) -> list[dict[str, Any]]:
    return [
        {"step": i, "loss": 3 / i, "learning_rate": 1e-4, "tokens": 64, "seconds": 0.5, "memory": 900}
        for i in range(1, steps + 1)
    ]


def corpus(**changes: Any) -> Mapping[str, Any]:
    return {
        "documents": 1234,
        "tokens": 64000,
        "windows": 1000,
        "heldout": {"windows": 17},
        "documents_read": 2345,
        "near_duplicates_dropped": 56,
        "boilerplate_lines_dropped": 78,
        "in_other_languages": 9,
        "in_other_languages_dropped": 0,
        "other_languages": {"en": 7, "fr": 2},
        "source": {"dataset": "wiki/pedia", "config": "2023.ar", "split": "train"},
        "licence": "cc-by-sa-4.0",
    } | changes


@pytest.fixture(scope="module")
def full() -> Report:
    return Report(
        title="A run",
        source="en",
        start="t = 0",
        rows=rows("ar", "th", AVERAGE),
        examples=[example(), example(language="th", score=0.25)],
        facts=["scored on the test split"],
        curves={"task-en": curve(900), "reference-ar": curve(1)},
        corpora={"ar": corpus(), "en": corpus(in_other_languages=None, source={"files": ["/a/b.txt"]}, licence=None)},
        scales={"ar": [(0.5, 0.61), (0.0, 0.52), (1.0, 0.6)], "th": []},
        harness=[
            {"task": "xnli", "metric": "acc", "value": 0.4567, "stderr": 0.0123},
            {"task": "xcopa", "metric": "acc", "value": 0.5, "stderr": "N/A"},
        ],
        versions={"torch": "2.9.9"},
        hashes={"recipe": "ab12"},
    )


@pytest.fixture(scope="module")
def page(full: Report) -> str:
    return html.page(full)


def test_tags_are_balanced_identifiers_are_unique_and_pictures_have_words(page: str) -> None:
    walk = Walk(page)
    names = [attributes["id"] for _, attributes in walk.tags if "id" in attributes]
    assert len(names) == len(set(names))
    pictures = walk.having("svg")
    assert [bool(picture["aria-label"]) for picture in pictures] == [True] * 3
    assert all(attributes.get("alt") for attributes in walk.having("img"))
    targets = [str(attributes["href"]) for tag in ("a", "use") for attributes in walk.having(tag)]
    targets += [
        found for _, of in walk.tags for found in re.findall(r"url\((#[^)]+)\)", " ".join(map(str, of.values())))
    ]
    assert targets
    assert {target[1:] for target in targets} <= set(names)
    assert len(walk.having("h1")) == len(walk.having("main")) == 1
    assert len(walk.having("caption")) == len(walk.having("table"))


def test_every_row_is_in_the_page_as_its_cells(page: str, full: Report) -> None:
    tables = Walk(page).tables
    for (_, of), shown in zip(full.tables(), tables[1:], strict=False):
        columns = headings(of, full.start)
        assert shown == [["method", *columns[1:]], *(cells(row, columns) for row in of)]
    merged = [row for row in full.rows if row.method == "adamergex"]
    columns = headings(merged, full.start)
    assert [shown[1:] for shown in tables[0][1:]] == [cells(row, columns)[1:] for row in merged]


def test_the_verdict_comes_first(page: str, full: Report) -> None:
    lead = re.search(r'<p class="lead" dir="auto">(.*?)</p>', page)
    assert lead
    assert lead[1] == html_parts.text(str(verdict(full.tables()[-1][1])))
    assert page.index(lead[0]) < page.index("<main>")


def test_nothing_comes_from_elsewhere(page: str) -> None:
    walk = Walk(page)
    assert not {"script", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in walk.tags}
    for _, attributes in walk.tags:
        for key, value in attributes.items():
            assert not key.startswith("on")
            assert key not in ("src", "href", "srcset") or str(value).startswith("#")
    assert "http" not in re.sub(r"http-equiv", "", page)
    assert "@import" not in page


def test_the_same_report_gives_the_same_page(page: str, full: Report) -> None:
    assert html.page(full) == page


def test_pictures_take_their_colours_from_the_page(page: str) -> None:
    used = set(re.findall(r"var\((--[\w-]+)\)", page))
    assert {"--ink", "--accent", "--curve-1", "--curve-2"} <= used
    light, dark = page.split("@media screen and (prefers-color-scheme: dark)")
    drawn = "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    assert not re.search(r"#[0-9a-fA-F]{6}\b", drawn)
    colours = {name for name in used if name not in ("--sans", "--mono", "--width")}
    assert all(f"{name}:" in light and f"{name}:" in dark.split("}")[0] for name in colours)


def test_sections_without_content_are_left_out() -> None:
    bare = html.page(Report("A run", "en", "t = 0", rows("ar")))
    walk = Walk(bare)
    assert [attributes["id"] for attributes in walk.having("h2")] == ["results"]
    assert not walk.having("nav")
    nothing = html.page(Report("A run", None, "t = 0", []))
    assert not Walk(nothing).having("h2")
    assert "Nothing was scored." in nothing


def test_hostile_text_stays_text_wherever_it_stands() -> None:
    hostile = [replace(row, label=HOSTILE, others={HOSTILE: 0.5}) for row in rows(HOSTILE)]
    report = Report(
        title=HOSTILE,
        source=HOSTILE,
        start=HOSTILE,
        rows=hostile,
        examples=[
            ChangedAnswer(HOSTILE, "adamergex", HOSTILE, HOSTILE, HOSTILE, (HOSTILE,), HOSTILE, 1.0, HOSTILE, 0.0)
        ],
        facts=[HOSTILE],
        curves={HOSTILE: curve(3)},
        corpora={HOSTILE: corpus(licence=HOSTILE, other_languages={HOSTILE: 1}, source={"package": HOSTILE})},
        scales={HOSTILE: [(0.0, 0.5), (1.0, 0.6)]},
        harness=[{"task": HOSTILE, "metric": HOSTILE, "value": 1.0, "stderr": 0.5}],
        versions={HOSTILE: HOSTILE},
        hashes={HOSTILE: HOSTILE},
    )
    page = html.page(report)
    page.encode()
    walk = Walk(page)
    assert not walk.having("script")
    assert not any("onload" in attributes for _, attributes in walk.tags)
    assert not re.search("[\x00\ud800\ufffe]", page)
    shown = html_parts.clean(HOSTILE)
    assert shown.count("␀") == 1
    assert shown.count("\ufffd") == 2
    assert walk.texts.count(shown) > 10
    # Marks of direction end with the block that they stand in.
    assert all(attributes.get("dir") == "auto" for attributes in walk.having("dd") + walk.having("td"))


def test_answers_carry_their_language_and_right_or_wrong_in_words() -> None:
    examples = [example(), example(id="test/2", start_score=1.0, score=0.0, prediction=" ", language="ar")]
    page = html.page(Report("A run", "en", "t = 0", rows("ar"), examples))
    assert '<dd lang="ar" dir="auto">القاهرة</dd><dd lang="ar" dir="auto">مصر</dd>' in page
    assert page.count("✓ right") == page.count("✗ wrong") == 2
    assert '<em lang="en">empty</em>' in page
    assert "2 shown: 1 better, 1 worse than t = 0" in page
    assert 'lang="dialect' not in html.page(Report("", None, "", [], [example(language="dialect one")]))
    assert "◐ 25 %" in html.page(Report("", None, "", [], [example(score=0.25)]))


def test_no_more_than_ten_answers_of_a_method_and_no_endless_prompt() -> None:
    examples = [example(id=f"test/{number}", prompt="a" * 9000 + "end") for number in range(12)]
    page = html.page(Report("A run", "en", "t = 0", (), examples))
    assert "10 of 12 shown: 10 better, 0 worse" in page
    assert page.count("<article") == 10
    assert "[… 5,003 characters left out …]" in page
    assert "aend</pre>" in page


def test_corpora_say_what_was_dropped_and_where_text_comes_from(page: str) -> None:
    numbers, sources = Walk(page).tables[-4:-2]
    assert numbers[1] == ["ar", "1,234", "64,000", "1,000", "2,345", "56", "78", "17"]
    assert sources[1:] == [
        ["ar", "wiki/pedia (config 2023.ar, split train)", "cc-by-sa-4.0", "9 (en 7, fr 2)"],
        ["en", "b.txt", "not stated", "unknown to the identifier"],
    ]


def test_the_harness_has_its_errors_where_there_are_any(page: str) -> None:
    tables = Walk(page).tables
    assert [["xnli", "acc", "0.4567", "0.0123"], ["xcopa", "acc", "0.5000", ""]] in [table[1:] for table in tables]


def test_pictures_hold_one_to_twenty_languages_and_one_to_twelve_methods() -> None:
    many = [
        row(f"l{language}", f"m{method}", 0.3 + method / 50, None if method == 0 else method / 50)
        for language in range(20)
        for method in range(12)
    ]
    for given, panels in ((many, 20), (many[:1], 1)):
        page = html.page(Report("A run", "en", "t = 0", given))
        drawn = re.search(r"<svg.*?</svg>", page, re.DOTALL)
        assert drawn
        walk = Walk(drawn[0])
        assert sum(text.startswith("en → l") for text in walk.texts) == panels


def test_the_highest_score_by_t_is_named(page: str) -> None:
    assert "en → ar: highest at t = 0.5 with 61.0" in page
    assert page.count("t = 0.5</text>") == 1


def test_long_trainings_are_drawn_as_means_of_few_steps() -> None:
    drawn = figures.training_svg({"task-en": curve(20_000)}, "training")
    assert max(len(attributes.get("d") or "") for attributes in Walk(drawn).having("path")) < 400 * 20
    assert "20000 steps, loss 3.000 to 0.000" in drawn
    assert figures.training_curves({"task-en": curve(2)}).startswith(b"\x89PNG")
