"""Names of others in markdown: shown as they are, and nothing else."""

import html
import re

import pytest

from adamergex import markdown
from adamergex.reporting.report import Report
from adamergex.reporting.report import markdown as report
from adamergex.scoring.results import Row

HOSTILE = "a|b `x` <img src=x onerror=alert(1)>\n# c [d](javascript:alert(2)) \x1b[2J _e_ trust_remote_code *f*"
SHOWN = (
    r"a\|b \`x\` \<img src=x onerror=alert(1)\> # c \[d\](javascript:alert(2)) \\x1b\[2J \_e\_ trust_remote_code \*f\*"
)


def test_a_text_is_one_line_that_does_nothing() -> None:
    assert markdown.line(HOSTILE) == SHOWN.replace(r"\\x1b", r"\x1b".replace("\\", "\\\\"))
    assert markdown.line("# a") == r"\# a"
    assert markdown.line("-12.5") == "-12.5"
    assert markdown.line("+0.0") == "+0.0"


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a", "`a`"), ("a`b", "``a`b``"), ("`a", "`` `a ``"), ("a\nb", "`a b`"), ("", "` `"), ("\x1b", r"`\x1b`")],
)
def test_code_does_not_end_before_its_end(text: str, shown: str) -> None:
    assert markdown.code(text) == shown


def test_a_bar_ends_no_cell() -> None:
    assert markdown.row([markdown.line("a|b"), markdown.code("c|d")]) == r"| a\|b | `c\|d` |"


def test_a_report_shows_names_of_others_and_does_nothing_else() -> None:
    row = Row("es", "m", HOSTILE, "accuracy", 8, 0.5, 0.2, 0.8)
    text = report(Report(HOSTILE, "en", "t = 0", [row], facts=[HOSTILE]), None)
    shown = markdown.line(HOSTILE)
    assert f"# {shown}\n" in text
    assert f"| {shown} |" in text
    assert f"- {shown}\n" in text
    assert text.count("onerror") == len(re.findall(r"\\<img src=x onerror", text)) == 3
    assert "\x1b" not in text
    assert html.escape("<img") not in text
