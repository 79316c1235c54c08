"""`virtual-keys`: the credentials that the proxy issues to its own clients: create, list, update, limit, revoke."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Optional, get_type_hints
from urllib.parse import quote

import typer

from apikeyrouter_proxy.cli.completing import virtual_key_names
from apikeyrouter_proxy.cli.console import came_from, note, print_json, print_table, say, styled
from apikeyrouter_proxy.cli.failures import USAGE, CliError
from apikeyrouter_proxy.cli.options import AsJson, EnvFile, Store, Url
from apikeyrouter_proxy.cli.service import Service, Where, open_service
from apikeyrouter_proxy.cli.times import moment

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["register"]

_PATH = "/api/v1/virtual-keys"
_Names = Optional[list[str]]  # noqa: UP045 - typer reads it at run time
_Count = Optional[int]  # noqa: UP045
_Text = Optional[str]  # noqa: UP045
_Days = Optional[float]  # noqa: UP045
_ANY = ("any", "all")


@dataclass(frozen=True, slots=True)
class _Limits:
    """What a key may use, as options; None: not given."""

    rpm: Annotated[_Count, typer.Option("--rpm", min=0, help="Requests in any 60 seconds; 0: no limit.")] = None
    tpm: Annotated[_Count, typer.Option("--tpm", min=0, help="Tokens in any 60 seconds; 0: no limit.")] = None
    parallel: Annotated[_Count, typer.Option("--parallel", min=0, help="Requests under way; 0: no limit.")] = None
    weight: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--weight", min=0.001, max=1000, help="Its share while requests wait (others have 1)."),
    ] = None

    def body(self) -> dict[str, Any]:
        """What was given, as the API takes it; a limit of 0 is none."""
        given = {"rpm": self.rpm, "tpm": self.tpm, "parallel": self.parallel}
        body: dict[str, Any] = {name: value or None for name, value in given.items() if value is not None}
        return body if self.weight is None else {**body, "weight": self.weight}


_UNLIMITED = _Limits()


def _with_limits(work: Callable[..., None]) -> Callable[..., None]:
    """The command `work` with the fields of `_Limits` as options, in the place of its argument `limits`."""
    hints = get_type_hints(_Limits, include_extras=True)
    options = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hints[field.name])
        for field in fields(_Limits)
    ]
    own = [one.replace(kind=one.KEYWORD_ONLY) for one in inspect.signature(work, eval_str=True).parameters.values()]
    place = next(number for number, one in enumerate(own) if one.name == "limits")
    parameters = [*own[:place], *options, *own[place + 1 :]]

    def command(**given: Any) -> None:
        limits = _Limits(**{option.name: given.pop(option.name) for option in options})
        work(limits=limits, **given)

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # typer reads it
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__doc__ = work.__doc__
    return command


def register(app: typer.Typer) -> None:
    """Adds the group."""
    group = typer.Typer(
        no_args_is_help=True,
        rich_markup_mode=None,
        help="Issue keys of this proxy to clients, list, change, limit and revoke them.",
    )
    group.command("create")(_with_limits(create))
    group.command("list")(list_)
    group.command("update")(_with_limits(update))
    group.command("limit")(_with_limits(limit))
    group.command("revoke")(revoke)
    app.add_typer(group, name="virtual-keys")


def create(
    name: Annotated[str, typer.Argument(help="Who or what it is for.")],
    admin: Annotated[bool, typer.Option("--admin", help="It opens the management API too.")] = False,
    model: Annotated[_Names, typer.Option("--model", help="Only these models (patterns; may be repeated).")] = None,
    provider: Annotated[_Names, typer.Option("--provider", help="Only these providers (may be repeated).")] = None,
    team: Annotated[Optional[str], typer.Option("--team", help="Whose budgets and reports count its requests.")] = None,  # noqa: UP045
    tag: Annotated[
        _Names, typer.Option("--tag", metavar="NAME=VALUE", help="Goes with each request (may be repeated).")
    ] = None,
    days: Annotated[Optional[float], typer.Option("--days", min=0.001, help="Ends after so many days.")] = None,  # noqa: UP045
    limits: _Limits = _UNLIMITED,
    url: Url = None,
    store: Store = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Issue a key. It is shown this once. The first one ends open mode: from then on callers need a key."""
    body: dict[str, Any] = {"name": name, "role": "admin" if admin else "client"}
    body |= {name: value for name, value in limits.body().items() if value is not None}
    if model:
        body["models"] = model
    if provider:
        body["providers"] = provider
    if team:
        body["team"] = team
    if tag:
        body["tags"] = _tags(tag)
    if days is not None:
        body["expires_at"] = _in_days(days)
    with open_service(Where(url, store, env_file)) as service:
        issued = service.send("POST", _PATH, body)
    if as_json:
        print_json(issued)
        return
    note(f"Virtual key {issued['id']} for {issued['name']}. Keep it now: it is stored as a hash and not shown again.")
    say(issued["key"])
    if issued.get("closes_open_mode"):
        note("From now on every caller needs a key: this was the first one.")


def list_(url: Url = None, store: Store = None, env_file: EnvFile = None, as_json: AsJson = False) -> None:
    """List the issued keys, revoked and expired ones too; never their secrets."""
    with open_service(Where(url, store, env_file)) as service:
        keys = service.get(_PATH)["data"]
    if as_json:
        print_json(keys)
    elif not keys:
        say("No virtual key was issued. Make one with `apikeyrouter virtual-keys create NAME`.")
    else:
        columns = ["id", "name", "role", "state", "team", "models", "providers", "limits", "created", "expires", "from"]
        print_table(columns, [_row(key) for key in keys])


def update(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Its id or name.", autocompletion=virtual_key_names)],
    name: Annotated[_Text, typer.Option("--name", help="What it is called from now on.")] = None,
    model: Annotated[_Names, typer.Option("--model", help="Only these models (may be repeated); any: all.")] = None,
    provider: Annotated[
        _Names, typer.Option("--provider", help="Only these providers (may be repeated); any: all.")
    ] = None,
    team: Annotated[_Text, typer.Option("--team", help="Whose budgets count it; an empty text: no team's.")] = None,
    tag: Annotated[
        _Names, typer.Option("--tag", metavar="NAME=VALUE", help="All its tags (may be repeated); an empty text: none.")
    ] = None,
    days: Annotated[_Days, typer.Option("--days", min=0, help="Ends so many days from now; 0: never.")] = None,
    limits: _Limits = _UNLIMITED,
    url: Url = None,
    store: Store = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Change what is given and leave the rest as it is: name, models, providers, team, tags, end, limits. It holds at
    once, in every process. The key itself and its role stay."""
    body: dict[str, Any] = limits.body()
    for member, given in (("models", model), ("providers", provider)):
        if given:
            body[member] = None if any(one.lower() in _ANY for one in given) else given
    if name is not None:
        body["name"] = name
    if team is not None:
        body["team"] = team.strip() or None
    if tag:
        body["tags"] = _tags([one for one in tag if one.strip()])
    if days is not None:
        body["expires_at"] = _in_days(days) if days else None
    if not body:
        raise CliError("Say what to change, such as --model, --team, --days or --rpm; --help lists everything.", USAGE)
    changed = _change(Where(url, store, env_file), key, body)
    if as_json:
        print_json(changed)
    else:
        say(f"Virtual key {changed['id']} ({changed['name']}) is changed: {', '.join(sorted(body))}.")


def limit(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Its id or name.", autocompletion=virtual_key_names)],
    limits: _Limits = _UNLIMITED,
    url: Url = None,
    store: Store = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Change a key's limits; the others stay as they are. It holds at once."""
    body = limits.body()
    if not body:
        raise CliError("Say what to change: --rpm, --tpm, --parallel or --weight (0 takes a limit away).", USAGE)
    changed = _change(Where(url, store, env_file), key, body)
    if as_json:
        print_json(changed)
    else:
        say(f"Virtual key {changed['id']} ({changed['name']}): {_limits_of(changed) or 'no limits'}.")


def _change(where: Where, key: str, body: dict[str, Any]) -> dict[str, Any]:
    """The key as it is then. `key`: its id or name."""
    with open_service(where) as service:
        changed: dict[str, Any] = service.send("PATCH", f"{_PATH}/{quote(_find(service, key), safe='')}", body)
    return changed


def revoke(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Its id or name.", autocompletion=virtual_key_names)],
    url: Url = None,
    store: Store = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """End a key at once."""
    with open_service(Where(url, store, env_file)) as service:
        revoked = service.send("DELETE", f"{_PATH}/{quote(_find(service, key), safe='')}")
    if as_json:
        print_json(revoked)
    else:
        say(f"Virtual key {revoked['id']} ({revoked['name']}) is revoked.")


def _in_days(days: float) -> str:
    from apikeyrouter.infrastructure.clock import SystemClock

    return (SystemClock().utc_now() + timedelta(days=days)).isoformat()


def _limits_of(key: dict[str, Any]) -> str:
    names = {"rpm": "rpm", "tpm": "tpm", "parallel": "at once"}
    shown = [f"{key[field]:,} {name}" for field, name in names.items() if key.get(field) is not None]
    if key.get("weight", 1.0) != 1.0:
        shown.append(f"weight {key['weight']:g}")
    return ", ".join(shown)


def _tags(given: list[str]) -> dict[str, str]:
    from apikeyrouter_proxy.budget_forms import tag as read_tag

    try:
        pairs = [read_tag(one).partition("=") for one in given]
    except ValueError as fault:
        raise CliError(f"--tag: {fault}", USAGE) from None
    return {name: value for name, _, value in pairs}


def _find(service: Service, name: str) -> str:
    """The id of the virtual key of this id or name. The name may be a pasted secret, so it is never repeated."""
    keys = service.get(_PATH)["data"]
    fits = [key for key in keys if key["id"] == name]
    fits = fits or [key for key in keys if key["name"] == name and key["active"]]
    if len(fits) > 1:
        raise CliError(f"{len(fits)} virtual keys have this name; give the id of one of them.", USAGE)
    if not fits:
        raise CliError("No virtual key has this id or name; `apikeyrouter virtual-keys list` shows them all.")
    found: str = fits[0]["id"]
    return found


def _row(key: dict[str, Any]) -> list[Text | str]:
    state = "active" if key["active"] else "revoked" if key["revoked_at"] else "expired"
    return [
        key["id"],
        key["name"],
        key["role"],
        styled(state, "green" if key["active"] else "dim"),
        key.get("team") or "",
        ", ".join(key["models"]) if key["models"] else "all",
        ", ".join(key["providers"]) if key["providers"] else "all",
        _limits_of(key) or "none",
        moment(key["created_at"]),
        moment(key["expires_at"]),
        came_from(key),
    ]
