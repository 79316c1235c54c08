"""`keys`: the provider keys: add, list, show, disable, enable, rotate, revoke, check.

A key is named by its label, its id, or the beginning of its id. Laws: material comes from standard input or a prompt
and never from the command line; what nobody recognises as a key's name is not repeated, since it may be material.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Optional
from urllib.parse import quote

import typer

from apikeyrouter_proxy.cli.console import STATE_STYLES, about, came_from, note, print_json, print_table, say, styled
from apikeyrouter_proxy.cli.failures import FAILED, USAGE, CliError
from apikeyrouter_proxy.cli.options import AsJson, EnvFile, KeyName, Store, Surplus, Url, Yes, refuse_surplus
from apikeyrouter_proxy.cli.progress import steps
from apikeyrouter_proxy.cli.service import Service, Where, open_service
from apikeyrouter_proxy.cli.times import moment

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["find_key", "known_keys", "register"]

_PATH = "/api/v1/keys"
_SIMULATED = "simulated"
_FromStdin = Annotated[bool, typer.Option("--stdin", help="Read the secret from standard input.")]
_Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; kept in the key's history.")]


def register(app: typer.Typer) -> None:
    """Adds the group."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Add, list and change provider keys.")
    for verb in (add, show, disable, enable, rotate, revoke, check):
        group.command(verb.__name__)(verb)
    group.command("list")(list_)
    app.add_typer(group, name="keys")


def add(
    surplus: Surplus = None,
    provider: Annotated[str, typer.Option("--provider", help="The id of the provider that it belongs to.")] = "openai",
    label: Annotated[Optional[str], typer.Option("--label", "-l", help="A short name, safe to show.")] = None,  # noqa: UP045
    meta: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--meta", metavar="NAME=VALUE", help="weight, rpm, tpm, models, cost_per_1k, base_url, tags ..."),
    ] = None,
    from_stdin: _FromStdin = False,
    url: Url = None,
    store: Store = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Add a key. The secret is asked for, or read from standard input (one a line; several lines add several keys)."""
    refuse_surplus(surplus)
    metadata = _metadata(meta or [])
    where = Where(url, store, env_file)
    from apikeyrouter_proxy.cli.secrets_in import read_secrets

    materials = read_secrets(f"Secret of the new {provider} key (not shown): ", from_stdin=from_stdin)
    added: list[dict[str, Any]] = []
    with open_service(where) as service:
        for number, material in enumerate(materials, start=1):
            body: dict[str, Any] = {"key_material": material, "provider_id": provider}
            if label:
                body["label"] = label if len(materials) == 1 else f"{label}-{number}"
            if metadata:
                body["metadata"] = metadata
            try:
                added.append(service.send("POST", _PATH, body))
            except CliError as refused:
                done = f" The {len(added)} before it were added." if added else ""
                line = f"Line {number}: " if len(materials) > 1 else ""
                raise CliError(f"{line}{_without(refused.message, materials)}{done}", refused.status) from None
            if not as_json:
                say(f"Added {added[-1]['label']} ({added[-1]['id']}) to {provider}.")
    if as_json:
        print_json(added[0] if len(added) == 1 else added)
    else:
        which = (
            f"it: `apikeyrouter keys check {shlex.quote(added[0]['label'])}`"
            if len(added) == 1
            else "them: `apikeyrouter keys check`"
        )
        note(f"Try {which}.")


def list_(
    provider: Annotated[Optional[str], typer.Option("--provider", help="Only keys of this provider.")] = None,  # noqa: UP045
    url: Url = None,
    store: Store = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """List the keys with their state, why they are in it and until when."""
    with open_service(Where(url, store, env_file)) as service:
        keys = known_keys(service, provider)
    if as_json:
        print_json(keys)
        return
    if not keys:
        say("No key is registered. Add one with `apikeyrouter keys add`, or set OPENAI_API_KEY for `serve`.")
        return
    columns = ["label", "id", "provider", "state", "why and until", "uses", "failures", "in flight", "last used"]
    columns.append("from")
    print_table(columns, [_row(key) for key in keys])


def show(key: KeyName, url: Url = None, store: Store = None, env_file: EnvFile = None, as_json: AsJson = False) -> None:
    """Show one key with its history."""
    with open_service(Where(url, store, env_file)) as service:
        found = find_key(service, key)
        history = service.get(f"{_path(found)}/history")["data"]
    if as_json:
        print_json({**found, "history": history})
        return
    shown = {
        "label": found["label"],
        "id": found["id"],
        "provider": found["provider_id"],
        "state": found["state"] + (f": {found['state_reason']}" if found["state_reason"] else ""),
        "until": moment(found["cooldown_until"]),
        "uses": f"{found['usage_count']} ({found['failure_count']} failed, {found['in_flight']} in flight)",
        "created": moment(found["created_at"]),
        "last used": moment(found["last_used_at"]),
        "comes from": came_from(found),
        "secret": f"version {found['version']}",
        "quota pool": found["pool_id"] if found["pool_id"] != found["id"] else "its own",
        "metadata": json.dumps(found["metadata"]) if found["metadata"] else "-",
    }
    for name, value in shown.items():
        say(f"{name:<12}{value}")
    if history:
        print_table(
            ["when", "from", "to", "why", "evidence", "until", "by"], [_line(one) for one in history], title="History"
        )


def disable(
    key: KeyName,
    reason: _Reason = "",
    url: Url = None,
    store: Store = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Take a key out of service until it is enabled."""
    _act("disable", key, reason, Where(url, store, env_file), as_json=as_json)


def enable(
    key: KeyName,
    reason: _Reason = "",
    url: Url = None,
    store: Store = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Put a key into service now, whatever it waited for."""
    _act("enable", key, reason, Where(url, store, env_file), as_json=as_json)


def rotate(
    key: KeyName,
    surplus: Surplus = None,
    from_stdin: _FromStdin = False,
    overlap: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--overlap", min=0, help="Seconds for which the old secret stays usable as a way back."),
    ] = None,
    url: Url = None,
    store: Store = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Give a key a new secret. Its id, label, limits and history stay."""
    refuse_surplus(surplus)
    where = Where(url, store, env_file)
    from apikeyrouter_proxy.cli.secrets_in import read_secret

    with open_service(where) as service:
        found = find_key(service, key)
        material = read_secret(f"New secret of {found['label']} (not shown): ", from_stdin=from_stdin)
        body: dict[str, Any] = {"key_material": material}
        if overlap is not None:
            body["overlap_s"] = overlap
        try:
            rotated = service.send("POST", f"{_path(found)}/rotate", body)
        except CliError as refused:
            raise CliError(_without(refused.message, [material]), refused.status) from None
    if as_json:
        print_json(rotated)
        return
    until = moment(rotated.get("draining_until"))
    say(f"{rotated['label']} uses secret version {rotated['version']} from now on; the old one is kept until {until}.")


def revoke(
    key: KeyName,
    reason: _Reason = "",
    yes: Yes = False,
    url: Url = None,
    store: Store = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Retire a key for good and destroy its stored secret."""
    with open_service(Where(url, store, env_file)) as service:
        found = find_key(service, key)
        if not yes and sys.stdin.isatty():
            typer.confirm(f"Retire {found['label']} ({found['id']}) for good?", abort=True, err=True)
        query = f"?reason={quote(reason, safe='')}" if reason else ""
        revoked = service.send("DELETE", f"{_path(found)}{query}")
    if as_json:
        print_json(revoked)
    else:
        say(f"{revoked['label']} ({revoked['id']}) is {revoked['state']} for good; its secret is destroyed here.")


def check(
    key: Annotated[Optional[str], typer.Argument(metavar="KEY", help="Default: every key.")] = None,  # noqa: UP045
    url: Url = None,
    store: Store = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Try keys at their provider (lists models, costs nothing). The exit status is 1 when one does not work."""
    with open_service(Where(url, store, env_file)) as service:
        keys = [find_key(service, key)] if key else known_keys(service)
        results = []
        with steps("Trying keys", len(keys), quiet=as_json) as step:
            for one in keys:
                results.append({**service.send("POST", f"{_path(one)}/check"), "label": one["label"]})
                step(one["label"])
    if as_json:
        print_json(results)
    else:
        rows: list[list[Text | str]] = []
        for one in results:
            word = styled("works", "green") if one["ok"] else styled("fails", "red")
            rows.append([one["label"], word, about(one["status"]), about(one["models"]), one["detail"]])
        print_table(["label", "result", "status", "models", "what the provider says"], rows)
    if not all(one["ok"] for one in results):
        raise typer.Exit(FAILED)


def known_keys(service: Service, provider: str | None = None) -> list[dict[str, Any]]:
    """Every key, oldest first. Simulated keys of this very process are left out: they end with it."""
    query = f"?provider_id={quote(provider, safe='')}" if provider else ""
    keys: list[dict[str, Any]] = service.get(f"{_PATH}{query}")["data"]
    return keys if service.origin else [key for key in keys if key["provider_id"] != _SIMULATED]


def find_key(service: Service, name: str) -> dict[str, Any]:
    """The key of this label, id or beginning of an id. Raises CliError when none or several fit."""
    keys = known_keys(service)
    fits = [key for key in keys if name in (key["id"], key["label"])]
    fits = fits or [key for key in keys if len(name) >= 2 and _begins(key["id"], name)]
    if len(fits) == 1:
        return fits[0]
    if fits:
        listed = ", ".join(f"{key['label']} ({key['id']})" for key in fits[:5])
        raise CliError(f"Several keys have this name: {listed}. Give the id of one of them.", USAGE)
    labels = [key["label"] for key in keys]
    shown = ", ".join(labels[:8]) + (f" and {len(labels) - 8} more" if len(labels) > 8 else "")
    known = f"There are: {shown}." if labels else "No key is registered at all."
    raise CliError(f"No key has this label or id. {known}", FAILED)


def _begins(key_id: str, name: str) -> bool:
    return key_id.startswith(name) or key_id.removeprefix("key_").startswith(name)


def _act(verb: str, name: str, reason: str, where: Where, *, as_json: bool) -> None:
    with open_service(where) as service:
        found = find_key(service, name)
        changed = service.send("POST", f"{_path(found)}/{verb}", {"reason": reason})
    if as_json:
        print_json(changed)
    else:
        say(f"{changed['label']} ({changed['id']}) is {changed['state']}.")


def _path(key: dict[str, Any]) -> str:
    return f"{_PATH}/{quote(key['id'], safe='')}"


def _row(key: dict[str, Any]) -> list[Text | str]:
    why = key["state_reason"]
    if key["cooldown_until"]:
        why = f"{why}, until {moment(key['cooldown_until'])}" if why else f"until {moment(key['cooldown_until'])}"
    return [
        key["label"],
        key["id"],
        key["provider_id"],
        styled(key["state"], STATE_STYLES.get(key["state"], "")),
        why,
        str(key["usage_count"]),
        str(key["failure_count"]),
        str(key["in_flight"]),
        moment(key["last_used_at"]),
        came_from(key),
    ]


def _line(change: dict[str, Any]) -> list[Text | str]:
    return [
        moment(change["transition_timestamp"]),
        change["from_state"],
        styled(change["to_state"], STATE_STYLES.get(change["to_state"], "")),
        change["cause"] or change["trigger"],
        ", ".join(f"{name}={value}" for name, value in change["evidence"].items()),
        moment(change["until"]),
        change["actor"],
    ]


def _metadata(given: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE pairs; values that are JSON become what they say, everything else is text."""
    metadata: dict[str, Any] = {}
    for pair in given:
        name, equals, text = pair.partition("=")
        if not equals or not name.strip():
            raise CliError("--meta takes NAME=VALUE, such as --meta weight=2 or --meta models=gpt-4o*.", USAGE)
        try:
            metadata[name.strip()] = json.loads(text)
        except ValueError:
            metadata[name.strip()] = text
    return metadata


def _without(message: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        if len(secret) >= 4:
            message = message.replace(secret, "[redacted]")
    return message
