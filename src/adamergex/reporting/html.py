"""A report as one self-contained HTML file. Imports no torch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from adamergex.reporting import figures, score_figures
from adamergex.reporting.html_parts import bullets, clean, document, picture, shortened, spoken, table, text
from adamergex.reporting.metrics import FURTHER, further, label_shares, metric_name, over_seeds
from adamergex.reporting.report import ChangedAnswer, Report, cells, headings, sentences
from adamergex.scoring.results import Row

# Examples of a method in a language, and characters of a prompt and of an answer, that a page shows.
_EXAMPLES, _PROMPT, _ANSWER = 10, 4000, 1200


def page(report: Report) -> str:
    """The whole report as a page. Equal reports give equal text, and sections without content are left out."""
    bodies = {
        "results": ("Results", _results(report)),
        "seeds": ("Each seed", _seeds(report)),
        "further": ("Further metrics", _further(report)),
        "scale": ("Score by t", _scales(report)),
        "harness": ("lm-evaluation-harness", _harness(report)),
        "answers": ("Answers that changed", _answers(report)),
        "training": ("Training", _training(report)),
        "corpora": ("Plain text", _corpora(report)),
        "facts": ("How these numbers came to be", bullets(report.facts) if report.facts else ""),
        "versions": ("Versions and hashes", _versions(report)),
    }
    return document(report.title, _summary(report), bodies, report.above)


def _summary(report: Report) -> str:
    """The summary at the top: the verdict, on the average if there is one, and what was measured."""
    if not report.rows:
        return '<p class="lead">Nothing was scored.</p>'
    tables = report.tables()
    # The average says the most; the verdicts of the languages stand with their tables.
    shown = tables[-1:] if tables[-1][1][0].average else tables
    summary = " ".join(sentence for _, rows in shown for sentence in sentences(report, rows))
    lead = f'<p class="lead" dir="auto">{text(summary)}</p>\n' if summary else ""
    items = {row.language: row.items for row in report.rows if not row.average}
    methods = len({row.method for row in report.rows})
    least, most = min(items.values()), max(items.values())
    measured = (
        f"Measured was {_metric(report.rows)} of {methods} {'methods' if methods > 1 else 'method'} in "
        f"{len(items)} {'languages' if len(items) > 1 else 'language'} ({', '.join(items)}), on "
        f"{f'{most:,}' if least == most else f'{least:,} to {most:,}'} items{' in each' if len(items) > 1 else ''}."
    )
    measured = f"{measured} {over_seeds(report.rows[0])}".rstrip()
    return f'{lead}<p class="measured" dir="auto">{text(measured)}</p>'


def _results(report: Report) -> str:
    """The merged adapter in every language, the figure, then a table for each language."""
    tables = report.tables()
    if not tables:
        return ""
    parts = []
    merged = [
        replace(row, label=report.heading(row.language, row.average)) for row in report.rows if row.role == "merged"
    ]
    if len(merged) > 1:
        parts.append(_rows("The merged adapter in every language; scores in percent", merged, report.start, "language"))
    metric = _metric(report.rows)
    caption = f"Scores ({metric}) with 95 % intervals."
    if any(score_figures.start_of(rows) for _, rows in tables):
        caption += f" The dashed line and the open circle are {report.start}, the diamond is the merged adapter."
    if any(score_figures.calibrated(row) is not None for row in report.rows):
        caption += " Triangles: after calibration without labels."
    parts.append(picture(score_figures.scores(tables, metric, "scores"), caption))
    for number, (heading, rows) in enumerate(tables, 1):
        # The verdict on an only language stands at the top of the page.
        lines = sentences(report, rows) if len(tables) > 1 else []
        verdicts = "".join(f'\n<p dir="auto">{text(sentence)}</p>' for sentence in lines)
        items = f"{max(row.items for row in rows):,} items; scores in percent, differences in points"
        parts.append(
            f'<h3 id="results-{number}" dir="auto">{text(heading)}</h3>{verdicts}\n'
            + _rows(f"{heading}: {items}", rows, report.start, "method")
        )
    if len(tables) > 3:
        links = (
            f'<li><a href="#results-{number}">{text(heading)}</a></li>' for number, (heading, _) in enumerate(tables, 1)
        )
        parts.insert(-len(tables), f'<nav aria-label="Languages" class="languages"><ul>{"".join(links)}</ul></nav>')
    return "\n".join(parts)


def _seeds(report: Report) -> str:
    """The rows of each seed, which those of the results are means of."""
    return "\n".join(
        f'<h3 dir="auto">{text(heading)}</h3>\n'
        + _rows(f"{heading}, each seed: scores in percent, differences in points", rows, report.start, "method")
        for heading, rows in report.seed_tables()
    )


def _rows(caption: str, rows: Sequence[Row], start: str, first: str) -> str:
    columns = headings(rows, start)
    of_merged = all(row.role == "merged" for row in rows)
    # Where all rows are of the merged adapter, the average is emphasised.
    merged = [number for number, row in enumerate(rows) if (row.average if of_merged else row.role == "merged")]
    return table(caption, [first, *columns[1:]], [cells(row, columns) for row in rows], merged)


def _further(report: Report) -> str:
    """Further metrics of every row, and how often it predicts each label."""
    parts = []
    for heading, rows in report.tables():
        metrics, shares = further(rows), label_shares(rows)
        merged = [number for number, row in enumerate(rows) if row.role == "merged"]
        if metrics:
            parts.append(f'<h3 dir="auto">{text(heading)}</h3>')
            parts.append(table(f"{heading}: {FURTHER}", metrics[0], metrics[1:], merged))
        if shares:
            caption = f"{heading}: how often each label is right, and is predicted, in percent of the items"
            # The right answers are the first row.
            parts.append(table(caption, shares[0], shares[1:], [number + 1 for number in merged]))
    return "\n".join(parts)


def _metric(rows: Sequence[Row]) -> str:
    metrics = {row.metric for row in rows}
    return metric_name(rows[0].metric) if len(metrics) == 1 else "score"


def _scales(report: Report) -> str:
    tried = {report.heading(language): pairs for language, pairs in report.scales.items() if pairs}
    if not tried:
        return ""
    metric = _metric(report.rows) if report.rows else "score"
    caption = (
        "The score for every t that was tried; the diamond is the highest. "
        "A t that is chosen by it must be scored on other items."
    )
    return picture(score_figures.scales(tried, metric, "scale"), caption)


def _harness(report: Report) -> str:
    if not report.harness:
        return ""
    rows = [(row["task"], row["metric"], f"{row['value']:.4f}", _error(row["stderr"])) for row in report.harness]
    return table("Scores by lm-evaluation-harness", ("task", "metric", "value", "± standard error"), rows, words=(1,))


def _error(error: Any) -> str:
    """A standard error; the harness writes a word where it has none."""
    return f"{error:.4f}" if isinstance(error, float) else ""


def _answers(report: Report) -> str:
    """Examples by language and method, each method collapsed."""
    parts = []
    for language, of_language in groupby(report.examples, key=lambda example: example.language):
        parts.append(f'<h3 dir="auto">{text(report.heading(language))}</h3>')
        for _, of_method in groupby(of_language, key=lambda example: example.method):
            changed = list(of_method)
            examples = changed[:_EXAMPLES]
            better = sum(example.score > example.start_score for example in examples)
            worse = sum(example.score < example.start_score for example in examples)
            shown = "\n".join(_answer(example, report.start) for example in examples)
            count = f"{len(examples)} of {len(changed):,}" if len(changed) > _EXAMPLES else f"{len(changed)}"
            parts.append(
                f'<details>\n<summary><span class="name" dir="auto">{text(examples[0].label)}</span> '
                f'<span class="count">{count} shown: {better} better, {worse} worse than {text(report.start)}</span>'
                f"</summary>\n{shown}\n</details>"
            )
    return "\n".join(parts)


def _answer(example: ChangedAnswer, start: str) -> str:
    """An item: what was asked, what is right, and both answers."""
    speech = spoken(example.language)
    golds = "".join(f"<dd{speech}>{_shown(gold)}</dd>" for gold in example.golds)
    return (
        f'<article class="item">\n<h4 dir="auto">{text(example.id)}</h4>\n'
        f'<pre{speech} tabindex="0" aria-label="prompt">{text(shortened(example.prompt, _PROMPT))}</pre>\n'
        f"<dl>\n<div><dt>right answer{'s' if len(example.golds) > 1 else ''}</dt>{golds}</div>\n"
        f"<div><dt>{text(start)} {_mark(example.start_score)}</dt><dd{speech}>{_shown(example.start)}</dd></div>\n"
        f'<div><dt dir="auto">{text(example.label)} {_mark(example.score)}</dt>'
        f"<dd{speech}>{_shown(example.prediction)}</dd></div>\n</dl>\n</article>"
    )


def _shown(answer: str) -> str:
    return text(shortened(answer, _ANSWER)) if answer.strip() else '<em lang="en">empty</em>'


def _mark(score: float) -> str:
    """Right or wrong, as a sign, a word and a colour."""
    if score >= 1:
        return '<span class="mark right">✓ right</span>'
    if score <= 0:
        return '<span class="mark wrong">✗ wrong</span>'
    return f'<span class="mark partly">◐ {100 * score:.0f} %</span>'


def _training(report: Report) -> str:
    logs = {clean(name): log for name, log in report.curves.items() if log}
    if not logs:
        return ""
    caption = "Loss (a running mean), learning rate, tokens per second and memory of every training, by step."
    return picture(figures.training_svg(logs, "training"), caption)


def _corpora(report: Report) -> str:
    """The corpora of the reference adapters: their size, then their sources; one row for each language."""
    if not report.corpora:
        return ""
    counts = {
        "documents": "documents",
        "tokens": "tokens",
        "windows": "windows",
        "documents read": "documents_read",
        "near-duplicates dropped": "near_duplicates_dropped",
        "boilerplate lines dropped": "boilerplate_lines_dropped",
    }
    numbers = [
        (language, *(f"{facts[key]:,}" for key in counts.values()), f"{facts['heldout']['windows']:,}")
        for language, facts in report.corpora.items()
    ]
    sources = [
        (language, _source(facts), facts.get("licence") or "not stated", _foreign(facts))
        for language, facts in report.corpora.items()
    ]
    return "\n".join(
        [
            table("What the reference adapters were trained on", ["language", *counts, "held-out windows"], numbers),
            table(
                "Where it comes from",
                ("language", "source", "licence", "documents in other languages"),
                sources,
                words=(1, 2, 3),
            ),
        ]
    )


def _foreign(facts: Mapping[str, Any]) -> str:
    """Documents that are clearly in another language, and whether they were dropped."""
    if facts["in_other_languages"] is None:
        return "unknown to the identifier"
    languages = ", ".join(f"{code} {count:,}" for code, count in facts["other_languages"].items())
    dropped = ", dropped" if facts["in_other_languages_dropped"] else ""
    return f"{facts['in_other_languages']:,}{f' ({languages})' if languages else ''}{dropped}"


def _source(facts: Mapping[str, Any]) -> str:
    """The source of text: a package, a data set or files, and the part of it that was used."""
    source = facts.get("source") or {}
    where = source.get("package") or source.get("dataset")
    where = where or ", ".join(Path(path).name for path in source.get("files", ()))
    part = ", ".join(f"{key} {source[key]}" for key in ("config", "split", "revision") if source.get(key))
    return f"{where} ({part})" if part else where


def _versions(report: Report) -> str:
    parts = [_pairs("Versions", ("package", "version"), report.versions.items())] if report.versions else []
    if report.hashes:
        parts.append(_pairs("Hashes", ("what", "fingerprint"), report.hashes.items()))
    return "\n".join(['<div class="pairs">', *parts, "</div>"]) if parts else ""


def _pairs(caption: str, columns: Sequence[str], rows: Iterable[tuple[str, str]]) -> str:
    return table(caption, columns, rows, words=(1,))
