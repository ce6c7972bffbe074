"""Curves and histograms as inline SVG that follows the page's light or dark colours.

Matplotlib draws on a separate `Figure` (without pyplot or choosing a backend), with the same bytes
for the same numbers. Marker colours in its output are replaced by CSS, so one drawing suits both.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped
from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, LINE = "#010203", "#040506"  # replaced by the page's colours
COLOURS = ("#3b82f6", "#e8710a", "#12a37a", "#d6409f", "#8b5cf6", "#b58900", "#64748b", "#dc2626")
DASHES = ("solid", "dashed", "dotted")  # the same words in matplotlib and in CSS
MOST_POINTS = 1200  # per line; more would not be visible

Numbers = Sequence[float | None] | Shaped[np.ndarray, " n"]
Line = tuple[Numbers, Numbers]  # x and y, of equal length
ForestRow = tuple[str, float, float | None, float | None]  # label, estimate, its interval
SIZE, WIDE, SMALL = (4.0, 2.5), (8.4, 2.7), (3.6, 2.1)  # inches
ROW = 0.19  # inches of a row of a forest plot, so that labels of TICK points stay apart
LABEL, TICK = 9, 8  # points: read on a telephone, too, where SIZE is as wide as the page


@dataclass(frozen=True)
class Panel:
    """A small drawing with its name and what is to be said of it: a curve of `y` over `x`, or with
    `counted` the counts `y` between the edges `x`."""

    name: str
    note: str
    x: Sequence[float | None] | Shaped[np.ndarray, " edges"]
    y: Numbers
    x_label: str
    y_label: str
    counted: bool = False


def colour(number: int) -> str:
    """The colour of series `number`, readable on white and on black."""
    return COLOURS[number % len(COLOURS)]


def dash(number: int) -> str:
    """The dash pattern of series `number`, which changes after each cycle of colours."""
    return DASHES[number // len(COLOURS) % len(DASHES)]


def draw_curves(
    title: str, series: Mapping[str, Line], x_label: str, y_label: str, log: bool, wide: bool
) -> Markup:
    """Lines over a common axis. There are gaps at values that are not finite, or not above 0 on a
    `log` axis."""

    def paint(axes: Axes) -> None:
        for number, (x, y) in enumerate(series.values()):
            x, y = thinned(np.asarray(x, float), np.asarray(y, float))
            if log:
                y = np.where(y > 0, y, np.nan)
            marker, width = "o" if len(x) <= 12 else "", 1.8 if len(x) <= 300 else 1.0
            style = dash(number)
            axes.plot(x, y, color=colour(number), ls=style, marker=marker, lw=width, ms=4)
        if log and any(np.any(np.asarray(line.get_ydata()) > 0) for line in axes.lines):
            axes.set_yscale("log")

    return _drawing(title, paint, x_label, y_label, WIDE if wide else SIZE)


def draw_histogram(
    title: str,
    counts: Shaped[np.ndarray, " n"],
    edges: Float[np.ndarray, " n+1"],
    x_label: str,
    y_label: str,
    wide: bool,
) -> Markup:
    """A histogram of counts between edges."""

    def paint(axes: Axes) -> None:
        axes.stairs(counts, edges, fill=True, color=colour(0), alpha=0.85)
        axes.set_ylim(bottom=0)

    return _drawing(title, paint, x_label, y_label, WIDE if wide else SIZE)


def draw_panel(title: str, panel: Panel) -> Markup:
    """A small drawing, one of several below a title."""
    x, y = np.asarray(panel.x, float), np.asarray(panel.y, float)

    def paint(axes: Axes) -> None:
        if panel.counted:
            axes.stairs(y, x, fill=True, color=colour(0), alpha=0.85)
            axes.set_ylim(bottom=0)
        else:
            axes.plot(*thinned(x, y), color=colour(0), lw=1.4)
        axes.locator_params(nbins=4)

    words = f"{title}: {panel.name}" + (f", {panel.note}" if panel.note else "")
    return _drawing(words, paint, panel.x_label, panel.y_label, SMALL)


def draw_forest(title: str, rows: Sequence[ForestRow], x_label: str, wide: bool) -> Markup:
    """Estimates with their intervals, one below another, and a line at 0. A row without interval
    is a cross."""

    def paint(axes: Axes) -> None:
        axes.axvline(0, color=INK, lw=0.8)
        for row_number, (_, estimate, low, high) in enumerate(rows):
            marker = "x"
            if low is not None and high is not None:
                axes.plot([low, high], [row_number, row_number], color=colour(0), lw=1.8)
                marker = "o"
            axes.plot([estimate], [row_number], color=colour(0), marker=marker, ms=6)
        labels = [label for label, *_ in rows]
        axes.set_yticks(range(len(rows)), labels, parse_math=False)
        axes.set_ylim(len(rows) - 0.5, -0.5)

    width, height = WIDE if wide else SIZE
    return _drawing(title, paint, x_label, "", (width, max(height, ROW * len(rows) + 0.8)))


def thinned(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """At most `MOST_POINTS` points, preserving spikes: the extremes of each run of points."""
    if len(y) <= MOST_POINTS:
        return x, y
    runs = np.array_split(np.arange(len(y)), MOST_POINTS // 2)
    low, high = np.nan_to_num(y, nan=np.inf), np.nan_to_num(y, nan=-np.inf)
    extremes = ((np.argmin, low), (np.argmax, high))
    indices = sorted({int(run[arg(values[run])]) for run in runs for arg, values in extremes})
    return x[indices], y[indices]


def _drawing(
    title: str,
    paint: Callable[[Axes], None],
    x_label: str,
    y_label: str,
    size: tuple[float, float],
) -> Markup:
    # The salt makes ids stable, and distinct between the drawings of one page.
    salt = f"{title}/{x_label}/{y_label}"
    with rc_context({"svg.hashsalt": salt, "svg.fonttype": "none"}):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        _style(axes)
        paint(axes)
        axes.set_xlabel(x_label, color=INK, size=LABEL, parse_math=False)
        axes.set_ylabel(y_label, color=INK, size=LABEL, parse_math=False)
        text = io.StringIO()
        no_metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(text, format="svg", transparent=True, metadata=no_metadata)
    return _inline(text.getvalue(), title)


def _style(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LINE)
    axes.tick_params(which="both", color=LINE, labelcolor=INK, labelsize=TICK)
    axes.grid(color=LINE, lw=0.6)
    axes.set_axisbelow(True)


def _inline(svg: str, title: str) -> Markup:
    body = svg[svg.index("<svg") :]
    body = body[body.index(">") + 1 :].replace(INK, "currentColor").replace(LINE, "var(--line)")
    body = re.sub(r'<g id="\w+">', "<g>", body)  # unused, and pages have many
    box = svg[svg.index('viewBox="') :].split('"')[1]
    head = f'<svg viewBox="{box}" role="img" aria-label="{escape(title)}"'
    space = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return Markup(f"{head} {space}>{body.strip()}")
