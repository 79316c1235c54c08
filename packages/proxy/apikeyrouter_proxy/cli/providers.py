"""`providers`: who can serve: those that are registered, and those that are known: list, show, add, remove."""

from __future__ import annotations

from typing import Annotated, Any, Optional
from urllib.parse import quote

import typer

from apikeyrouter_proxy.cli.completing import provider_ids
from apikeyrouter_proxy.cli.console import came_from, note, print_json, print_table, say
from apikeyrouter_proxy.cli.failures import FAILED, CliError
from apikeyrouter_proxy.cli.options import AsJson, EnvFile, Store, Url
from apikeyrouter_proxy.cli.service import Where, open_service

__all__ = ["register"]

_PATH = "/api/v1/providers"
_Name = Annotated[
    str,
    typer.Argument(
        metavar="PROVIDER", help="Such as groq, or the id that it was added with.", autocompletion=provider_ids
    ),
]


def register(app: typer.Typer) -> None:
    """Adds the group."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="See and add providers.")
    group.command("list")(list_)
    for verb in (show, add, remove):
        group.command(verb.__name__)(verb)
    app.add_typer(group, name="providers")


def list_(
    known: Annotated[bool, typer.Option("--known", help="Those that could be added by name.")] = False,
    url: Url = None,
    store: Store = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """List the providers that are registered; with --known, those that can be added by their name."""
    if known:
        _list_known(as_json=as_json)
        return
    with open_service(Where(url, store, env_file)) as service:
        rows = service.get(_PATH)["data"]
    if as_json:
        print_json(rows)
        return
    cells = [[r["id"], r["base_url"], f"{r['keys_usable']} of {r['keys']}", r["dialect"], came_from(r)] for r in rows]
    print_table(["provider", "base URL", "usable keys", "dialect", "from"], cells)
    note("`apikeyrouter providers list --known` shows those that can be added by name.")


def show(name: _Name, as_json: AsJson = False) -> None:
    """Show what is known about a provider: address, keys, endpoints, peculiarities, documentation."""
    from apikeyrouter.infrastructure.catalogue.providers import NATIVE, find_row, unknown_provider

    row = find_row(name)
    if row is None and name in NATIVE:
        about, keys, docs = NATIVE[name]
        if as_json:
            print_json({"id": name, "name": about, "keys": keys, "docs": docs})
            return
        say(f"{about} ({name}) has an adapter of its own.")
        say(f"Keys: {keys}")
        say(f"Documentation: {docs}, and docs/how-to/providers.md here")
        return
    if row is None:
        raise CliError(unknown_provider(name), FAILED)
    if as_json:
        import msgspec

        print_json({**msgspec.to_builtins(row), "quirks": sorted(row.quirks)})
        return
    say(f"{row.name} ({row.id}{''.join(f', {alias}' for alias in row.aliases)})")
    say(f"Base URL: {row.base_url} ({row.base_env} puts it elsewhere)")
    say(f"Keys: {_keys(row.env, row.shared_env, keyless=row.keyless)}")
    say(f"Endpoints: {', '.join(row.operations.values())}")
    say(f"Peculiarities: {', '.join(sorted(row.quirks)) or 'none'}")
    if row.refuses:
        say(f"Refuses: {', '.join(row.refuses)}")
    say(f"Documentation: {row.docs} (checked {row.checked})")


def add(
    name: _Name,
    base_url: Annotated[
        Optional[str],  # noqa: UP045 - typer reads it at run time
        typer.Option("--base-url", help="Where it lives; needed for servers that are not known."),
    ] = None,
    as_id: Annotated[Optional[str], typer.Option("--as", metavar="ID", help="Register it under this id.")] = None,  # noqa: UP045
    allow_private: Annotated[bool, typer.Option("--allow-private", help="It is in a private network.")] = False,
    url: Url = None,
    store: Store = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Add a known provider by its name, or any OpenAI-compatible server with --base-url."""
    from apikeyrouter.infrastructure.catalogue.providers import NATIVE, find_row, unknown_provider

    row = find_row(name)
    known = row.id if row is not None else name if name in NATIVE else ""
    if not known and base_url is None:
        raise CliError(unknown_provider(name), FAILED)
    provider_id = as_id or known or name
    body: dict[str, Any] = {"id": provider_id, "known": known}
    body |= {"base_url": base_url} if base_url else {}
    body |= {"allow_private": True} if allow_private else {}
    with open_service(Where(url, store, env_file)) as service:
        made = service.send("POST", _PATH, body)
    if as_json:
        print_json(made)
        return
    say(f"Added provider {made['id']} at {made['base_url']}.")
    if not made["keys"]:
        note(f"It needs a key: `apikeyrouter keys add --provider {made['id']}`.")


def remove(name: _Name, url: Url = None, store: Store = None, env_file: EnvFile = None) -> None:
    """Remove a provider that was added and has no keys left."""
    with open_service(Where(url, store, env_file)) as service:
        service.send("DELETE", f"{_PATH}/{quote(name, safe='')}")
    say(f"Removed provider {name}.")


def _list_known(*, as_json: bool) -> None:
    from apikeyrouter.infrastructure.catalogue.providers import NATIVE, rows

    known = list(rows().values())
    if as_json:
        import msgspec

        print_json([{**msgspec.to_builtins(row), "quirks": sorted(row.quirks)} for row in known])
        return
    cells = [[name, about, "its own adapter", keys, docs] for name, (about, keys, docs) in NATIVE.items()]
    cells += [
        [row.id, row.name, row.base_url, _keys(row.env, row.shared_env, keyless=row.keyless), row.docs] for row in known
    ]
    print_table(["provider", "name", "base URL", "keys from", "documentation"], cells)


def _keys(env: tuple[str, ...], shared: tuple[str, ...], *, keyless: bool) -> str:
    told = [", ".join(env)] if env else []
    told += [f"not read by itself: {', '.join(shared)}"] if shared else []
    told += ["works without"] if keyless else []
    return "; ".join(told)
