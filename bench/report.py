"""Turns figures into a table people can read, and keeps them as JSON under `.cache/bench/results-*.json`.

Entry: `http_table()`, `figures_table()`, `save()`.
Law: a figure is shown with its target (`goal`) where one is set, met or not; nothing is rounded in a way that
flatters us.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.targets import CACHE, ORDER

# Row label, figure name, format.
_ROWS = (
    ("requests/s, 1 connection", "rps_1", "{:,.0f}"),
    ("requests/s, 16 connections", "rps_16", "{:,.0f}"),
    ("requests/s, 64 connections", "rps_64", "{:,.0f}"),
    ("CPU per request at 16, us", "cpu_us_16", "{:,.0f}"),
    ("CPU per request at 64, us", "cpu_us_64", "{:,.0f}"),
    ("p50 at 64 connections, ms", "p50_ms_64", "{:,.2f}"),
    ("p99 at 64 connections, ms", "p99_ms_64", "{:,.2f}"),
    ("p50 at 200/s, ms", "offer200_p50_ms", "{:.2f}"),
    ("p99 at 200/s, ms", "offer200_p99_ms", "{:.2f}"),
    ("added p50 at 200/s, ms *", "added_p50_ms", "{:.2f}"),
    ("added p99 at 200/s, ms *", "added_p99_ms", "{:.2f}"),
    ("first event p50, ms", "first_event_p50_ms", "{:.2f}"),
    ("added to first event p50, ms", "added_first_event_p50_ms", "{:.2f}"),
    ("added to first event p99, ms", "added_first_event_p99_ms", "{:.2f}"),
    ("events/s, 32 streams", "events_per_s", "{:,.0f}"),
    ("CPU per event, us", "cpu_us_event", "{:.1f}"),
    ("ready after, s", "ready_s", "{:.2f}"),
    ("memory idle, MiB", "rss_idle_mib", "{:.0f}"),
    ("memory after, MiB", "rss_after_mib", "{:.0f}"),
)
# What our proxy says about itself after the load: at rest nothing may be held (law L4).
_ACCOUNTS = ("costs", "open_holds", "in_flight", "unavailable")


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure with its bound (None: only for reading). `at_most` says which way is better."""

    label: str
    value: float | None
    bound: float | None
    at_most: bool
    unit: str = ""

    @property
    def met(self) -> bool | None:
        """None where the figure could not be taken, or has no bound."""
        if self.value is None or self.bound is None:
            return None
        return self.value <= self.bound if self.at_most else self.value >= self.bound


def columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain table: first column to the left, the others to the right."""
    widths = [max(len(row[index]) for row in (header, *rows)) for index in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (header, *rows)
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def http_table(result: Mapping[str, Any]) -> str:
    """The whole report of an HTTP run."""
    medians: dict[str, dict[str, float]] = result["medians"]
    names = [name for name in ORDER if name in medians]
    rows = []
    for label, figure, form in _ROWS:
        cells = [form.format(medians[name][figure]) if figure in medians[name] else "" for name in names]
        rows.append([label, *cells])
    parts = [columns(["median of rounds", *names], rows)]
    parts.append("* over direct at 200/s; LiteLLM is offered 50/s, since 200/s is more than it can answer on one core")
    parts.append(
        figures_table(http_goals(medians)) if "ours" in medians else "ours was not measured, so there are no ratios"
    )
    parts += [f"not a full 200: {name}: {bad}" for name, bad in result["bad"].items()]
    parts += [f"left out: {name}: {reason.splitlines()[0]}" for name, reason in result["left_out"].items()]
    if result.get("accounting"):
        told = {name: value for name, value in result["accounting"].items() if name in _ACCOUNTS}
        parts.append(f"ours afterwards: {json.dumps(told)}")
    if not result["priority_raised"]:
        parts.append("priority could not be raised: other work on this machine may have changed every figure")
    return "\n\n".join(parts)


def http_goals(medians: Mapping[str, Mapping[str, float]]) -> list[Goal]:
    """What the project promises about HTTP, with the figures of this run."""
    ours = medians["ours"]
    best = max(ours["rps_16"], ours["rps_64"])

    def ratio(name: str, figures: Sequence[str], mine: float) -> float | None:
        other = medians.get(name)
        return mine / max(other[figure] for figure in figures) if other else None

    def by_cpu(figure: str) -> float | None:
        # Where the load's core is the limit, rates flatter the slower side; what each spends does not.
        nginx = medians.get("nginx")
        return nginx[figure] / ours[figure] if nginx and ours[figure] else None

    saturated = ("rps_16", "rps_64")
    return [
        Goal("requests/s, full path", best, 5000, at_most=False),
        Goal("ours / LiteLLM, requests/s", ratio("litellm", saturated, best), 30, at_most=False, unit="x"),
        Goal("ours / Portkey, requests/s", ratio("portkey", saturated, best), 4, at_most=False, unit="x"),
        Goal("ours / nginx, requests/s", ratio("nginx", saturated, best), None, at_most=False, unit="x"),
        Goal("  the same by CPU per request", by_cpu("cpu_us_16"), None, at_most=False, unit="x"),
        Goal("added p50 at 200/s", ours["added_p50_ms"], 0.6, at_most=True, unit="ms"),
        Goal("added p99 at 200/s", ours["added_p99_ms"], 3.0, at_most=True, unit="ms"),
        Goal("added to first event, p50", ours["added_first_event_p50_ms"], 0.8, at_most=True, unit="ms"),
        Goal(
            "events/s, ours / nginx",
            ratio("nginx", ("events_per_s",), ours["events_per_s"]),
            0.6,
            at_most=False,
            unit="x",
        ),
        Goal("  the same by CPU per event", by_cpu("cpu_us_event"), 0.6, at_most=False, unit="x"),
        Goal("memory idle", ours["rss_idle_mib"], 90, at_most=True, unit="MiB"),
    ]


def figures_table(goals: Sequence[Goal]) -> str:
    """Figures beside their bounds."""
    verdicts = {True: "met", False: "NOT met", None: "not measured"}
    rows = []
    for goal in goals:
        value = "" if goal.value is None else f"{goal.value:,.0f}" if goal.value >= 1000 else f"{goal.value:.4g}"
        if goal.bound is None:
            rows.append([goal.label, f"{value} {goal.unit}".strip(), "(for reading)", ""])
        else:
            bound = f"{'<=' if goal.at_most else '>='} {goal.bound:g} {goal.unit}".strip()
            rows.append([goal.label, f"{value} {goal.unit}".strip(), bound, verdicts[goal.met]])
    return columns(["figure", "value", "goal", ""], rows)


def save(kind: str, result: Mapping[str, Any]) -> Path:
    """Writes `results-<kind>-<time>.json` and `results-<kind>-latest.json`; returns the first."""
    CACHE.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1)
    path = CACHE / f"results-{kind}-{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.write_text(text)
    (CACHE / f"results-{kind}-latest.json").write_text(text)
    return path
