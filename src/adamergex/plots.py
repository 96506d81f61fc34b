"""Training curves as a picture."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers tell apart.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_INK, _FAINT = "#222222", "#BBBBBB"


def training_curves(logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> bytes:
    """Loss, learning rate, tokens per second and memory of every training, by step; a PNG.

    Args:
        logs: adapter → the rows of its training log.
    """
    with mpl.rc_context({"font.size": 9, "svg.fonttype": "none", "axes.edgecolor": _FAINT, "text.color": _INK}):
        figure = Figure(figsize=(9, 6), layout="constrained", dpi=150)
        panels = {
            "loss (nats)": lambda row: row["loss"],
            "learning rate": lambda row: row["learning_rate"],
            "tokens per second": lambda row: row["tokens"] / row["seconds"],
            "memory (MiB)": lambda row: row["memory"],
        }
        for axes, (title, value) in zip(figure.subplots(2, 2).flat, panels.items(), strict=True):
            for number, (name, log) in enumerate(logs.items()):
                style = "-" if number < len(_COLOURS) else "--"
                values = _smoothed([value(row) for row in log]) if "loss" in title else [value(row) for row in log]
                # One step is a point, not a line.
                marker = "o" if len(values) == 1 else None
                colour = _COLOURS[number % len(_COLOURS)]
                steps = range(1, len(values) + 1)
                axes.plot(steps, values, style, color=colour, lw=1.4, marker=marker, label=name)
            axes.set_title(title, loc="left", color=_INK)
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(colors=_INK)
            axes.margins(x=0.02)
            if title in ("tokens per second", "memory (MiB)"):
                axes.set_ylim(bottom=0)
                axes.set_xlabel("step")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4), frameon=False)
        picture = BytesIO()
        figure.savefig(picture, format="png", facecolor="white", metadata={"Software": None})
    return picture.getvalue()


def _smoothed(losses: Sequence[float]) -> list[float]:
    """A running mean over a fiftieth of the training, so that the course shows through the noise of single batches."""
    width = max(1, len(losses) // 50)
    return [sum(losses[max(0, i - width + 1) : i + 1]) / min(i + 1, width) for i in range(len(losses))]
