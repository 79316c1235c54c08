"""`policies`: who may serve whom, and what requests are optimised for: list, show, set, delete, check."""

from __future__ import annotations

from typing import Annotated, Any, Optional
from urllib.parse import quote, urlencode

import typer

from apikeyrouter_proxy.cli.completing import policy_ids
from apikeyrouter_proxy.cli.console import came_from, print_json, print_table, say
from apikeyrouter_proxy.cli.documents import Document, check_all, read_documents, set_all
from apikeyrouter_proxy.cli.options import AsJson, EnvFile, Store, Url
from apikeyrouter_proxy.cli.service import Where, open_service

__all__ = ["register"]

_PATH = "/api/v1/policies"
_Id = Annotated[str, typer.Argument(metavar="ID", help="The policy's id.", autocompletion=policy_ids)]
_HEAD = ("id", "scope", "scope_id", "priority", "enabled", "note")


def register(app: typer.Typer) -> None:
    """Adds the group."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Say who may serve whom, and for what.")
    for verb in (show, set_, delete, check):
        group.command(verb.__name__.rstrip("_"))(verb)
    group.command("list")(list_)
    app.add_typer(group, name="policies")


def list_(
    model: Annotated[Optional[str], typer.Option("--model", "-m", help="Only those with a say about it.")] = None,  # noqa: UP045
    team: Annotated[Optional[str], typer.Option("--team", help="With --model: whose request it is.")] = None,  # noqa: UP045
    virtual_key: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--virtual-key", help="With --model: whose request it is (id or name)."),
    ] = None,
    url: Url = None,
    store: Store = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """List policies, the highest priority first; with --model those that a request would meet."""
    asked = {"model": model, "team": team, "virtual_key": virtual_key}
    query = urlencode({name: value for name, value in asked.items() if value is not None})
    with open_service(Where(url, store, env_file)) as service:
        rows = service.get(f"{_PATH}?{query}")["data"]
    if as_json:
        print_json(rows)
    elif not rows:
        say("No policy has a say about that." if model else "There are no policies: every key may serve everybody.")
    else:
        print_table(["id", "covers", "priority", "on", "says", "from"], [_cells(row) for row in rows])


def show(policy: _Id, url: Url = None, store: Store = None, env_file: EnvFile = None, as_json: AsJson = False) -> None:
    """Show a policy as it was written."""
    with open_service(Where(url, store, env_file)) as service:
        found = service.get(f"{_PATH}/{quote(policy)}")
    print_json(found if as_json else found["document"])


def set_(
    document: Document, url: Url = None, store: Store = None, env_file: EnvFile = None, as_json: AsJson = False
) -> None:
    """Set policies: '{"id": "eu-only", "scope": "team", "scope_id": "research", "allowed_regions": ["eu-*"]}'.

    Fields: scope and scope_id; allowed_ and blocked_ providers, keys, models, regions, tags; max_cost, min_reliability;
    objective with override; fallbacks; priority; enabled; note. A policy of the same id is replaced whole.
    """
    rows = read_documents(document, "policies", "id")
    with open_service(Where(url, store, env_file)) as service:
        set_all(service, _PATH, rows, "id", word="policy", as_json=as_json)


def delete(policy: _Id, url: Url = None, store: Store = None, env_file: EnvFile = None) -> None:
    """Delete a policy; what it forbade is allowed again."""
    with open_service(Where(url, store, env_file)) as service:
        service.send("DELETE", f"{_PATH}/{quote(policy)}")
    say(f"Deleted policy {policy}.")


def check(
    document: Document, url: Url = None, store: Store = None, env_file: EnvFile = None, as_json: AsJson = False
) -> None:
    """Say whether policies could be set, and what may not have been meant; changes nothing."""
    rows = read_documents(document, "policies", "id")
    with open_service(Where(url, store, env_file)) as service:
        check_all(service, _PATH, rows, "id", as_json=as_json)


def _cells(row: dict[str, Any]) -> list[str]:
    covers = row["scope"].removeprefix("per_") + (f" {row['scope_id']}" if row["scope_id"] else "")
    says = [f"{name}={_shown(value)}" for name, value in row["document"].items() if name not in _HEAD]
    on = "yes" if row["enabled"] else "no"
    return [row["id"], covers, str(row["priority"]), on, ", ".join(says), came_from(row)]


def _shown(value: object) -> str:
    if isinstance(value, list):
        return "|".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
