"""What `doctor` looks at on this machine: Python, settings, store and encryption key, the port, who may call."""

from __future__ import annotations

import asyncio
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from apikeyrouter.domain.errors import ConfigurationError, RouterError, SealError
from apikeyrouter.domain.interfaces.state_store import StateStore
from apikeyrouter.infrastructure.state_store import open_store
from apikeyrouter.opening import open_sealer
from apikeyrouter_proxy.cli import http
from apikeyrouter_proxy.cli.failures import CliError
from apikeyrouter_proxy.cli.findings import Finding, fail, ok, warn
from apikeyrouter_proxy.cli.service import Remote, Where, identify
from apikeyrouter_proxy.config.faults import ConfigFileError, Fault
from apikeyrouter_proxy.config.layers import config_path
from apikeyrouter_proxy.serving import PortError, bind, port_advice
from apikeyrouter_proxy.settings import ProxySettings, is_loopback

__all__ = ["access", "named_proxy", "not_examined", "port", "python_version", "settings", "store"]

_PYTHON_LEAST = (3, 11)
_PROBE = "doctor.probe"
_TIMEOUT_SHORT_S = 20.0


def python_version() -> Finding:
    """Whether this Python is new enough."""
    version = platform.python_version()
    if sys.version_info < _PYTHON_LEAST:
        return fail("Python", f"version {version} is too old", "Install Python 3.11 or newer.")
    return ok("Python", f"version {version} on {platform.system()}")


def settings(
    environ: Mapping[str, str], dotenv: Path, store_url: str | None
) -> tuple[ProxySettings | None, list[Finding]]:
    """The settings, and every fault of environment and `.env`."""
    changed = {**environ, "APIKEYROUTER_STORE": store_url} if store_url else environ
    try:
        read = ProxySettings.from_environ(changed, dotenv)
    except ConfigFileError as faulty:
        return None, [_config_fault(fault) for fault in faulty.found]
    except ConfigurationError as faulty:
        return None, [fail("Settings", fault, "Correct it in the environment or in .env.") for fault in faulty.faults]
    source = f"environment and {dotenv}" if dotenv.is_file() else "environment (there is no .env file here)"
    keys = len(read.env_keys)
    found = [ok("Settings", f"read from {source}; {keys} provider key{'s' * (keys != 1)} in it")]
    if read.config is not None and read.config.configuration is not None:
        there = config_path(changed, look=True)
        found.append(ok("Configuration", f"{there or 'the text in the environment'} has no fault"))
    found += [warn("Settings", warning) for warning in read.warnings]
    return read, found + list(_traps(read))


def _config_fault(fault: Fault) -> Finding:
    if fault.place is None:
        return fail("Settings", str(fault), "Correct it in the environment or in .env.")
    advice = f"{fault.hint[:1].upper()}{fault.hint[1:]}. " if fault.hint else ""
    meaning = f"{fault.place}: {fault.where + ': ' if fault.where else ''}{fault.message}"
    return fail("Configuration", meaning, f"{advice}`apikeyrouter config check` shows the line.")


def _traps(read: ProxySettings) -> Iterator[Finding]:
    """Settings that are valid and hardly meant."""
    base = urlsplit(read.openai_base_url)
    if base.port == read.port and is_loopback(base.hostname or ""):
        yield fail(
            "Settings",
            f"OPENAI_BASE_URL leads to this proxy itself (port {base.port}): it would ask itself for ever",
            "That variable is for your programs; take it out of the proxy's own environment and .env.",
        )
    timeout_s = read.router_config.get("request_timeout_s")
    if timeout_s is not None and float(timeout_s) < _TIMEOUT_SHORT_S:
        yield warn(
            "Settings",
            f"REQUEST_TIMEOUT is {float(timeout_s):g} s: longer replies end as timeouts",
            "Replies of large models take a minute and more; 300 is usual.",
        )


def store(read: ProxySettings) -> tuple[bool, list[Finding]]:
    """Whether the store exists, and what is to be said about it."""
    opened = open_store(read.store_url)
    path = getattr(opened, "path", None)
    if path is not None and not Path(path).exists():
        return False, [_room_for(Path(path))]
    if path is not None and not os.access(path, os.W_OK):
        advice = "Make it writable for this user, or choose another store with APIKEYROUTER_STORE."
        return True, [fail("Store", f"{path} is not writable", advice)]
    try:
        keys, opens = asyncio.run(_try_store(opened, read))
    except RouterError as failure:
        return True, [fail("Store", failure.message, "Correct that, or choose another store with APIKEYROUTER_STORE.")]
    if path is None:
        meaning = "kept in memory: keys, budgets and decisions are forgotten when the proxy stops"
        return False, [warn("Store", meaning, "Leave APIKEYROUTER_STORE out to keep them in a file.")]
    found = [ok("Store", f"{opened.description} opens and is writable; it holds {keys} key{'s' * (keys != 1)}")]
    if opens is not None:
        found.append(
            fail(
                "Encryption key",
                opens,
                "Set APIKEYROUTER_ENCRYPTION_KEY to the one that the keys were stored with (or put its file back).",
            )
        )
    elif keys:
        found.append(ok("Encryption key", "it opens every stored secret"))
    return True, found


async def _try_store(opened: StateStore, read: ProxySettings) -> tuple[int, str | None]:
    """(how many keys it holds, why their secrets do not open or None). Raises RouterError when it cannot be used."""
    await opened.open()
    try:
        await opened.put_setting(_PROBE, b"1")
        rows = [row for row in await opened.load_keys() if row.state != "retired"]
        if not rows:
            return 0, None
        return len(rows), await _try_secrets(opened, read, rows)
    finally:
        await opened.close()


async def _try_secrets(opened: StateStore, read: ProxySettings, rows: list[Any]) -> str | None:
    from apikeyrouter.domain.keys.rows import seal_context

    key = read.encryption_key
    environ = {} if key is None else {"APIKEYROUTER_ENCRYPTION_KEY": key.reveal()}
    missing = _missing_key_file(opened)
    if key is None and missing is not None:
        # Opening would make a new one, which opens nothing.
        return f"the store's secrets are sealed, and there is neither APIKEYROUTER_ENCRYPTION_KEY nor {missing}"
    try:
        sealer, _ = await open_sealer(opened, environ)
        for row in rows:
            sealer.open(row.sealed_secret, seal_context(row.key_id, row.provider_id, row.version))
    except (SealError, ConfigurationError) as failure:
        return failure.message
    return None


def _missing_key_file(opened: StateStore) -> Path | None:
    path = getattr(opened, "path", None)
    file = None if path is None else Path(f"{path}.key")
    return file if file is not None and not file.exists() else None


def _room_for(path: Path) -> Finding:
    """Whether a store that is not there yet could be made."""
    parent = path.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK):
        return ok("Store", f"{path} does not exist yet; it is made at the first start")
    advice = "Give this user the right to write there, or choose another store with APIKEYROUTER_STORE."
    return fail("Store", f"{path} does not exist and cannot be made: {parent} is not writable", advice)


def port(read: ProxySettings, where: Where) -> tuple[Remote | None, list[Finding]]:
    """The proxy that runs at our port, if one does; and whether one could."""
    from apikeyrouter_proxy.banner import origin_of

    try:
        bind(read.host, read.port).close()
    except PortError as failure:
        if not failure.busy:
            return None, [fail("Port", failure.message)]
    else:
        return None, [ok("Port", f"{read.port} on {read.host} is free; no proxy runs there")]
    remote, found = _look(origin_of(read.host, read.port), where.environ)
    if remote is None:
        meaning = f"{read.port} on {read.host} is taken by another program"
        return None, [fail("Port", meaning, f"Stop that program, or: {port_advice(read.port)}")]
    return remote, found


def named_proxy(url: str, environ: Mapping[str, str]) -> tuple[Remote | None, list[Finding]]:
    """The proxy at a URL that somebody named."""
    origin = http.checked_origin(url)
    advice = "Start it with `apikeyrouter serve`, or correct --url (APIKEYROUTER_URL)."
    try:
        remote, found = _look(origin, environ)
    except CliError as failure:
        return None, [fail("Proxy", failure.message, advice)]
    if remote is None:
        return None, [fail("Proxy", f"{origin} is answered by another program, not by ApiKeyRouter", advice)]
    return remote, found


def _look(origin: str, environ: Mapping[str, str]) -> tuple[Remote | None, list[Finding]]:
    """A running proxy and its readiness; None when another program answers. Raises CliError when nobody does."""
    try:
        told = identify(origin)
        if told is None:
            return None, []
        ready = http.ask(origin, "GET", "/readyz", timeout_s=10.0)
    except http.Unreachable as failure:
        raise CliError(failure.message) from None
    found = [ok("Proxy", f"ApiKeyRouter {told.get('version', '?')} runs at {origin}")]
    if ready.status == 200:
        found.append(ok("Readiness", "it takes requests"))
    else:
        state = ready.json()
        reasons = state.get("reasons") if isinstance(state, dict) else None
        found.append(
            fail("Readiness", "; ".join(reasons or ["it takes no requests now"]), "The lines below tell more.")
        )
    return Remote(origin, environ), found


def access(read: ProxySettings) -> list[Finding]:
    """Who may call, and whether that is safe."""
    if read.bound_to_loopback and not read.require_auth:
        meaning = f"bound to {read.host}: callers on this machine need no key until a virtual key is made"
        return [ok("Access", meaning)]
    if read.admin_key is None:
        meaning = f"bound to {read.host}, callers must present a key, and there is no admin key"
        advice = "Set APIKEYROUTER_ADMIN_KEY (make one with: openssl rand -hex 24), or use PROXY_HOST=127.0.0.1."
        return [warn("Access", meaning, f"{advice} A virtual key in the store will do too.")]
    return [ok("Access", f"bound to {read.host}: callers need a virtual key or the admin key")]


def not_examined(why: str) -> Finding:
    """Providers and keys could not be looked at."""
    return fail(
        "Providers", f"they could not be examined: {why}", "An admin key in APIKEYROUTER_ADMIN_KEY may be needed."
    )
