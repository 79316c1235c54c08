"""Tables and plots of `bench.model_routing`.

Main entries: `routers_table`, `subjects_table`, `cascade_table`, `draw_all`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from apikeyrouter.muxer.trained.calibration import reliability
from apikeyrouter.muxer.trained.metrics import apgr, ranked
from apikeyrouter.muxer.trained.training import Study
from bench import report
from bench.model_routing_cascade import Replies, cascade_curve, cheapest_at, figures
from bench.plots import COLOURS, Line, Plot, draw

__all__ = ["Judged", "cascade_table", "draw_all", "routers_table", "subjects_table"]

_DASHES = ("4 4", "8 4", "2 3", "", "10 3 2 3")


@dataclass(frozen=True, slots=True)
class Judged:
    """One router over one set. `curve`: share of strong calls and accuracy, each 0..1; spreads: the middle 95 %.
    `calls_for_95`: strong calls that reach 95 % of the strong model's accuracy, as RouteLLM's headline has it."""

    name: str
    apgr: float | None
    apgr_spread: tuple[float, float] | None
    calls_50: float | None
    calls_50_spread: tuple[float, float] | None
    calls_80: float | None
    calls_80_spread: tuple[float, float] | None
    calls_for_95: float | None
    curve: list[tuple[float, float]]


def routers_table(rows: Sequence[Judged]) -> str:
    """Routers side by side; random choice has an APGR of 0.5 by definition, up to chance."""
    return report.columns(
        (
            "router",
            "APGR",
            "95 %",
            "CPT(50 %)",
            "95 %",
            "CPT(80 %)",
            "95 %",
            "strong calls for 95 % of its accuracy",
            "accuracy at half",
        ),
        [
            (
                row.name,
                _figure(row.apgr),
                _between(row.apgr_spread),
                _percent(row.calls_50),
                _between(row.calls_50_spread, percent=True),
                _percent(row.calls_80),
                _between(row.calls_80_spread, percent=True),
                _percent(row.calls_for_95),
                _percent(row.curve[len(row.curve) // 2][1]),
            )
            for row in rows
        ],
    )


def subjects_table(
    subjects: Mapping[str, Sequence[int]], data: Study, scores: Sequence[float], gains: Sequence[float]
) -> str:
    """Every subject: what was foreseen of it without having seen it, and what was so."""
    rows, seen = [], data.gains
    for name, places in subjects.items():
        weak = [data.weak[p] for p in places]
        strong = [data.strong[p] for p in places]
        area = apgr(ranked([scores[p] for p in places], weak, strong))
        rows.append(
            (
                name.removeprefix("mmlu_").replace("_", " "),
                str(len(places)),
                _percent(_mean(weak)),
                _percent(_mean(strong)),
                _percent(_mean([gains[p] for p in places])),
                _percent(_mean([seen[p] for p in places])),
                _figure(area) if _mean(strong) - _mean(weak) > 0.02 else "-",
            )
        )
    rows.sort(key=lambda row: row[0])
    return report.columns(("subject (held out)", "rows", "weak", "strong", "gain foreseen", "gain", "APGR"), rows)


def cascade_table(played: Replies, reasons: Mapping[str, Sequence[float]]) -> str:
    """Each reason to ask the strong model: its figures, and the cost at which it reaches the strong one's accuracy."""
    always = _mean(played.strong)
    rows = []
    for name, scores in reasons.items():
        curve = cascade_curve(played, scores, points=100)
        area, half, most = figures(played, scores)
        costs = [cheapest_at(curve, always * part) for part in (0.95, 0.98, 1.0)]
        told = (_figure(area), _percent(half), _percent(most))
        rows.append((name, *told, *(_percent(step.cost) if step else "never" for step in costs)))
    header = ("asks the strong model by", "APGR", "CPT(50 %)", "CPT(80 %)")
    return report.columns((*header, "cost at 95 %", "at 98 %", "at 100 %"), rows)


def draw_all(
    folder: Path,
    judged: Mapping[str, Sequence[Judged]],
    calibration: tuple[Sequence[float], Sequence[float], Sequence[int], Sequence[int]],
    cascade: tuple[Replies, Mapping[str, Sequence[float]]],
) -> None:
    """Writes the SVG files. `calibration`: foreseen gains, real gains, rows of MMLU, rows of GSM8K."""
    folder.mkdir(parents=True, exist_ok=True)
    plots = {
        "model-routing-mmlu.svg": _routing(judged["MMLU"]),
        "model-routing-calibration.svg": _calibration(*calibration),
        "model-routing-cascade.svg": _cascade(*cascade),
    }
    for name, plot in plots.items():
        (folder / name).write_text(draw(plot), encoding="utf-8")


def _routing(rows: Sequence[Judged]) -> Plot:
    lines = [
        Line(row.name, [(100 * x, 100 * y) for x, y in row.curve], COLOURS[number], _DASHES[number])
        for number, row in enumerate(rows)
        if row.name != "random"
    ]
    ends = rows[0].curve[0][1], rows[0].curve[-1][1]
    lines.insert(0, Line("random choice", [(0, 100 * ends[0]), (100, 100 * ends[1])], COLOURS[4], "2 3"))
    return Plot(
        "MMLU, every subject held out: accuracy by share of strong calls",
        "prompts that go to the strong model",
        "right answers",
        (0, 100, 20),
        (66, 90, 4),
        lines,
    )


def _calibration(foreseen: Sequence[float], real: Sequence[float], mmlu: Sequence[int], gsm: Sequence[int]) -> Plot:
    lines = [Line("as foreseen", [(0, 0), (50, 50)], COLOURS[4], "2 3")]
    for label, rows, colour in (("MMLU, held out", mmlu, COLOURS[0]), ("GSM8K, learnt from MMLU", gsm, COLOURS[1])):
        bins = reliability([foreseen[p] for p in rows], [real[p] for p in rows], 10 if len(rows) > 2_000 else 5)
        lines.append(Line(label, [(100 * said, 100 * seen) for said, seen, _ in bins], colour, dots=True))
    return Plot(
        "Gain foreseen and gain seen, in bins of equal size",
        "foreseen: only the strong model is right",
        "so it was",
        (0, 50, 10),
        (0, 50, 10),
        lines,
    )


def _cascade(played: Replies, reasons: Mapping[str, Sequence[float]]) -> Plot:
    lines = [
        Line(
            "always the strong model",
            [(0, 100 * _mean(played.strong)), (105, 100 * _mean(played.strong))],
            COLOURS[4],
            "2 3",
        )
    ]
    for number, (name, scores) in enumerate(reasons.items()):
        if name in ("length of the weak reply", "a shown sum is wrong"):
            continue
        curve = cascade_curve(played, scores)
        lines.append(
            Line(name, [(100 * s.cost, 100 * s.accuracy) for s in curve], COLOURS[number % 4], _DASHES[number])
        )
    return Plot(
        "GSM8K, cascade: accuracy by cost",
        "cost, of always asking the strong model",
        "right answers",
        (0, 105, 15),
        (60, 95, 5),
        lines,
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _between(spread: tuple[float, float] | None, *, percent: bool = False) -> str:
    if spread is None:
        return ""
    low, high = (100 * value for value in spread) if percent else spread
    return f"{low:.0f}-{high:.0f}" if percent else f"{low:.3f}-{high:.3f}"
