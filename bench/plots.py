"""Small plots as SVG, written by hand so that drawing needs no dependency and the same figures give the same bytes.

Main entry: `draw(plot)`, the text of an SVG file. Law: a plot names its axes with units, and each line in its legend.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

__all__ = ["COLOURS", "Line", "Plot", "draw"]

COLOURS = ("#0b6bcb", "#c2410c", "#15803d", "#7c3aed", "#6b7280", "#b45309")
"""Told apart also without red or green: they differ in lightness, and lines in dashes."""

_WIDTH, _HEIGHT = 640, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 28, 40, 54
_FONT = "font-family='system-ui, sans-serif'"


@dataclass(frozen=True, slots=True)
class Line:
    """`points`: (x, y). `dash`: an SVG dash pattern, "" for none. `dots`: marks each point, with no line between."""

    label: str
    points: Sequence[tuple[float, float]]
    colour: str
    dash: str = ""
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Plot:
    """`x_range`, `y_range`: from, to and step of the ticks, in `x_unit` and `y_unit`, which stand behind each number.
    `legend_low`: the legend at the lower right instead of the upper left."""

    title: str
    x_label: str
    y_label: str
    x_range: tuple[float, float, float]
    y_range: tuple[float, float, float]
    lines: Sequence[Line]
    legend_low: bool = True
    x_unit: str = " %"
    y_unit: str = " %"


def draw(plot: Plot) -> str:
    """The plot as the text of an SVG file, readable on light and on dark pages: it has its own background."""
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {_HEIGHT}' role='img'>",
        f"<title>{escape(plot.title)}</title>",
        f"<rect width='{_WIDTH}' height='{_HEIGHT}' rx='6' fill='#ffffff'/>",
        _text(_LEFT, 24, plot.title, size=15, weight="600"),
        *_axes(plot),
        *(part for line in plot.lines for part in _line(plot, line)),
        *_legend(plot),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _x(plot: Plot, value: float) -> float:
    low, high, _ = plot.x_range
    return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)


def _y(plot: Plot, value: float) -> float:
    low, high, _ = plot.y_range
    return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)


def _ticks(bounds: tuple[float, float, float]) -> list[float]:
    low, high, step = bounds
    return [low + step * number for number in range(round((high - low) / step) + 1)]


def _axes(plot: Plot) -> list[str]:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = []
    for value in _ticks(plot.y_range):
        y = _y(plot, value)
        parts.append(f"<line x1='{_LEFT}' y1='{y:.1f}' x2='{right}' y2='{y:.1f}' stroke='#e5e7eb'/>")
        parts.append(_text(_LEFT - 8, y + 4, f"{value:g}{plot.y_unit}", anchor="end"))
    parts += [
        _text(_x(plot, value), bottom + 18, f"{value:g}{plot.x_unit}", anchor="middle")
        for value in _ticks(plot.x_range)
    ]
    parts.append(f"<line x1='{_LEFT}' y1='{bottom}' x2='{right}' y2='{bottom}' stroke='#6b7280'/>")
    parts.append(_text((_LEFT + right) / 2, _HEIGHT - 12, plot.x_label, anchor="middle"))
    middle = (_TOP + bottom) / 2
    turned = f"transform='rotate(-90 14 {middle:.1f})'"
    parts.append(f"<text x='14' y='{middle:.1f}' {turned} text-anchor='middle' {_LOOK}>{escape(plot.y_label)}</text>")
    return parts


_LOOK = f"{_FONT} font-size='12' fill='#374151'"


def _line(plot: Plot, line: Line) -> list[str]:
    places = [(_x(plot, x), _y(plot, y)) for x, y in line.points]
    marks = [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3.5' fill='{line.colour}'/>" for x, y in places]
    if line.dots:
        return marks
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dash = f" stroke-dasharray='{line.dash}'" if line.dash else ""
    return [f"<polyline points='{path}' fill='none' stroke='{line.colour}' stroke-width='2'{dash}/>"]


def _legend(plot: Plot) -> list[str]:
    longest = max(len(line.label) for line in plot.lines)
    left = _WIDTH - _RIGHT - 46 - longest * 6.4 if plot.legend_low else _LEFT + 14
    top = _HEIGHT - _BOTTOM - 12 - 18 * len(plot.lines) if plot.legend_low else _TOP + 8
    parts = []
    for number, line in enumerate(plot.lines):
        y = top + 18 * number
        if line.dots:
            parts.append(f"<circle cx='{left + 12:.1f}' cy='{y}' r='3.5' fill='{line.colour}'/>")
        else:
            dash = f" stroke-dasharray='{line.dash}'" if line.dash else ""
            parts.append(
                f"<line x1='{left:.1f}' y1='{y}' x2='{left + 24:.1f}' y2='{y}' stroke='{line.colour}' "
                f"stroke-width='2'{dash}/>"
            )
        parts.append(_text(left + 30, y + 4, line.label))
    return parts


def _text(x: float, y: float, text: str, *, size: int = 12, anchor: str = "start", weight: str = "400") -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' {_FONT} font-size='{size}' font-weight='{weight}' "
        f"fill='#374151'>{escape(text)}</text>"
    )
