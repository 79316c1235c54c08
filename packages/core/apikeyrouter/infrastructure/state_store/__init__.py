"""Where state outlives a request: stores behind the `StateStore` protocol.

Main entry: `open_store`, from a URL to a store. `default_store_path` says where a proxy keeps its database when nobody
said otherwise. Laws: what a URL names is what is used, or a ConfigurationError; nothing falls back to another store.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.interfaces.state_store import StateStore
from apikeyrouter.infrastructure.state_store.memory_store import MemoryStateStore

__all__ = ["default_store_path", "open_store"]

_SUPPORTED = (
    '"memory:" (forgets at exit), "sqlite:///relative/path.db", "sqlite:////absolute/path.db", "sqlite:///~/x.db", '
    '"postgresql://role:password@host/database", "redis://:password@host:6379/0"'
)
_POSTGRES = frozenset({"postgres", "postgresql"})
_REDIS = frozenset({"redis", "rediss"})


def open_store(url: str) -> StateStore:
    """The store that `url` names, not yet opened (it opens itself on first use).

    `memory:`; `sqlite:///x.db` relative to the working directory, `sqlite:////x.db` absolute, `sqlite:///~/x.db` under
    the home directory; `postgresql://role:password@host:port/database?schema=name&sslmode=verify-full` (the extra
    `postgres`; see `postgres_url.parse`); `redis://:password@host:port/0?name=main`, `rediss://` for TLS (the extra
    `redis`; see `redis_url.RedisPlace`). Raises ConfigurationError for anything else; the message never repeats more
    than the scheme, because a URL may hold a password.
    """
    scheme, colon, rest = url.strip().partition(":")
    scheme = scheme.lower()
    if not colon:
        raise ConfigurationError([f"The store URL has no scheme. Supported: {_SUPPORTED}."])
    if scheme == "memory" and rest in ("", "//"):
        return MemoryStateStore()
    if scheme == "sqlite":
        return _open_sqlite(rest)
    base_scheme = scheme.partition("+")[0]
    if base_scheme in _POSTGRES:
        return _open_postgres(url.strip())
    if scheme in _REDIS:
        return _open_redis(url.strip())
    raise ConfigurationError([f'The store URL scheme "{scheme}" is not known. Supported: {_SUPPORTED}.'])


def _open_sqlite(rest: str) -> StateStore:
    from apikeyrouter.infrastructure.state_store.sqlite_store import SQLiteStateStore

    path = rest.removeprefix("///")
    if not rest.startswith("///") or path in ("", "/"):
        raise ConfigurationError(
            ["A SQLite URL has three slashes and a path: sqlite:///relative/path.db or sqlite:////absolute/path.db."]
        )
    if path == ":memory:":
        raise ConfigurationError(['For a store in memory use the URL "memory:".'])
    if "?" in path:
        raise ConfigurationError(["A SQLite URL takes no options: remove the part from the question mark on."])
    return SQLiteStateStore(path)


def _open_postgres(url: str) -> StateStore:
    try:
        from apikeyrouter.infrastructure.state_store.postgres_store import PostgresStateStore
    except ModuleNotFoundError as error:
        if error.name != "asyncpg":
            raise
        raise ConfigurationError(
            ["A PostgreSQL store needs the driver asyncpg: pip install 'apikeyrouter-core[postgres]'."]
        ) from error
    return PostgresStateStore(url)


def _open_redis(url: str) -> StateStore:
    try:
        from apikeyrouter.infrastructure.state_store.redis_store import RedisStateStore
    except ModuleNotFoundError as error:
        if error.name != "redis":
            raise
        raise ConfigurationError(
            ["A Redis store needs the driver redis-py: pip install 'apikeyrouter-core[redis]'."]
        ) from error
    return RedisStateStore(url)


def default_store_path(environ: Mapping[str, str]) -> Path:
    """Where the database is when nobody said otherwise: the user's data directory for this platform.

    `XDG_DATA_HOME` (if absolute), else `~/.local/share` on Linux, `~/Library/Application Support` on macOS and
    `%LOCALAPPDATA%` on Windows; then `apikeyrouter/state.sqlite`. Source: XDG Base Directory Specification 0.8.
    The directory need not exist.
    """
    home = Path(environ["HOME"]) if environ.get("HOME") else Path.home()
    xdg = environ.get("XDG_DATA_HOME", "")
    if xdg and Path(xdg).is_absolute():
        base = Path(xdg)
    elif sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    elif sys.platform == "win32":
        base = Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    else:
        base = home / ".local" / "share"
    return base / "apikeyrouter" / "state.sqlite"
