"""Figures: training curves, and SVG that takes its colours from the page that embeds it."""

import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from io import BytesIO
from typing import Any
from xml.etree import ElementTree

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# The colours that matplotlib draws with, and the variables of templates/report.css that replace them in a page. The curves are
# Okabe and Ito's colours, which colour-blind readers tell apart, the pale ones darkened until they show on white.
INK, MUTED, RULE, PAPER, ACCENT = "#1d2023", "#5b6169", "#d9dce0", "#fffffe", "#0a5fa8"
CURVES = ("#0072b2", "#c65200", "#00805e", "#a8488a", "#8a6a00", "#3c9bd6", "#4a4f55")
_VARIABLES = {INK: "ink", MUTED: "muted", RULE: "rule", PAPER: "paper", ACCENT: "accent"} | {
    colour: f"curve-{number}" for number, colour in enumerate(CURVES, 1)
}
_STYLES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 3)))
# A unit of a figure is a pixel of a page: 72 to an inch, which is what matplotlib's SVG counts in.
_UNIT = 72
# More points than these cannot be seen.
_POINTS = 400
_SETTINGS = {
    "font.size": 12,
    "axes.titlesize": 12,
    "axes.edgecolor": RULE,
    "text.color": INK,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    # Names may have two dollar signs in them, which are no formula.
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "adamergex",
}


def look() -> AbstractContextManager[Any]:
    """The style context to draw and save figures in, independent of the user's matplotlibrc."""
    return style.context(["default", _SETTINGS])


def figure(width: float, height: float) -> Figure:
    """An empty figure, in pixels of a page."""
    return Figure(figsize=(width / _UNIT, height / _UNIT), layout="constrained", dpi=_UNIT)


def tidy(axes: Axes, title: str) -> None:
    """Style a panel: its title on the left, no spines at the top and right."""
    axes.set_title(title, loc="left", color=INK, fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)


def svg(drawn: Figure, name: str, words: str) -> str:
    """A figure as an `<svg>` to embed in a page, with text as text, and the page's colours.

    Args:
        drawn: with the colours of this module.
        name: prefix of identifiers, distinct for each figure of a page.
        words: a description of the figure, for screen readers.
    """
    written = BytesIO()
    with warnings.catch_warnings():
        # matplotlib measures with a font that lacks most scripts; the reader's browser draws the text.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        drawn.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    # Parsing removes comments and the document type.
    root = ElementTree.fromstring(written.getvalue())
    width = float(root.attrib["viewBox"].split()[2])
    for parent in list(root.iter()):
        for child in [child for child in parent if child.tag.endswith("}metadata")]:
            parent.remove(child)
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', written.getvalue().decode()))
    for element in root.iter():
        # Embedded SVG needs no namespaces.
        element.tag = element.tag.rpartition("}")[2]
        attributes = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        element.attrib.clear()
        for key, value in attributes.items():
            if key != "id" or value in used:
                element.set(key, _in_page(key, value, name))
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.attrib |= {"role": "img", "aria-label": words, "style": f"--width: {width:g}px"}
    return ElementTree.tostring(root, encoding="unicode")


def _in_page(key: str, value: str, name: str) -> str:
    """An attribute as it is written in a page."""
    if key == "d":
        return " ".join(re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]):.2f}", value).split())
    if key == "style":
        value = re.sub(r"#[0-9a-f]{6}", lambda colour: _variable(colour[0]), value)
    if key == "id":
        return f"{name}-{value}"
    return re.sub(r"^#|(?<=url\()#", f"#{name}-", value) if key in ("href", "clip-path") else value


def _variable(colour: str) -> str:
    return f"var(--{_VARIABLES[colour]})" if colour in _VARIABLES else colour


def training_curves(logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> bytes:
    """Loss, learning rate, tokens per second and memory of every training, by step; a PNG.

    Args:
        logs: adapter → the rows of its training log.
    """
    picture = BytesIO()
    with look():
        _training(logs).savefig(picture, format="png", dpi=108, facecolor="white", metadata={"Software": None})
    return picture.getvalue()


def training_svg(logs: Mapping[str, Sequence[Mapping[str, Any]]], name: str) -> str:
    """`training_curves` as an `<svg>` to embed in a page.

    Args:
        logs: adapter → the rows of its training log.
        name: prefix of identifiers, distinct for each figure of a page.
    """
    ends = [
        f"{adapter}: {len(log)} steps, loss {log[0]['loss']:.3f} to {log[-1]['loss']:.3f}"
        for adapter, log in logs.items()
    ]
    words = "Four line charts by step: loss, learning rate, tokens per second and memory. " + "; ".join(ends) + "."
    with look():
        return svg(_training(logs), name, words)


def _training(logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    columns = min(len(logs), 4)
    drawn = figure(960, 560 + 20 * -(-len(logs) // columns))
    panels = {
        "loss (nats)": lambda row: row["loss"],
        "learning rate": lambda row: row["learning_rate"],
        "tokens per second": lambda row: row["tokens"] / row["seconds"],
        "memory (MiB)": lambda row: row["memory"],
    }
    for axes, (title, value) in zip(drawn.subplots(2, 2).flat, panels.items(), strict=True):
        for number, (name, log) in enumerate(logs.items()):
            values = _smoothed([value(row) for row in log]) if "loss" in title else [value(row) for row in log]
            line = _STYLES[number // len(CURVES) % len(_STYLES)]
            # One step is a point, not a line.
            marker = "o" if len(values) == 1 else None
            steps, means = _thinned(values)
            axes.plot(
                steps, means, linestyle=line, color=CURVES[number % len(CURVES)], lw=1.6, marker=marker, label=name
            )
        tidy(axes, title)
        axes.margins(x=0.02)
        if title in ("tokens per second", "memory (MiB)"):
            axes.set_ylim(bottom=0)
            axes.set_xlabel("step", color=MUTED)
    handles, labels = drawn.axes[0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
    return drawn


def _smoothed(losses: Sequence[float]) -> list[float]:
    """A running mean over a fiftieth of the training, so that the trend is visible through the noise of single batches."""
    width = max(1, len(losses) // 50)
    return [sum(losses[max(0, i - width + 1) : i + 1]) / min(i + 1, width) for i in range(len(losses))]


def _thinned(values: Sequence[float]) -> tuple[list[int], list[float]]:
    """Steps and values, averaged over a few steps each where there are more than `_POINTS`."""
    width = -(-len(values) // _POINTS)
    pieces = [values[start : start + width] for start in range(0, len(values), width or 1)]
    ends = [min((number + 1) * width, len(values)) for number in range(len(pieces))]
    return ends, [sum(piece) / len(piece) for piece in pieces]
