"""`budgets`: limits on spend: create, list, show, edit, delete, and check whether a request would fit.

A budget is named by its id, the beginning of its id, or its name. What it covers is given by name as well: a key's
label, a virtual key's name. Laws: amounts are shown exactly; words for amounts, periods and time zones are read by the
management API, so that both surfaces understand the same.
"""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Optional
from urllib.parse import quote

import typer

from apikeyrouter_proxy.cli.bars import bar
from apikeyrouter_proxy.cli.completing import budget_names
from apikeyrouter_proxy.cli.console import came_from, note, print_json, print_table, say, styled
from apikeyrouter_proxy.cli.failures import FAILED, USAGE, CliError
from apikeyrouter_proxy.cli.kinds import On, OnOne, read_on
from apikeyrouter_proxy.cli.options import AsJson, EnvFile, Store, Url, Yes
from apikeyrouter_proxy.cli.service import Service, Where, open_service
from apikeyrouter_proxy.cli.times import moment

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["register"]

_PATH = "/api/v1/budgets"
_ENTRIES_SHOWN = 20
_FIELDS = {"provider": "provider_id", "key": "key_id"}
_SCOPES = {
    "provider": "per_provider",
    "key": "per_key",
    "model": "per_route",
    "virtual-key": "per_virtual_key",
    "team": "per_team",
    "tag": "per_tag",
}
_BudgetName = Annotated[
    str,
    typer.Argument(metavar="BUDGET", help="Its id, the beginning of its id, or its name.", autocompletion=budget_names),
]


def register(app: typer.Typer) -> None:
    """Adds the group."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Limit what may be spent, and see how it is.")
    for verb in (create, show, edit, delete, check):
        group.command(verb.__name__)(verb)
    group.command("list")(list_)
    app.add_typer(group, name="budgets")


def create(
    limit: Annotated[str, typer.Option("--limit", metavar="USD", help="US dollars per period: 10, 10.50, $10.")],
    period: Annotated[str, typer.Option("--period", "-p", help="hour, day, week, month, or total: for good.")] = "day",
    on: OnOne = None,
    soft: Annotated[bool, typer.Option("--soft/--hard", help="Soft: tell, and refuse nothing.")] = False,
    rolling: Annotated[bool, typer.Option("--rolling", help="The last hour, day, 7 or 30 days.")] = False,
    time_zone: Annotated[str, typer.Option("--time-zone", "--tz", help="Whose calendar: Europe/Berlin.")] = "UTC",
    name: Annotated[str, typer.Option("--name", "-n", help="What you call it.")] = "",
    url: Url = None,
    store: Store = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Limit what may be spent: on everything, or on one thing. Several budgets may cover the same request."""
    covered = read_on([on] if on is not None else [])
    scope, scope_id = (_SCOPES[covered[0][0]], covered[0][1]) if covered else ("global", None)
    body = {
        "scope": scope,
        "scope_id": scope_id,
        "limit": limit,
        "period": period,
        "enforcement_mode": "soft" if soft else "hard",
        "rolling": rolling,
        "time_zone": time_zone,
        "name": name,
    }
    with open_service(Where(url, store, env_file)) as service:
        made = service.send("POST", _PATH, body)
    if as_json:
        print_json(made)
    else:
        say(f"Created {made['id']}: {_limit(made)} for {_covers(made)}. {_rule(made)}")
        note("See what is left: `apikeyrouter budgets list`.")


def list_(url: Url = None, store: Store = None, env_file: EnvFile = None, as_json: AsJson = False) -> None:
    """List the budgets and how much of each is used."""
    with open_service(Where(url, store, env_file)) as service:
        budgets = _budgets(service)
    if as_json:
        print_json(budgets)
        return
    if not budgets:
        say("There is no budget. Make one with `apikeyrouter budgets create --limit 10 --period day`.")
        return
    columns = ["id", "name", "covers", "limit", "spent", "held", "left", "used", "mode", "resets", "from"]
    print_table(columns, [_row(budget) for budget in budgets])


def show(
    budget: _BudgetName, url: Url = None, store: Store = None, env_file: EnvFile = None, as_json: AsJson = False
) -> None:
    """Show one budget and the newest lines of its ledger."""
    with open_service(Where(url, store, env_file)) as service:
        found = _find(service, budget)
        limit = 1000 if as_json else _ENTRIES_SHOWN
        entries = service.get(f"{_path(found)}/entries?limit={limit}")["data"]
    if as_json:
        print_json({**found, "entries": entries})
        return
    shown = {
        "id": found["id"],
        "name": found["name"] or "-",
        "covers": _covers(found),
        "limit": _limit(found),
        "mode": found["enforcement_mode"],
        "spent": f"${found['current_spend']}",
        "used": bar(found["used_ratio"], 40).plain,
        "held": f"${found['held']} for requests under way",
        "left": f"${found['remaining']}",
        "resets": moment(found["reset_at"]),
        "created": moment(found["created_at"]),
    }
    for field, note_ in (("overrun", "above what was held"), ("presumed", "outcome unknown, charged")):
        if Decimal(found[field]):
            shown[field] = f"${found[field]} ({note_})"
    for name, value in shown.items():
        say(f"{name:<12}{value}")
    if entries:
        rows = [[moment(one["at"]), one["kind"], f"${one['amount']}", one["worker_id"]] for one in entries]
        print_table(["when", "kind", "amount", "process"], rows, title="Ledger, newest first")


def edit(
    budget: _BudgetName,
    limit: Annotated[Optional[str], typer.Option("--limit", metavar="USD", help="The new limit.")] = None,  # noqa: UP045
    soft: Annotated[Optional[bool], typer.Option("--soft/--hard", help="Tell only, or refuse.")] = None,  # noqa: UP045
    name: Annotated[Optional[str], typer.Option("--name", "-n", help="What you call it.")] = None,  # noqa: UP045
    url: Url = None,
    store: Store = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Change limit, mode or name. What was spent stays spent."""
    body: dict[str, Any] = {}
    if limit is not None:
        body["limit"] = limit
    if soft is not None:
        body["enforcement_mode"] = "soft" if soft else "hard"
    if name is not None:
        body["name"] = name
    if not body:
        raise CliError("Say what to change: --limit, --soft, --hard or --name. The rest is fixed: make another.", USAGE)
    with open_service(Where(url, store, env_file)) as service:
        changed = service.send("PATCH", _path(_find(service, budget)), body)
    if as_json:
        print_json(changed)
    else:
        spent = f"${changed['current_spend']} of it is spent"
        say(f"{_called(changed)} is now {_limit(changed)}, {changed['enforcement_mode']}; {spent}.")


def delete(
    budget: _BudgetName,
    yes: Yes = False,
    url: Url = None,
    store: Store = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Remove a budget; nothing limits what it limited."""
    with open_service(Where(url, store, env_file)) as service:
        found = _find(service, budget)
        if not yes and sys.stdin.isatty():
            typer.confirm(f"Delete {_called(found)} ({_limit(found)} for {_covers(found)})?", abort=True, err=True)
        service.send("DELETE", _path(found))
    if as_json:
        print_json(found)
    else:
        say(f"Deleted {_called(found)}.")


def check(
    model: Annotated[str, typer.Argument(help="Model of the request, such as gpt-4o-mini.")],
    prompt: Annotated[str, typer.Option("--prompt", "-m", help="The user's message.")] = "Hello!",
    max_tokens: Annotated[Optional[int], typer.Option("--max-tokens", min=1, help="Bound of its output.")] = None,  # noqa: UP045
    on: On = None,
    url: Url = None,
    store: Store = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Say whether a request would fit its budgets now. Nothing is sent. The exit status is 1 when it would not."""
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": prompt}], "tags": {}}
    if max_tokens is not None:
        body["max_tokens"] = max_tokens
    for kind, name in read_on(on or [], many_tags=True):
        if kind == "model":
            raise CliError("The model is the argument: `budgets check MODEL`.", USAGE)
        if kind in _FIELDS:
            body[_FIELDS[kind]] = name
        else:
            tag, _, value = name.partition("=") if kind == "tag" else (kind.replace("-", "_"), "", name)
            body["tags"][tag.strip()] = value.strip()
    with open_service(Where(url, store, env_file)) as service:
        checked = service.send("POST", f"{_PATH}/check", body)
    if as_json:
        print_json(checked)
    else:
        _print_check(checked)
    if not checked["allowed"]:
        raise typer.Exit(FAILED)


def _print_check(checked: dict[str, Any]) -> None:
    word = "It fits." if checked["allowed"] else "It would wait." if checked["would_wait"] else "It would be refused."
    say(f"{word} {checked['reason']}".strip())
    estimate = checked["estimate"]
    say(f"Set aside for it: ${_digits(estimate['amount'])} ({estimate['estimation_method'].replace('_', ' ')}).")
    if checked["max_output_tokens"] is not None:
        say(f"With --max-tokens {checked['max_output_tokens']} it would fit.")
    if checked["budgets"]:
        columns = ["budget", "covers", "limit", "left", "used", "mode", "fits"]
        rows: list[list[Text | str]] = []
        for one in checked["budgets"]:
            fits = styled("no", "red") if one["id"] in checked["violated"] else styled("yes", "green")
            mode, used = one["enforcement_mode"], bar(one["used_ratio"])
            rows.append([_called(one), _covers(one), _limit(one), f"${one['remaining']}", used, mode, fits])
        print_table(columns, rows)
    else:
        note("No budget covers it.")


def _budgets(service: Service) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = service.get(_PATH)["data"]
    return found


def _find(service: Service, name: str) -> dict[str, Any]:
    """The budget of this id, beginning of an id, or name. Raises CliError when none or several fit."""
    budgets = _budgets(service)
    fits = [one for one in budgets if name == one["id"]] or [one for one in budgets if name == one["name"] != ""]
    if not fits and len(name) >= 2:
        fits = [one for one in budgets if one["id"].startswith(name) or one["id"].startswith(f"budget_{name}")]
    if len(fits) == 1:
        return fits[0]
    if fits:
        listed = ", ".join(f"{one['id']} ({_limit(one)} for {_covers(one)})" for one in fits[:5])
        raise CliError(f"Several budgets fit {name!r}: {listed}. Give the id of one of them.", USAGE)
    called = [_called(one) for one in budgets[:8]]
    there = f"There are: {', '.join(called)}." if called else "There is no budget at all."
    raise CliError(f"No budget has the id or name {name!r}. {there}", FAILED)


def _path(budget: dict[str, Any]) -> str:
    return f"{_PATH}/{quote(budget['id'], safe='')}"


def _called(budget: dict[str, Any]) -> str:
    return f"{budget['name']} ({budget['id']})" if budget["name"] else str(budget["id"])


def _covers(budget: dict[str, Any]) -> str:
    scope = budget["scope"]
    if scope == "global":
        return "everything"
    kind = {"per_route": "model", "per_virtual_key": "virtual key"}.get(scope, scope.removeprefix("per_"))
    return f"{kind} {budget['scope_name']}"


_PER = {"minute": "minute", "hourly": "hour", "daily": "day", "weekly": "week", "monthly": "month"}
_ROLLING = {"minute": "in any minute", "hourly": "in any hour", "daily": "in any 24 hours", "weekly": "in any 7 days",
            "monthly": "in any 30 days"}  # fmt: skip


def _limit(budget: dict[str, Any]) -> str:
    period = budget["period"]
    if period == "total":
        return f"${budget['limit_amount']} in all"
    if budget["rolling"]:
        return f"${budget['limit_amount']} {_ROLLING[period]}"
    zone = "" if budget["time_zone"] == "UTC" else f" ({budget['time_zone']})"
    return f"${budget['limit_amount']} a {_PER[period]}{zone}"


def _rule(budget: dict[str, Any]) -> str:
    if budget["enforcement_mode"] == "hard":
        return "What might not fit is refused with status 402, before it is sent."
    return "Nothing is refused; alerts tell when 50, 80, 95 and 100 % are spent."


def _digits(amount: str) -> str:
    return format(Decimal(amount), "f")


def _row(budget: dict[str, Any]) -> list[Text | str]:
    return [
        budget["id"],
        budget["name"],
        _covers(budget),
        _limit(budget),
        f"${budget['current_spend']}",
        f"${budget['held']}",
        f"${budget['remaining']}",
        bar(budget["used_ratio"]),
        budget["enforcement_mode"],
        moment(budget["reset_at"]),
        came_from(budget),
    ]
