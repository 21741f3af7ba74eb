"""Charts as SVG that goes into a page and takes its colours from the page.

matplotlib knows fixed colours only. So the charts are drawn in colours that nothing
else has, which then become CSS variables: ``--s0`` ... are the series' colours.
"""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK, GRID = '#010a01', '#010a02'
SERIES = 10
# Series that are no model take colours from here on.
OTHER = 6
STYLE: dict[Any, Any] = {
    'axes.edgecolor': GRID,
    'axes.grid': True,
    'axes.labelcolor': INK,
    'axes.axisbelow': True,
    'axes.labelsize': 9,
    'axes.spines.right': False,
    'axes.spines.top': False,
    'font.size': 9,
    'grid.color': GRID,
    'grid.linewidth': 0.7,
    'lines.linewidth': 1.8,
    'lines.solid_capstyle': 'round',
    'svg.fonttype': 'none',
    'text.color': INK,
    'xtick.color': GRID,
    'xtick.labelcolor': INK,
    'ytick.color': GRID,
    'ytick.labelcolor': INK,
}
Curve = Mapping[int, float]


def colour(series: int) -> str:
    """Return what matplotlib draws a series in."""
    return f'#0100{series % SERIES:02x}'


@mpl.rc_context(STYLE)
def curves(
    title: str,
    lines: Iterable[tuple[str, Curve, int]],
    bottom: float | None = None,
) -> Markup:
    """Draw values over iterations.

    Args:
        title: Above the chart.
        lines: Style (``'-'``), values by iteration and series of each.
        bottom: Where the vertical axis starts; None to let it fit.
    """
    figure, axis = _panel()
    for style, points, series in lines:
        x, y = zip(*sorted(points.items()), strict=True)
        few = 'o' if len(x) < 12 else ''
        axis.plot(x, y, few + style, color=colour(series), markersize=3.5)
    axis.set_xlabel('iteration')
    axis.set_ylim(bottom=bottom)
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    return _svg(figure, title)


@mpl.rc_context(STYLE)
def bars(
    title: str, edges: np.ndarray, heights: np.ndarray, mark: float | None
) -> Markup:
    """Draw a histogram of scores.

    Args:
        title: For those who cannot see it.
        edges: Of the bins, one more than there are bars.
        heights: Of the bars.
        mark: Score to mark with a line; None for none.
    """
    figure, axis = _panel()
    widths = np.diff(edges)
    axis.bar(edges[:-1], heights, widths * 0.88, align='edge', color=colour(OTHER))
    axis.set(xlabel='score', ylabel='instances', xlim=(0, 1))
    axis.grid(visible=False, axis='x')
    _mark(axis, mark)
    return _svg(figure, title)


@mpl.rc_context(STYLE)
def over_threshold(
    title: str, x: np.ndarray, lines: Sequence[np.ndarray], mark: float | None
) -> Markup:
    """Draw shares between 0 and 1 over the threshold of the score."""
    figure, axis = _panel()
    for series, y in enumerate(lines, OTHER):
        axis.plot(x, y, color=colour(series))
    axis.set(xlabel='threshold of the score', xlim=(0, 1), ylim=(0, 1.02))
    _mark(axis, mark)
    return _svg(figure, title)


@mpl.rc_context(STYLE)
def dots(
    title: str,
    rows: Sequence[str],
    values: Sequence[Sequence[float | None]],
    series: Sequence[int],
    label: str,
) -> Markup:
    """Draw a value of each series in each row, as a dot.

    Args:
        title: For those who cannot see it.
        rows: Names, from the top.
        values: Of each row, one list for each series; None is no dot.
        series: Colour of each.
        label: Of the horizontal axis.
    """
    figure, axis = _panel(0.6 + 0.27 * max(len(rows), 3))
    for y in range(len(rows)):
        known = [value for each in values if (value := each[y]) is not None]
        if known:
            axis.plot([min(known), max(known)], [y, y], color=GRID, linewidth=3)
    for which, each in zip(series, values, strict=True):
        shown = [(x, y) for y, x in enumerate(each) if x is not None]
        if shown:
            x, places = zip(*shown, strict=True)
            axis.scatter(x, places, 34, color=colour(which), zorder=3)
    axis.set_yticks(range(len(rows)), rows, parse_math=False)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set_xlim(left=0)
    axis.set_xlabel(label)
    axis.grid(visible=False, axis='y')
    axis.tick_params(axis='y', length=0)
    return _svg(figure, title)


@mpl.rc_context(STYLE)
def paired_bars(
    title: str,
    rows: Sequence[str],
    values: Sequence[np.ndarray],
    label: str,
) -> Markup:
    """Draw horizontal bars, one of each series in each row."""
    figure, axis = _panel(0.6 + (0.1 + 0.08 * len(values)) * max(len(rows), 3))
    thick = 0.8 / len(values)
    for series, each in enumerate(values):
        places = np.arange(len(rows)) - 0.4 + thick * (series + 0.5)
        axis.barh(places, each, thick * 0.9, color=colour(OTHER + series))
    axis.set_yticks(range(len(rows)), rows, parse_math=False)
    axis.invert_yaxis()
    axis.set_xlabel(label)
    axis.grid(visible=False, axis='y')
    axis.tick_params(axis='y', length=0)
    return _svg(figure, title)


def _panel(height: float = 2.3) -> tuple[Figure, Axes]:
    """Make a chart as wide as a phone."""
    figure = Figure(figsize=(4.4, height), layout='constrained')
    return figure, figure.subplots()


def _mark(axis: Axes, score: float | None) -> None:
    if score is not None:
        axis.axvline(score, color=INK, linewidth=1, linestyle=(0, (4, 3)))


def _svg(figure: Figure, title: str) -> Markup:
    """Return the figure as SVG for a page."""
    file = io.StringIO()
    figure.patch.set_visible(False)
    for axis in figure.axes:
        axis.patch.set_visible(False)
    with mpl.rc_context({'svg.hashsalt': title}):
        figure.savefig(file, format='svg')
    text = file.getvalue()
    text = text[text.index('<svg') :]
    text = re.sub(r'<metadata>.*?</metadata>|<style.*?</style>', '', text, flags=re.S)
    text = re.sub(r'<!--.*?-->', '', text, flags=re.S)
    # Charts share a page: keep only the names that are referred to, and those unique.
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda m: m[0] if m[1] in used else '', text)
    text = re.sub(r'(?<=#)010([0-9a]{3})\b', _variable, text)
    text = re.sub(r'#(var\([^)]+\)|currentColor)', r'\1', text)
    text = re.sub(r' (?:width|height)="[\d.]+pt"', '', text)
    text = re.sub(r'font: [^;\"]*?([\d.]+px)[^;\"]*', r'font-size: \1', text)
    # Coordinates need no more digits; text between tags stays.
    text = re.sub(r'<[^>]+>', lambda m: re.sub(r'(\.\d{2})\d+', r'\1', m[0]), text)
    label = Markup.escape(title)
    return Markup(text.replace('<svg', f'<svg role="img" aria-label="{label}"', 1))


def _variable(found: re.Match) -> str:
    code = found[1]
    if code.startswith('a'):
        return {'a01': 'currentColor', 'a02': 'var(--grid)'}.get(code, found[0])
    return f'var(--s{int(code, 16)})'
