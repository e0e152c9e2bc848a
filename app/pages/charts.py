"""Charts as inline SVG. Positions are in percent, text in pixels: a chart fits a phone without shrinking its words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

_ROW = 34  # pixels: one line of words, one bar
_PLOT_TOP, _PLOT_HEIGHT, _PLOT_BOTTOM = 14, 150, 26
_PLOT_LEFT, _PLOT_WIDTH = 13.0, 84.0  # percent
_MARKS = ("circle", "square", "diamond", "triangle")


@dataclass(frozen=True)
class Bar:
    """One bar: `share` of the full track (1.0 = as before), and the words at its right end."""

    label: str
    share: float
    text: str


@dataclass(frozen=True)
class Series:
    """One line of a line chart, a value per step; None leaves a gap."""

    name: str
    values: tuple[float | None, ...]


def bars(title: str, rows: Sequence[Bar]) -> Markup:
    """Horizontal bars over a track that marks 100 %; a share above 1 lengthens the scale for all."""
    full = max([1.0, *(row.share for row in rows)])
    height = _ROW * len(rows)
    parts = [_open("bars", title, height)]
    for number, row in enumerate(rows):
        parts.append(_bar(row, number * _ROW, full))
    return Markup("").join([*parts, Markup("</svg>")])


def _bar(row: Bar, top: float, full: float) -> Markup:
    track = 100 / full
    filled = 100 * max(row.share, 0.0) / full
    return Markup(
        '<text class="label" x="0" y="{y}">{label}</text>'
        '<text class="value" x="100%" y="{y}" text-anchor="end">{text}</text>'
        '<rect class="track" x="0" y="{bar}" width="{track:.2f}%" height="9" rx="2"/>'
        '<rect class="fill" x="0" y="{bar}" width="{filled:.2f}%" height="9" rx="2"/>'
    ).format(y=top + 13, bar=top + 18, label=_short(row.label), text=row.text, track=track, filled=filled)


def lines(title: str, series: Sequence[Series], steps: Sequence[str], step_name: str) -> Markup:
    """Lines over common steps; each series has a mark of its own shape, named in the legend above the plot."""
    values = [value for one in series for value in one.values if value is not None]
    low, high = _range(values)
    legend = 20 * len(series)
    parts = [_open("lines", title, legend + _PLOT_TOP + _PLOT_HEIGHT + _PLOT_BOTTOM)]
    for number, one in enumerate(series):
        parts.append(_legend(one.name, number))
    parts.append(_axes(low, high, steps, step_name, legend))
    for number, one in enumerate(series):
        parts.append(_line(one, number, low, high, legend))
    return Markup("").join([*parts, Markup("</svg>")])


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:
        return low - 0.5, high + 0.5
    return low, high


def _legend(name: str, number: int) -> Markup:
    y = 20 * number + 12
    words = Markup('<text class="label" x="20" y="{y}">{name}</text>').format(y=y, name=_short(name))
    return _mark(number, "8", y - 4) + words


def _axes(low: float, high: float, steps: Sequence[str], step_name: str, legend: int) -> Markup:
    top, bottom = legend + _PLOT_TOP, legend + _PLOT_TOP + _PLOT_HEIGHT
    right = _PLOT_LEFT + _PLOT_WIDTH
    parts = []
    for share in (0.0, 0.5, 1.0):
        y = bottom - share * _PLOT_HEIGHT
        parts.append(
            Markup(
                '<line class="grid" x1="{left:.2f}%" x2="{right:.2f}%" y1="{y:.1f}" y2="{y:.1f}"/>'
                '<text class="tick" x="{text:.2f}%" y="{base:.1f}" text-anchor="end">{value:.3g}</text>'
            ).format(
                left=_PLOT_LEFT, right=right, y=y, text=_PLOT_LEFT - 1.5, base=y + 4, value=low + share * (high - low)
            )
        )
    ends = ((_PLOT_LEFT, "start", f"{step_name} {steps[0]}"), (right, "end", steps[-1]))
    for x, anchor, words in ends:
        parts.append(
            Markup('<text class="tick" x="{x:.2f}%" y="{y}" text-anchor="{anchor}">{words}</text>').format(
                x=x, y=bottom + 18, anchor=anchor, words=words
            )
        )
    frame = Markup('<line class="axis" x1="{x:.2f}%" x2="{x:.2f}%" y1="{top}" y2="{bottom}"/>').format(
        x=_PLOT_LEFT, top=top, bottom=bottom
    )
    return Markup("").join([*parts, frame])


def _line(series: Series, number: int, low: float, high: float, legend: int) -> Markup:
    bottom = legend + _PLOT_TOP + _PLOT_HEIGHT
    last = max(len(series.values) - 1, 1)
    points = [
        None
        if value is None
        else (_PLOT_LEFT + _PLOT_WIDTH * step / last, bottom - _PLOT_HEIGHT * (value - low) / (high - low))
        for step, value in enumerate(series.values)
    ]
    stretches = [
        Markup('<line class="s{n}" x1="{x1:.2f}%" y1="{y1:.1f}" x2="{x2:.2f}%" y2="{y2:.1f}"/>').format(
            n=number % len(_MARKS), x1=a[0], y1=a[1], x2=b[0], y2=b[1]
        )
        for a, b in pairwise(points)
        if a and b
    ]
    marks = [_mark(number, f"{point[0]:.2f}%", point[1]) for point in points if point]
    return Markup("").join([*stretches, *marks])


def _mark(number: int, x: str, y: float) -> Markup:
    """A small shape of the series: told apart without colour. A nested `svg` lets a path sit at a percentage."""
    shape = {
        "circle": Markup('<circle r="4"/>'),
        "square": Markup('<rect x="-4" y="-4" width="8" height="8"/>'),
        "diamond": Markup('<path d="M0-5L5 0L0 5L-5 0Z"/>'),
        "triangle": Markup('<path d="M0-5L5 4L-5 4Z"/>'),
    }[_MARKS[number % len(_MARKS)]]
    return Markup('<svg class="mark s{n}" overflow="visible" x="{x}" y="{y:.1f}">{shape}</svg>').format(
        n=number % len(_MARKS), x=x, y=y, shape=shape
    )


def _open(kind: str, title: str, height: float) -> Markup:
    return Markup('<svg class="chart {kind}" role="img" width="100%" height="{height}"><title>{title}</title>').format(
        kind=kind, height=height, title=title
    )


def _short(text: str, most: int = 40) -> str:
    return text if len(text) <= most else f"{text[: most // 2 - 1]}…{text[-most // 2 :]}"
