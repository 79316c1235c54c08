"""`spend`: what was spent on what: a table with bars, CSV or JSON.

Law: amounts are exact, and each request is in the sum once, also when it is in the rows of several tags.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional
from urllib.parse import urlencode

import typer

from apikeyrouter_proxy.cli.bars import bar
from apikeyrouter_proxy.cli.console import note, print_table, say
from apikeyrouter_proxy.cli.failures import CliError
from apikeyrouter_proxy.cli.kinds import On, read_on
from apikeyrouter_proxy.cli.options import AsJson, EnvFile, Store, Url
from apikeyrouter_proxy.cli.service import Where, message_of, open_service
from apikeyrouter_proxy.cli.times import moment

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["register"]

_PATH = "/api/v1/spend"


class Format(StrEnum):
    """How a report is written."""

    Table = "table"
    Csv = "csv"
    Json = "json"


_ROWS = {Format.Table: "1000", Format.Json: "10000", Format.Csv: "1"}
"""How many rows are asked for; CSV always has them all."""


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command("spend")(spend)


def spend(
    by: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--by", help="key, model, provider, tag, team, virtual-key, hour, day; may be repeated."),
    ] = None,
    since: Annotated[str, typer.Option("--since", help="7d, 12h, today, yesterday, week, month, 2026-11-01.")] = "30d",
    until: Annotated[str, typer.Option("--until", help="Likewise, or now; not included.")] = "now",
    time_zone: Annotated[str, typer.Option("--time-zone", "--tz", help="Whose days: Europe/Berlin.")] = "UTC",
    on: On = None,
    format_: Annotated[Format, typer.Option("--format", "-f", help="table, csv or json.")] = Format.Table,
    output: Annotated[Optional[Path], typer.Option("--output", "-o", help="Write to this file.")] = None,  # noqa: UP045
    url: Url = None,
    store: Store = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Show what was spent, dearest first; by hour or day in the order of time."""
    chosen = Format.Json if as_json else format_
    if chosen is Format.Table and output is not None:
        chosen = {".csv": Format.Csv, ".json": Format.Json}.get(output.suffix.lower(), Format.Csv)
    asked: list[tuple[str, str]] = [("by", one) for one in by or ["model"]]
    asked += [(kind.replace("-", "_"), name) for kind, name in read_on(on or [])]
    asked += [("since", since), ("until", until), ("time_zone", time_zone)]
    asked += [("format", "csv" if chosen is Format.Csv else "json"), ("limit", _ROWS[chosen])]
    path = f"{_PATH}?{urlencode(asked)}"
    with open_service(Where(url, store, env_file)) as service:
        answer = service.ask("GET", path)
        if answer.status >= 400:
            raise CliError(message_of(answer, path))
    if chosen is Format.Table:
        _print_report(answer.json())
    else:
        _write(answer.body, output)


def _write(body: bytes, output: Path | None) -> None:
    """The answer as it came; JSON and CSV are the API's own."""
    text = body.decode("utf-8")
    if output is None:
        # Names of keys and tags may hold anything; a terminal must not obey them. JSON has them escaped already.
        say(text.replace("\r\n", "\n").rstrip("\n"))
        return
    try:
        output.write_bytes(body if body.endswith(b"\n") else body + b"\n")
    except OSError as fault:
        raise CliError(f"{output} cannot be written ({fault.strerror}).") from None
    note(f"Wrote {output}.")


def _print_report(report: dict[str, Any]) -> None:
    title = f"Spend from {moment(report['since'])} to {moment(report['until'])}"
    if not report["data"]:
        say(f"{title}: nothing.")
        return
    names = [name.replace("-", "_") for name in report["by"]]
    total = Decimal(report["sum"]["cost"])
    rows: list[list[Text | str]] = []
    for row in report["data"]:
        cost = Decimal(row["cost"])
        share = bar(float(cost / total) if total else 0.0, warn=False)
        rows.append([*(_named(row, name) for name in names), *_figures(row), share])
    sums: list[Text | str] = ["all" if index == 0 else "" for index in range(len(names))]
    rows.append([*sums, *_figures(report["sum"]), ""])
    figures = ["requests", "failures", "input tokens", "(cached)", "output tokens", "cost", "share"]
    print_table([*report["by"], *figures], rows, title=title)
    if report["total"] > len(report["data"]):
        note(f"{report['total'] - len(report['data'])} more rows: --format csv has them all.")
    presumed = Decimal(report["sum"]["presumed"])
    if presumed:
        note(f"${report['sum']['presumed']} of it is presumed: charged although nobody could tell whether it was.")


def _named(row: dict[str, Any], name: str) -> str:
    value = str(row.get(name) or "-")
    return str(row.get(f"{name}_label") or row.get(f"{name}_name") or value)


def _figures(row: dict[str, Any]) -> list[str]:
    counts = [row[n] for n in ("requests", "failures", "input_tokens", "cached_input_tokens", "output_tokens")]
    return [*(f"{count:,}" for count in counts), f"${row['cost']}"]
