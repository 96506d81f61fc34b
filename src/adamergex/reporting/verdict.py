"""One sentence on a row: did merging help, or self-training? Imports no torch."""

from collections.abc import Sequence

from adamergex.reporting.metrics import metric_name
from adamergex.scoring.comparison import RIGHT_OR_WRONG
from adamergex.scoring.label_metrics import COMPARED
from adamergex.scoring.results import SIGNIFICANT, Role, Row

# In the label of a merge that was chosen to be none, and of self-training that had nothing to learn from.
NOTHING_MERGED, NOT_REFINED = "(t = 0, chosen)", "(not refined)"
DID: dict[Role, str] = {"merged": "merging", "refined": "self-training"}
_NOTHING_DONE = {
    NOTHING_MERGED: "t = 0 was chosen; nothing is merged: the row is the source-language adapter's.",
    NOT_REFINED: "no self-training took place (why is said under the facts): the row is the merged adapter's.",
}


def verdict(of_language: Sequence[Row], role: Role = "merged") -> str | None:
    """One sentence: did merging help, or self-training? None where nothing was merged, or compared."""
    row = next((row for row in of_language if row.role == role), None)
    if row is None or row.difference is None or row.p_value is None:
        return None
    if (nothing := nothing_done(row)) is not None:
        return f"{row.language}: {nothing}"
    p_value, adjusted = (row.p_value, "") if row.p_holm is None else (row.p_holm, ", Holm-adjusted")
    shown = format_p(p_value)
    items, test = f"{row.items} items", _test(row)
    items += f", {row.seeds} seeds" if row.seeds > 1 else ""
    what = (
        f"{row.language}: {DID[role]} changed {metric_name(row.metric)} by {100 * row.difference:+.1f} points over the "
        f"source-language adapter alone ({items}, {test} p {'' if shown.startswith('<') else '= '}{shown}{adjusted})"
    )
    if p_value >= SIGNIFICANT:
        return f"{what}: no difference that this test can show."
    if row.difference > 0:
        return f"{what}: {DID[role]} helped."
    return f"{what}: {DID[role]} hurt; use the source-language adapter."


def nothing_done(row: Row) -> str | None:
    """Why the row of a merge, or of self-training, is another adapter's; None where it is one of its own."""
    return next((why for mark, why in _NOTHING_DONE.items() if row.label.endswith(mark)), None)


def _test(row: Row) -> str:
    """What the test of a row's difference is called."""
    if row.metric in COMPARED:
        return "permutation test of swapped answers" + (", those to an item with all seeds at once," * (row.seeds > 1))
    if row.seeds > 1:
        return "sign-flip permutation test of the items' differences, averaged over the seeds,"
    return "exact McNemar" if row.metric in RIGHT_OR_WRONG and not row.average else "sign-flip permutation test"


def format_p(p: float) -> str:
    """A p-value for a reader."""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"
