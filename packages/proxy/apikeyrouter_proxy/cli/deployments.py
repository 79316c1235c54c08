"""`deployments`: names that stand for several models, and fallbacks: list, show, set, delete, check."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from apikeyrouter_proxy.cli.completing import deployment_names
from apikeyrouter_proxy.cli.console import came_from, note, print_json, print_table, say
from apikeyrouter_proxy.cli.documents import Document, check_all, read_documents, set_all
from apikeyrouter_proxy.cli.options import AsJson, EnvFile, Store, Url
from apikeyrouter_proxy.cli.service import Where, open_service

__all__ = ["register"]

_PATH = "/api/v1/deployments"
_Name = Annotated[str, typer.Argument(metavar="NAME", help="As requests name it.", autocompletion=deployment_names)]


def register(app: typer.Typer) -> None:
    """Adds the group."""
    group = typer.Typer(
        no_args_is_help=True, rich_markup_mode=None, help="Let a name stand for several models, and give it fallbacks."
    )
    for verb in (show, set_, delete, check):
        group.command(verb.__name__.rstrip("_"))(verb)
    group.command("list")(list_)
    app.add_typer(group, name="deployments")


def list_(url: Url = None, store: Store = None, env_file: EnvFile = None, as_json: AsJson = False) -> None:
    """List deployments: what stands behind a name, and what is tried after it."""
    with open_service(Where(url, store, env_file)) as service:
        rows = service.get(_PATH)["data"]
    if as_json:
        print_json(rows)
    elif not rows:
        say("There are no deployments: every name is a model of a provider.")
    else:
        print_table(["name", "targets", "fallbacks", "when too long", "from"], [_cells(row) for row in rows])
        for row in rows:
            for told in row["notes"]:
                note(f"{row['name']}: {told}.")


def show(name: _Name, url: Url = None, store: Store = None, env_file: EnvFile = None, as_json: AsJson = False) -> None:
    """Show a deployment: its targets with their keys, and its fallbacks."""
    with open_service(Where(url, store, env_file)) as service:
        found = service.get(f"{_PATH}/{quote(name, safe='/*:')}")
    if as_json:
        print_json(found)
        return
    columns = ["provider", "model", "weight", "keys", "price", "context"]
    cells = [
        [
            one["provider"],
            one["model"],
            f"{one['weight']:g}",
            "not registered" if one["keys"] is None else str(one["keys"]),
            "known" if one["priced"] else "unknown",
            f"{one['context_window']:,}" if one["context_window"] else "unknown",
        ]
        for one in found["targets"]
    ]
    if cells:
        print_table(columns, cells)
    say(
        f"Then: {', '.join(found['fallbacks']) or 'nothing'}. When too long: {_or_nothing(found['context_fallbacks'])}."
    )
    for told in found["notes"]:
        note(f"{name}: {told}.")


def set_(
    document: Document, url: Url = None, store: Store = None, env_file: EnvFile = None, as_json: AsJson = False
) -> None:
    """Set deployments: '{"name": "fast-chat", "targets": ["openai/gpt-4o-mini", "groq/llama-3.3-70b-versatile"]}'.

    Targets may be objects: provider, model, weight, tags, region, keys, without, context_window. Also fallbacks and
    context_fallbacks, in the order in which they are tried. A deployment of the same name is replaced whole.
    """
    rows = read_documents(document, "deployments", "name")
    with open_service(Where(url, store, env_file)) as service:
        set_all(service, _PATH, rows, "name", word="deployment", as_json=as_json)


def delete(name: _Name, url: Url = None, store: Store = None, env_file: EnvFile = None) -> None:
    """Delete a deployment; the name means again what providers mean by it."""
    with open_service(Where(url, store, env_file)) as service:
        service.send("DELETE", f"{_PATH}/{quote(name, safe='/*:')}")
    say(f"Deleted deployment {name}.")


def check(
    document: Document, url: Url = None, store: Store = None, env_file: EnvFile = None, as_json: AsJson = False
) -> None:
    """Say whether deployments could be set, and what may not have been meant; changes nothing."""
    rows = read_documents(document, "deployments", "name")
    with open_service(Where(url, store, env_file)) as service:
        check_all(service, _PATH, rows, "name", as_json=as_json)


def _cells(row: dict[str, Any]) -> list[str]:
    targets = [
        f"{one['provider']}/{one['model']}" + (f" x{one['weight']:g}" if one["weight"] != 1 else "")
        for one in row["targets"]
    ]
    return [
        row["name"],
        ", ".join(targets) or "the model itself",
        ", ".join(row["fallbacks"]),
        ", ".join(row["context_fallbacks"]),
        came_from(row),
    ]


def _or_nothing(names: list[str]) -> str:
    return ", ".join(names) or "nothing"
