import pytest

from adamergex import metrics, report


def test_mcnemar_by_hand() -> None:
    # 1 gained, 5 lost: 2 · (C(6,0) + C(6,1)) / 2⁶ = 14/64
    correct = [True] + [False] * 5 + [True] * 3
    baseline = [False] + [True] * 5 + [True] * 3
    assert metrics.mcnemar_exact(correct, baseline) == pytest.approx(14 / 64)
    assert metrics.mcnemar_exact(baseline, correct) == pytest.approx(14 / 64)
    assert metrics.mcnemar_exact(correct, correct) == 1.0
    with pytest.raises(ValueError, match="zip"):
        metrics.mcnemar_exact([True], [True, False])


def test_wilson_by_hand() -> None:
    # (p + z²/2n ± z·√(p(1−p)/n + z²/4n²)) / (1 + z²/n) with p = 0.8, n = 10, z = 1.959964
    low, high = metrics.wilson_interval([True] * 8 + [False] * 2)
    assert (low, high) == pytest.approx((0.490162, 0.943318), abs=1e-5)


def test_gap_closed() -> None:
    assert metrics.gap_closed(0.6, 0.5, 0.9) == pytest.approx(0.25)
    assert metrics.gap_closed(0.6, 0.5, 0.5) is None
    assert metrics.accuracy([True, False, False, True]) == 0.5


def rows(merged: list[bool]) -> list[report.Row]:
    start = [True] * 50 + [False] * 50
    correct = {
        "base": [False] * 100,
        "source-adapter": start,
        "adamergex": merged,
        "ceiling": [True] * 90 + [False] * 10,
    }
    return report.rows(
        "es", {"base": "base", "source-adapter": "t = 0", "adamergex": "merged", "ceiling": "ceiling"}, correct
    )


@pytest.mark.parametrize(
    ("merged", "says"),
    [
        ([True] * 60 + [False] * 40, "+10.0 points .* p = 0.002.*: merging helped"),
        ([True] * 40 + [False] * 60, "-10.0 points .* p = 0.002.*: merging hurt; use the source-language adapter"),
        ([True] * 53 + [False] * 47, "[+]3.0 points .* p = 0.250.*: no difference that this test can show"),
    ],
)
def test_the_verdict_follows_the_test(merged: list[bool], says: str) -> None:
    import re

    assert re.search(says.replace("+10", "[+]10"), report.verdict(rows(merged)))


def test_rows_are_measured_against_t_zero() -> None:
    base, start, merged, ceiling = rows([True] * 60 + [False] * 40)
    assert start.difference is start.p_value is None
    assert base.difference == -0.5
    assert merged.difference == pytest.approx(0.1)
    assert merged.gap_closed == pytest.approx(0.25)
    assert ceiling.gap_closed is None
    text = report.markdown("run", [("en → es", [base, start, merged, ceiling])], ["fact"], "training.png")
    assert "| merged | 60.0 | 50.2 – 69.1 | +10.0 | 0.002 | 25 % |" in text
