"""`config`: check, show, diff, init, schema, reload.

`check`, `show` and `diff` read the file as `serve` would, and need no running proxy; `diff` without a second file and
`reload` ask the one that runs.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from apikeyrouter_proxy.cli.console import note, print_json, print_table, say
from apikeyrouter_proxy.cli.failures import FAILED, USAGE, CliError
from apikeyrouter_proxy.cli.options import AsJson, EnvFile, Url, Yes

if TYPE_CHECKING:
    from apikeyrouter_proxy.config.faults import Fault
    from apikeyrouter_proxy.settings import ProxySettings

__all__ = ["register"]

_File = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Argument(metavar="FILE", help="Default: APIKEYROUTER_CONFIG, else apikeyrouter.yaml here."),
]


def register(app: typer.Typer) -> None:
    """Adds the group."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Check, show and compare the configuration.")
    for verb in (check, show, diff, init, schema, reload):
        group.command(verb.__name__)(verb)
    app.add_typer(group, name="config")


def check(file: _File = None, env_file: EnvFile = None, as_json: AsJson = False) -> None:
    """Say whether a file could be used, with every fault at its line; changes nothing."""
    from apikeyrouter.domain.errors import ConfigurationError

    try:
        settings = _read(file, env_file)
    except ConfigurationError as error:
        faults = _faults(error)
        if as_json:
            print_json({"ok": False, "faults": [_as_dict(one) for one in faults], "warnings": []})
            raise typer.Exit(FAILED) from None
        for one in faults:
            say(str(one))
            _quote(one)
        count = len(faults)
        raise CliError(f"{count} fault{'s' * (count > 1)}; nothing was changed.") from None
    warnings = [*settings.warnings, *_clashes(settings)]
    if as_json:
        print_json({"ok": True, "faults": [], "warnings": warnings})
        return
    for warning in warnings:
        note(warning)
    say(f"{_path_of(settings) or 'The environment'}: nothing is wrong. {_counted(settings)}")
    if _path_of(settings):
        note(f"Start it: `apikeyrouter serve --config {shlex.quote(str(_path_of(settings)))}`.")


def show(
    file: _File = None,
    every: Annotated[bool, typer.Option("--all", help="Defaults as well.")] = False,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Show what counts and where it comes from: argument, environment, .env, file or default. Secrets are masked."""
    from apikeyrouter_proxy.config.shown import effective, objects

    settings = _read(file, env_file)
    values, made = effective(settings), objects(settings)
    if not every:
        values = [one for one in values if one.source != "default"]
    if as_json:
        import msgspec

        print_json({"settings": msgspec.to_builtins(values), "objects": msgspec.to_builtins(made)})
        return
    rows = [[one.where, _text(one.value), one.source, one.at or "-"] for one in values]
    if rows:
        print_table(["member", "value", "from", "where"], rows)
    for one in values:
        if one.shadowed and one.source != "file":
            note(f"{one.where}: {one.shadowed} says it too; {one.at or 'the argument'} goes before it.")
    if made:
        print_table(["object", "as written", "where"], [[one.where, _text(one.value), one.at] for one in made])
    if not rows and not made:
        say("Everything is as by default.")


def diff(
    file: _File = None,
    other: Annotated[
        Optional[Path], typer.Argument(metavar="OTHER", help="Another file. Default: what the running proxy has.")  # noqa: UP045
    ] = None,
    url: Url = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Show what differs between a file and the running proxy, or from one file to another; status 1: something does."""
    if other is not None:
        from apikeyrouter_proxy.config.changes import changes

        found = [_change(one) for one in changes(_read(file, env_file), _read(other, env_file))]
        notes: list[str] = []
    else:
        found, notes = _against_running(file, url, env_file)
    if as_json:
        print_json(found)
    elif not found:
        say("Nothing differs.")
    else:
        for one in found:
            say(f"{_SIGNS[one['what']]} {one['text']}")
    for told in notes:
        note(told)
    if found:
        raise typer.Exit(FAILED)


def schema() -> None:
    """Print the JSON schema of the file, for editors: `# yaml-language-server: $schema=PATH` in its first line."""
    from importlib.resources import files

    say(files("apikeyrouter_proxy.config").joinpath("schema.json").read_text(encoding="utf-8").rstrip())


def reload(url: Url = None, env_file: EnvFile = None, as_json: AsJson = False) -> None:
    """Let the running proxy read its file again. A file with a fault changes nothing."""
    from apikeyrouter_proxy.cli.service import Where, open_service

    with open_service(Where(url, None, env_file)) as service:
        if service.origin is None:
            raise CliError("No proxy is running, so there is nothing to reload. The next start reads the file.")
        told = service.send("POST", "/api/v1/config/reload", {})
    if as_json:
        print_json(told)
        return
    for one in told["changes"]:
        say(f"{_SIGNS[one['what']]} {one['text']}")
    for warning in told["notes"]:
        note(warning)
    for member in told["restart"]:
        note(f"{member} counts after the next start only.")
    say("Applied." if told["changes"] else "Nothing has changed.")


def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it.")] = Path("apikeyrouter.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    yes: Yes = False,
    env_file: EnvFile = None,
) -> None:
    """Write a first file: asks a few questions, explains each member, and refers to keys of the environment."""
    from apikeyrouter_proxy.cli.config_init import answers_of, written
    from apikeyrouter_proxy.cli.environment import read_environ

    if file.exists() and not force:
        raise CliError(f"{file} is there already. Give another name, or --force to write over it.", USAGE)
    text = written(answers_of(read_environ(env_file), ask=not yes))
    file.write_text(text, encoding="utf-8")
    say(f"Wrote {file}. Check it with `apikeyrouter config check {file}`, then `apikeyrouter serve --config {file}`.")


_SIGNS = {"added": "+", "removed": "-", "changed": "~"}


def _read(file: Path | None, env_file: Path | None) -> ProxySettings:
    """The settings that `serve` would have. Raises ConfigurationError."""
    from apikeyrouter_proxy.cli.environment import dotenv_path
    from apikeyrouter_proxy.settings import ProxySettings

    chosen = {} if file is None else {"APIKEYROUTER_CONFIG": str(file)}
    return ProxySettings.from_environ({**os.environ, **chosen}, dotenv_path(env_file), arguments=chosen)


def _path_of(settings: ProxySettings) -> str:
    known = settings.config.configuration if settings.config is not None else None
    return known.path if known is not None else ""


def _counted(settings: ProxySettings) -> str:
    if settings.config is None:
        return "There is no configuration file; `apikeyrouter config init` writes one."
    meaning = settings.config.meaning
    counts = {
        "key": len(meaning.keys), "budget": len(meaning.budgets), "deployment": len(meaning.deployments),
        "policy": len(meaning.policies), "price": len(meaning.prices), "virtual key": len(meaning.virtual_keys),
    }  # fmt: skip
    words = [f"{n} {_many(word) if n > 1 else word}" for word, n in counts.items() if n]
    return f"It defines {', '.join(words)}." if words else "It defines no objects."


def _many(word: str) -> str:
    return "policies" if word == "policy" else f"{word}s"


def _faults(error: Any) -> list[Fault]:
    from apikeyrouter_proxy.config.faults import ConfigFileError, Fault

    return list(error.found) if isinstance(error, ConfigFileError) else [Fault("", line) for line in error.faults]


def _as_dict(fault: Fault) -> dict[str, Any]:
    place = fault.place
    spot = {} if place is None else {"file": place.file, "line": place.line, "column": place.column}
    return {**spot, "where": fault.where, "message": fault.message, "hint": fault.hint}


def _quote(fault: Fault) -> None:
    """The line with a mark below the column; never one that holds a secret in the clear."""
    place = fault.place
    if place is None or "secret" in fault.where or "key" in fault.where.rpartition(".")[2]:
        return
    try:
        line = Path(place.file).read_text(encoding="utf-8").splitlines()[place.line - 1]
    except (OSError, UnicodeDecodeError, IndexError):
        return
    if len(line) <= 160 and "secret" not in line.lower() and "_key" not in line.lower():
        say(f"    {line}")
        say(f"    {' ' * (place.column - 1)}^")


def _clashes(settings: ProxySettings) -> list[str]:
    """What the store holds under a name of the file; a store that does not answer is told, since it may be down on
    purpose while somebody writes the file."""
    import asyncio

    from apikeyrouter.domain.errors import StateStoreError
    from apikeyrouter_proxy.config.clashes import clashes_in

    try:
        return asyncio.run(clashes_in(settings))
    except StateStoreError as error:
        return [f"Whether the API has set objects of these names is not known: {error.message}"]


def _against_running(
    file: Path | None, url: str | None, env_file: Path | None
) -> tuple[list[dict[str, Any]], list[str]]:
    """What differs, and what is to be told about it."""
    from apikeyrouter_proxy.cli.service import Where, open_service

    settings = _read(file, env_file)
    path = _path_of(settings)
    if not path:
        raise CliError("There is no configuration file to compare; name one.", USAGE)
    with open_service(Where(url, None, env_file)) as service:
        if service.origin is None:
            raise CliError("No proxy is running; name a second file to compare with.")
        text = _flat(settings)
        told = service.send("POST", "/api/v1/config/check", {"text": text})
    if not told["ok"]:
        raise CliError("\n".join(one["text"] for one in told["faults"]))
    return list(told["changes"]), list(told["notes"])


def _flat(settings: ProxySettings) -> str:
    """The file with everything that it includes, references not followed, as JSON, which is YAML as well."""
    import json

    known = settings.config.configuration if settings.config is not None else None
    tree = dict(known.tree) if known is not None else {}
    tree.pop("include", None)
    return json.dumps(tree)


def _change(one: Any) -> dict[str, Any]:
    return {"where": one.where, "what": one.what, "before": one.before, "after": one.after, "text": str(one)}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_text(one)}" for name, one in value.items())
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    return "-" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
