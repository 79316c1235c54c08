"""Runs as JSON and as one HTML page with plots: no script, no other file, nothing fetched.

Main entries: `to_json`, `to_html`, `timeline`. Laws: what is shown is what `run.figures` says; text is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from apikeyrouter.simulation.world.run import Cell, Run

__all__ = ["Timeline", "timeline", "to_html", "to_json"]

_POINTS = 150
_COLOURS = (
    "#1f77b4",
    "#d62728",
    "#2ca02c",
    "#9467bd",
    "#ff7f0e",
    "#8c564b",
    "#e377c2",
    "#7f7f7f",
    "#bcbd22",
    "#17becf",
)
_WIDTH, _HEIGHT = 860, 220
_LEFT, _BOTTOM, _TOP = 60, 24, 12
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:960px;color:#222;background:#fff}"
    "table{border-collapse:collapse;margin:1em 0}"
    "th,td{padding:.25em .7em;text-align:right;border-bottom:1px solid #ddd}"
    "th:first-child,td:first-child{text-align:left}svg{max-width:100%;height:auto}"
    ".key{margin-right:1.2em;white-space:nowrap}"
    "@media(prefers-color-scheme:dark){body{background:#181a1f;color:#ddd}th,td{border-color:#444}svg text{fill:#ddd}}"
)


@dataclass(frozen=True, slots=True)
class Timeline:
    """A run over time, in `_POINTS` equal steps of `step_s`: the share of arrivals that were served in the end, sends
    and 429 from the provider a second."""

    policy: str
    step_s: float
    success_ratio: list[float]
    sends_per_s: list[float]
    refused_per_s: list[float]


def timeline(run: Run) -> Timeline:
    """The run over time."""
    duration_s = max(1.0, run.traffic.duration_s)
    step_s = max(1.0, math.ceil(duration_s / _POINTS))
    steps = math.ceil(duration_s / step_s) + 1
    arrived, served = [0] * steps, [0] * steps
    for number, at_s in enumerate(run.traffic.at_s):
        step = min(steps - 1, int(at_s / step_s))
        arrived[step] += 1
        served[step] += run.served[number]
    sends, refused = [0.0] * steps, [0.0] * steps
    for into, counts in ((sends, run.upstream_at), (refused, run.refused_at)):
        for second, count in counts.items():
            into[min(steps - 1, int(second / step_s))] += count / step_s
    ratios = [s / a if a else math.nan for s, a in zip(served, arrived, strict=True)]
    return Timeline(run.policy, step_s, ratios, sends, refused)


def to_json(about: Mapping[str, Any], cells: Sequence[Cell]) -> dict[str, Any]:
    """What ran and what came of it; figures that do not exist are null."""
    rows = [{name: _finite(value) for name, value in asdict(cell).items()} for cell in cells]
    return {"about": dict(about), "policies": rows}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_html(title: str, about: str, cells: Sequence[Cell], lines: Sequence[Timeline]) -> str:
    """A page with a table, bars and curves."""
    names = [cell.policy for cell in cells]
    colours = {name: _COLOURS[place % len(_COLOURS)] for place, name in enumerate(names)}
    keys = "".join(
        f'<span class="key"><svg width="12" height="12"><rect width="12" height="12" fill="{colours[name]}"/></svg> '
        f"{escape(name)}</span>"
        for name in names
    )
    step_s = lines[0].step_s if lines else 1.0
    curves = (
        ("Served, of what arrived", [(line.policy, line.success_ratio) for line in lines], 1.0, "{:.0%}"),
        ("Requests to the provider, per second", [(line.policy, line.sends_per_s) for line in lines], None, "{:.3g}"),
        (
            "Refused by the provider (429), per second",
            [(line.policy, line.refused_per_s) for line in lines],
            None,
            "{:.3g}",
        ),
    )
    plots = "".join(
        f"<h2>{head}</h2>{_curves(series, colours, step_s, top, form)}" for head, series, top, form in curves if series
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
        f"<h1>{escape(title)}</h1><p>{escape(about)}</p>{_table(cells)}<h2>Success</h2>{_bars(cells, colours)}"
        f"<p>{keys}</p>{plots}</html>\n"
    )


def _table(cells: Sequence[Cell]) -> str:
    heads = (
        "policy",
        "served",
        "of the oracle",
        "sends per request",
        "429 per 100",
        "wait p50, s",
        "wait p99, s",
        "fairness",
    )
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(text)}</td>" for text in (
            cell.policy,
            f"{cell.success_ratio:.2%}",
            "-" if cell.of_oracle_ratio is None else f"{cell.of_oracle_ratio:.1%}",
            f"{cell.attempts:.2f}",
            f"{cell.refused_per_100:.1f}",
            f"{cell.wait_p50_s:.2f}",
            f"{cell.wait_p99_s:.2f}",
            f"{cell.jain:.3f}",
        )) + "</tr>"
        for cell in cells
    )  # fmt: skip
    return f"<table><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>{rows}</table>"


def _bars(cells: Sequence[Cell], colours: Mapping[str, str]) -> str:
    high = 26
    parts = []
    for place, cell in enumerate(cells):
        top = place * high + 4
        wide = 520 * cell.success_ratio
        parts.append(
            f'<text x="0" y="{top + 14}">{escape(cell.policy)}</text>'
            f'<rect x="160" y="{top}" width="{wide:.1f}" height="18" fill="{colours[cell.policy]}"/>'
            f'<text x="{166 + wide:.1f}" y="{top + 14}">{cell.success_ratio:.1%}</text>'
        )
    return f'<svg viewBox="0 0 {_WIDTH} {len(cells) * high + 8}" font-size="13" role="img">{"".join(parts)}</svg>'


def _ticks_s(end_s: float) -> list[float]:
    """Round times from 0 to `end_s`, four to eight of them."""
    step_s = next(
        digit * 10.0**power for power in range(-3, 9) for digit in (1, 2, 5) if end_s <= 7 * digit * 10.0**power
    )
    return [number * step_s for number in range(int(end_s / step_s + 1e-6) + 1)]


def _curves(
    series: Sequence[tuple[str, list[float]]], colours: Mapping[str, str], step_s: float, top: float | None, form: str
) -> str:
    most = top or max((value for _, values in series for value in values if math.isfinite(value)), default=1.0) or 1.0
    steps = max(len(values) for _, values in series)
    wide, high = _WIDTH - _LEFT - 10, _HEIGHT - _BOTTOM - _TOP
    parts = []
    for share in (0.0, 0.5, 1.0):
        y = _TOP + high * (1 - share)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - 10}" y1="{y:.1f}" y2="{y:.1f}" stroke="#8885"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{form.format(most * share)}</text>'
        )
    end_s = steps * step_s
    for at_s in _ticks_s(end_s):
        x = _LEFT + wide * at_s / end_s
        anchor = "end" if x > _WIDTH - 30 else "middle"  # the last one would be cut off
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 6}" text-anchor="{anchor}">{at_s:g} s</text>')
    for name, values in series:
        points = " ".join(
            f"{_LEFT + wide * place / max(1, steps - 1):.1f},{_TOP + high * (1 - min(1.0, value / most)):.1f}"
            for place, value in enumerate(values)
            if math.isfinite(value)
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colours[name]}" stroke-width="1.5"/>')
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" font-size="12" role="img">{"".join(parts)}</svg>'
