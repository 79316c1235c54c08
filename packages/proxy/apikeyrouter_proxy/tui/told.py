"""What the terminal dashboard says: rows, the line of totals, and a decision opened, as rich texts and tables.

Main entries: `key_cells`, `decision_cells`, `totals_line`, `decision_told`, `key_told`. Law: everything that came from
outside passes `styled`, which shows control characters and reads no markup.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from apikeyrouter_proxy.cli.bars import bar
from apikeyrouter_proxy.cli.console import STATE_STYLES, about, styled
from apikeyrouter_proxy.tui.board import KeyRow, Totals

__all__ = ["DECISION_COLUMNS", "KEY_COLUMNS", "decision_cells", "decision_told", "key_cells", "key_told", "totals_line"]

KEY_COLUMNS = (
    ("key", "Key", 13), ("state", "State", 11), ("left", "Left of tightest", 16), ("limit", "Limit", 8),
    ("forecast", "Forecast", 15), ("busy", "Busy", 4), ("provider", "Provider", 12), ("served", "Served", 7),
    ("failed", "Failed", 6),
)  # fmt: skip
"""(name, title, width). The first six fit into 80 columns."""

DECISION_COLUMNS = (
    ("at", "At", 8), ("model", "Model", 17), ("key", "Key", 13), ("outcome", "Outcome", 12), ("took", "Took", 6),
    ("cost", "Cost", 9), ("tries", "Sends", 5), ("tokens", "Tokens", 11), ("caller", "Caller", 12),
)  # fmt: skip

_SPARKS = "▁▂▃▄▅▆▇█"
_SHORT = {"requests": "req", "tokens": "tok", "input tokens": "in", "output tokens": "out", "images": "img"}


def key_cells(row: KeyRow) -> list[Text]:
    """A key as `KEY_COLUMNS` say."""
    if row.limit is None:
        left, name = styled("not known", "dim"), styled("-", "dim")
    else:
        left = bar(row.limit.left, 8, warn=False, drawn=True)
        left.stylize("red" if row.limit.left < 0.05 else "yellow" if row.limit.left < 0.2 else "green")
        name = styled(_short(row.limit.name))
    return [
        styled(row.label, "bold"),
        styled(row.state, STATE_STYLES.get(row.state, "")),
        left,
        name,
        _forecast(row),
        styled(row.in_flight, "" if row.in_flight else "dim"),
        styled(row.provider_id),
        styled(row.served),
        styled(row.failed, "yellow" if row.failed else "dim"),
    ]


def _forecast(row: KeyRow) -> Text:
    """The outlook without its range; the opened key has it whole."""
    said = row.outlook.partition(" (")[0].partition(",")[0]
    said = said.replace("may run dry from ", "maybe dry in ").removesuffix(" on")
    style = "red" if said.startswith("dry") or row.pressure > 1.0 else "yellow" if "dry" in said else "dim"
    return styled(said or "-", style)


def _short(name: str) -> str:
    """ "requests per minute" as "req/min"."""
    what, _, period = name.partition(" per ")
    return f"{_SHORT.get(what, what)}/{period[:3]}" if period else what


def decision_cells(row: Mapping[str, Any]) -> list[Text]:
    """A finished request as `DECISION_COLUMNS` say."""
    good = row["outcome"] == "ok"
    return [
        styled(_time(str(row["at"])), "dim"),
        styled(row["model"]),
        styled(about(row["key_label"])),
        styled(row["outcome"], "green" if good else "red"),
        styled(_seconds(row["duration_s"])),
        styled(f"${Decimal(str(row['cost_usd'] or 0)):.6f}"),
        styled(row["attempts"], "yellow" if row["attempts"] > 1 else "dim"),
        styled(f"{about(row['input_tokens'])}+{about(row['output_tokens'])}"),
        styled(about(row["caller"])),
    ]


def totals_line(totals: Totals) -> Text:
    """The whole router in a line of 80 columns."""
    line = Text(no_wrap=True, overflow="ellipsis")
    ttft = totals.ttft_s
    parts = [
        ("", f"{totals.requests_per_s:.1f}", " req/s", ""),
        ("errors ", f"{totals.failed_ratio:.0%}", "", "red" if totals.failed_ratio > 0 else "green"),
        ("spent ", f"${totals.spent_usd:.4f}", f" (${totals.spend_per_hour_usd:.2f}/h)", ""),
        ("first byte ", "-" if ttft is None else _seconds(ttft["p50"]), "", ""),
        ("busy ", str(totals.in_flight), "", ""),
    ]
    for before, value, after, style in parts:
        line.append("  " if line else "").append(before, "dim").append(value, f"bold {style}").append(after, "dim")
    return line


def spark_line(history: list[int], width: int) -> Text:
    """Requests per second, the newest at the right, highest as tall as it gets."""
    shown = history[-width:]
    most = max(shown, default=0)
    return styled("".join(_SPARKS[0 if not most else round(one / most * (len(_SPARKS) - 1))] for one in shown), "cyan")


def decision_told(decision: Mapping[str, Any], labels: Mapping[str, str]) -> RenderableType:
    """A decision opened: why, who else, who could not, what happened, what would change it."""
    return Group(*_decision_parts(decision, labels))


def _decision_parts(decision: Mapping[str, Any], labels: Mapping[str, str]) -> Iterator[RenderableType]:
    def name(key_id: Any) -> str:
        return labels.get(str(key_id), about(key_id))

    def bare(key_id: Any, reason: str) -> str:
        return reason.removeprefix(f"{name(key_id)}: ")

    yield styled(decision["explanation"], "bold")
    cost = Decimal(str(decision["cost_usd"] or 0))
    yield styled(f"{decision['model']}, {decision['objective']}, {decision['outcome']}, ${cost:.9f}", "dim")
    candidates = _table("Candidate", "Score", "Why not")
    if decision["selected_key_id"] is not None:
        score = _terms(decision["score_usd"], decision["terms_usd"])
        candidates.add_row(styled(name(decision["selected_key_id"]), "bold green"), score, styled("chosen", "green"))
    for one in decision["alternatives_considered"]:
        why = styled(bare(one["key_id"], one["reason_not_selected"]))
        candidates.add_row(styled(name(one["key_id"])), _terms(one["score_usd"], one["terms_usd"]), why)
    if candidates.row_count:
        yield candidates
    if decision["rejections"]:
        refused = _table("Refused", "Code", "Why")
        for one in decision["rejections"]:
            refused.add_row(*map(styled, (name(one["key_id"]), one["code"], bare(one["key_id"], one["reason"]))))
        yield refused
    if decision["attempts"]:
        tried = _table("Attempt with", "Outcome", "Took", "Detail")
        for one in decision["attempts"]:
            outcome = styled(one["outcome"], "green" if one["outcome"] == "ok" else "red")
            took, detail = styled(_seconds(one["duration_ms"] / 1e3)), styled(about(one["detail"]))
            tried.add_row(styled(name(one["key_id"])), outcome, took, detail)
        yield tried
    if decision["flip"]:
        yield styled(f"What would change it: {decision['flip']}.")


def key_told(key: Mapping[str, Any], pool: Mapping[str, Any] | None) -> RenderableType:
    """A key opened: its state and why, and every known limit with its forecast."""
    lines: list[RenderableType] = [
        styled(f"{key['state']}{': ' + key['state_reason'] if key['state_reason'] else ''}", "bold"),
        styled(f"{key['provider_id']}, {key['id']}, pool {key['pool_id']}", "dim"),
        styled(f"served {key['usage_count']}, failed {key['failure_count']}, {key['in_flight']} under way"),
    ]
    limits = _table("Limit", "Models", "Left", "", "Forecast")
    for one in [] if pool is None else pool["limits"]:
        if one["limit"]:
            forecast = one["prediction"]["text"] if one["prediction"] else "not foreseen"
            left = bar(max(0, one["remaining"] or 0) / one["limit"], 8, warn=False, drawn=True)
            amount = f"{one['remaining']:,} of {one['limit']:,}"
            limits.add_row(styled(one["name"]), styled(one["models"]), left, styled(amount), styled(forecast))
    known = limits.row_count > 0
    return Group(*lines, limits if known else styled("No limit is known yet: replies and refusals teach it.", "dim"))


def _table(*titles: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold")
    return table


def _terms(score: Any, terms: Mapping[str, Any]) -> Text:
    said = f"${Decimal(str(score or 0)):.9f}"
    parts = ", ".join(f"{term} {Decimal(str(value)):.9f}" for term, value in terms.items())
    return styled(said).append(f" = {parts}" if parts else "", "dim")


def _seconds(value_s: float | None) -> str:
    if value_s is None:
        return "-"
    return f"{value_s * 1e3:.0f} ms" if value_s < 1.0 else f"{value_s:.1f} s"


def _time(at: str) -> str:
    try:
        return datetime.fromisoformat(at).astimezone().strftime("%H:%M:%S")
    except ValueError:
        return at
