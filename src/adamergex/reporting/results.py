"""What `adamergex.run` and `adamergex.evaluate` return: the rows of a report, as data frames, and where the files are."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from adamergex.reporting.matrix import Matrix
from adamergex.reporting.metrics import beside, metric_name, of_percent
from adamergex.reporting.report import Report
from adamergex.scoring.results import Row

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False, eq=False)
class Results(Sequence[Row]):
    """A sequence of the report's rows, one for each system and language and then their averages, with its tables and files.

    Attributes:
        rows: themselves, as a list.
        folder: of the run or of the comparison.
        report: the page, `report.html`.
        delivered: language, or task/language for a run of several tasks → the folder of the adapter that it is for; empty for a
            comparison.
        start: what the system is called that others are compared with.
        by_seed: rows of each seed, where there are several.
    """

    rows: list[Row]
    folder: Path
    report: Path
    delivered: Mapping[str, Path] = field(default_factory=dict)
    start: str = "t = 0"
    by_seed: Sequence[Row] = ()

    @classmethod
    def of(
        cls, found: Report | Matrix, folder: Path, page: str, delivered: Mapping[str, Path] | None = None
    ) -> "Results":
        """Of a report.

        Args:
            found: the report.
            folder: that it is in.
            page: the name of its HTML file there.
            delivered: see the class.
        """
        return cls(list(found.rows), folder, folder / page, dict(delivered or {}), found.start, found.by_seed)

    @property
    def table(self) -> "pd.DataFrame":
        """The report's main table: a row for each language and system (index: `language`, `system`; with several tasks `task`
        before them).

        Columns: the score, named by its metric, with `low` and `high` (its 95 % interval), `vs START`, `p`, `p (Holm)`, `gap
        closed`, `unreadable` and the further metrics of the table, without empty ones. Scores are in percent, and so are
        differences and the gap; log-likelihoods in nats.
        """
        import pandas as pd

        frame = pd.DataFrame([_shown(row, self.start) for row in self.rows]).dropna(axis="columns", how="all")
        index = [name for name in ("task", "language", "system") if name in frame]
        return frame.set_index(index) if len(frame) else frame

    @property
    def scores(self) -> "pd.DataFrame":
        """The lines of `scores.jsonl`: all that is known of each row, those of each seed too; scores in 0..1."""
        import pandas as pd

        return pd.DataFrame([asdict(row) for row in (*self.rows, *self.by_seed)])

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __eq__(self, other: object) -> bool:
        """Whether the rows are equal, to those of others or of a list."""
        return list(other) == self.rows if isinstance(other, Results | list) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        delivered = f", delivered for {', '.join(self.delivered)}" if self.delivered else ""
        return f"<Results: {len(self.rows)} rows{delivered}; {self.report}>"

    def _repr_html_(self) -> str:
        """The table, for notebooks."""
        from adamergex.reporting.html_parts import text

        table = (
            self.table.to_html(escape=True, na_rep="", float_format="{:.1f}".format, formatters=_P) if self.rows else ""
        )
        return f"{table}<p>{text(str(self.report))}</p>"


_P = {"p": "{:.3f}".format, "p (Holm)": "{:.3f}".format}


def _shown(row: Row, start: str) -> dict[str, Any]:
    """A row's cells by the headings of the table, numbers as they are shown there, but not rounded."""
    return {
        "task": row.task or None,
        "language": row.language,
        "system": row.label,
        metric_name(row.metric): of_percent(row.metric, row.score),
        "low": of_percent(row.metric, row.low),
        "high": of_percent(row.metric, row.high),
        f"vs {start}": None if row.difference is None else of_percent(row.metric, row.difference),
        "p": row.p_value,
        "p (Holm)": row.p_holm,
        "gap closed": None if row.gap_closed is None else 100 * row.gap_closed,
        "unreadable": row.unreadable or None,
        **{metric_name(name): of_percent(name, row.others[name]) for name in beside(row)},
    }
