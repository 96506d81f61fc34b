"""The README's picture, from a finished run: each system raw and calibrated, on light and on dark paper.

python benchmarks/quickstart_picture.py runs/quickstart
"""

import argparse
import json
from pathlib import Path
from typing import Any

from adamergex.reporting.figures import CURVES, INK, MUTED, RULE, figure, look, tidy

IMAGES = Path(__file__).parent.parent / "docs" / "images"
# What ink is on dark paper; curves are lighter there.
_DARK = {INK: "#e6e8ea", MUTED: "#a9b0b8", RULE: "#3a4046", CURVES[0]: "#58a6e0"}


def draw(rows: list[dict[str, Any]], colours: dict[str, str], path: Path) -> None:
    """Raw and calibrated accuracy of each row, one below the other, the difference in points beside them.

    Args:
        rows: of one language, as in `scores.jsonl`.
        colours: what stands for each of the light ones.
        path: of the SVG file.
    """

    def colour(light: str) -> str:
        return colours.get(light, light)

    with look():
        drawn = figure(860, 64 + 30 * len(rows))
        axes = drawn.subplots()
        tidy(axes, "")
        axes.grid(axis="x", color=colour(RULE), lw=0.8)
        axes.set_axisbelow(True)
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.tick_params(length=0, labelcolor=colour(MUTED))
        axes.set_yticks(range(len(rows)), [row["label"] for row in rows], color=colour(INK))
        axes.set_ylim(len(rows) - 0.4, -0.6)
        raw = [100 * row["score"] for row in rows]
        calibrated = [100 * row["others"]["calibrated_accuracy"] for row in rows]
        places = range(len(rows))
        axes.hlines(places, raw, calibrated, color=colour(RULE), lw=3)
        axes.plot(raw, places, "o", color=colour(MUTED), ms=8, label="raw")
        axes.plot(calibrated, places, "o", color=colour(CURVES[0]), ms=8, label="calibrated without labels")
        for place, value in zip(places, calibrated, strict=True):
            axes.annotate(
                f"{value:.1f}", (max(value, raw[place]), place), xytext=(9, 0), textcoords="offset points",
                va="center", color=colour(INK),
            )  # fmt: skip
        axes.set_xlabel("accuracy on test items (%)", color=colour(MUTED))
        drawn.legend(loc="outside upper right", ncols=2, frameon=False, labelcolor=colour(INK))
        drawn.savefig(path, format="svg", transparent=True, metadata={"Date": None, "Creator": None})


def main() -> None:
    """Write both pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument("--language", help="the first one if left out")
    options = parser.parse_args()
    rows = [json.loads(line) for line in (options.run / "scores.jsonl").read_text("utf-8").splitlines()]
    language = options.language or rows[0]["language"]
    shown = [row for row in rows if row["language"] == language and not row["average"] and row["seed"] is None]
    for name, colours in (("light", {}), ("dark", _DARK)):
        draw(shown, colours, IMAGES / f"quickstart-{name}.svg")


if __name__ == "__main__":
    main()
