"""Documents on the command line: JSON as an argument, from a file, or from standard input; and what `set` and `check`
of policies and deployments have in common."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from apikeyrouter_proxy.cli.console import note, print_json, say
from apikeyrouter_proxy.cli.failures import FAILED, USAGE, CliError
from apikeyrouter_proxy.cli.service import Service, message_of

__all__ = ["Document", "check_all", "read_documents", "set_all"]

Document = Annotated[
    str, typer.Argument(metavar="JSON|FILE|-", help="The document as JSON, a JSON or TOML file with one or more, or -.")
]
_INPUT_BYTES_MAX = 4 * 1024 * 1024


def read_documents(given: str, table: str, name: str) -> list[dict[str, Any]]:
    """The documents in `given`: one object, a list of them, or an object of them by name. `table`: what holds them in a
    TOML file, or in an object; `name`: the member with a document's name. Raises CliError."""
    found = _read(given, table)
    if isinstance(found, Mapping) and table in found:
        found = found[table]
    if isinstance(found, Mapping):
        found = [found] if name in found else [_named(key, row, name) for key, row in found.items()]
    if not isinstance(found, list) or not found or not all(isinstance(row, Mapping) for row in found):
        raise CliError(f"Expected one object, a list of objects, or an object of {table} by {name}.", USAGE)
    rows = [dict(row) for row in found]
    for number, row in enumerate(rows, start=1):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise CliError(f"Document {number} has no {name!r}, so it is not clear which one it is.", USAGE)
    return rows


def _named(key: str, row: object, name: str) -> object:
    if isinstance(row, list | str):
        row = {"targets": row}
    return {name: key, **row} if isinstance(row, Mapping) else row


def _read(given: str, table: str) -> Any:
    where = "standard input" if given == "-" else given
    if given.lstrip()[:1] in ("{", "["):
        text, where = given, "The document"
    elif given == "-":
        text = sys.stdin.read(_INPUT_BYTES_MAX)
    else:
        try:
            text = Path(given).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as fault:
            reason = getattr(fault, "strerror", None) or "it is not text in UTF-8"
            raise CliError(f"{given} cannot be read: {reason}.", USAGE) from None
    try:
        return tomllib.loads(text).get(table, []) if given.endswith(".toml") else json.loads(text)
    except ValueError as fault:
        raise CliError(f"{where} is not {'TOML' if given.endswith('.toml') else 'JSON'}: {fault}", USAGE) from None


def set_all(service: Service, path: str, rows: list[dict[str, Any]], name: str, *, word: str, as_json: bool) -> None:
    """Sets each document, when all of them pass the check."""
    if len(rows) > 1:
        _checked(service, path, rows, name)
    from urllib.parse import quote

    made = []
    for row in rows:
        rest = {key: value for key, value in row.items() if key != name}
        made.append(service.send("PUT", f"{path}/{quote(row[name], safe='/*:')}", rest))
    if as_json:
        print_json(made if len(made) > 1 else made[0])
        return
    for row, one in zip(rows, made, strict=True):
        say(f"Set {word} {row[name]}.")
        for told in one["notes"]:
            note(f"{row[name]}: {told}.")


def check_all(service: Service, path: str, rows: list[dict[str, Any]], name: str, *, as_json: bool) -> None:
    """Says whether the documents could be set; raises CliError with every fault."""
    checked = _checked(service, path, rows, name)
    if as_json:
        print_json(checked)
        return
    for one in checked:
        for told in one["notes"]:
            note(f"{one[name]}: {told}.")
    say(f"{len(rows)} checked, nothing is wrong." if len(rows) > 1 else "Nothing is wrong.")


def _checked(service: Service, path: str, rows: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    faults, checked = [], []
    for row in rows:
        answer = service.ask("POST", f"{path}/check", row)
        if answer.status >= 400:
            faults.append(f"{row[name]}: {message_of(answer, path)}")
        else:
            checked.append(answer.json())
    if faults:
        raise CliError("\n".join(faults), FAILED)
    return checked
