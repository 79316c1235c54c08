"""`doctor`: looks at everything that a request needs, from the Python version to each key at its provider, in words.

Each line says ok, warn or fail, what that means and what to do. Checks that need something which failed are left out.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from apikeyrouter_proxy.cli.completing import model_names
from apikeyrouter_proxy.cli.console import print_json, say, show_line, styled
from apikeyrouter_proxy.cli.failures import FAILED, CliError
from apikeyrouter_proxy.cli.findings import Finding, Tell
from apikeyrouter_proxy.cli.options import AsJson, Config, EnvFile, Store, Url
from apikeyrouter_proxy.cli.service import Remote, Service, Where

if TYPE_CHECKING:
    from apikeyrouter_proxy.settings import ProxySettings

__all__ = ["register"]

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command("doctor")(doctor)


def doctor(
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--model", "-m", help="Is this model to be had?", autocompletion=model_names),
    ] = None,
    config: Config = None,
    url: Url = None,
    store: Store = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Find out why it does not work. Each key is tried at its provider, which costs nothing. Exit status 1: a fault."""
    findings: list[Finding] = []

    def tell(*found: Finding) -> None:
        findings.extend(found)
        for one in found:
            if not as_json:
                show_line(styled(f"{one.level:<5}", _STYLES[one.level]), f"{one.subject}: {one.meaning}", one.advice)

    where = Where(url, store, env_file)
    if config is not None:
        where.environ["APIKEYROUTER_CONFIG"] = str(config)
    _examine(where, model, tell, quiet=as_json)
    failed = sum(one.level == "fail" for one in findings)
    warned = sum(one.level == "warn" for one in findings)
    if as_json:
        print_json({"ok": not failed, "findings": [asdict(one) for one in findings]})
    elif failed or warned:
        say("", f"{failed} fault{'s' * (failed != 1)}, {warned} warning{'s' * (warned != 1)}.")
    else:
        say("", "Everything is as it should be.")
    if failed:
        raise typer.Exit(FAILED)


def _examine(where: Where, model: str | None, tell: Tell, *, quiet: bool) -> None:
    from apikeyrouter_proxy.cli import doctor_lately as lately
    from apikeyrouter_proxy.cli import doctor_local as local
    from apikeyrouter_proxy.cli import doctor_providers as providers
    from apikeyrouter_proxy.cli.environment import dotenv_path

    tell(local.python_version())
    settings, found = local.settings(where.environ, dotenv_path(where.env_file), where.store)
    tell(*found)
    remote: Remote | None = None
    store_there = False
    if where.url:
        remote, found = local.named_proxy(where.url, where.environ)
        tell(*found)
    elif settings is not None:
        store_there, found = local.store(settings)
        tell(*found)
        if any(one.level == "fail" for one in found):
            settings = None
        else:
            remote, found = local.port(settings, where)
            tell(*found, *local.access(settings))
    with ExitStack() as stack:
        service = _service(stack, where, settings, remote, store_there=store_there)
        if service is not None:
            try:
                tell(*lately.client_key(service, where.environ))
                tell(*providers.examine(service, tell, quiet=quiet))
                clock = lately.clock(lately.addresses(service))
                tell(*([clock] if clock else []), *lately.quota(service), *lately.requests(service))
                if model:
                    tell(*providers.model(service, model))
            except CliError as failure:
                tell(local.not_examined(failure.message))


def _service(
    stack: ExitStack, where: Where, settings: ProxySettings | None, remote: Remote | None, *, store_there: bool
) -> Service | None:
    """Whoever can try keys: the running proxy, else this process; None when neither can."""
    if remote is not None:
        return remote
    if where.url or settings is None:
        return None
    from apikeyrouter_proxy.cli.environment import dotenv_path
    from apikeyrouter_proxy.cli.local import open_local

    # A doctor leaves no store behind: where there is none yet, the keys of the environment are tried in memory.
    store = settings.store_url if store_there else "memory:"
    return stack.enter_context(open_local(where.environ, dotenv_path(where.env_file), store))
