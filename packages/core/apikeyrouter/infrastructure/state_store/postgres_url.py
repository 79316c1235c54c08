"""The URL of a PostgreSQL store: which server, role, database and schema.

Main entry: `parse`. Laws: what cannot be meant is a ConfigurationError before anything is dialed; the description, and
every message, leaves the password and everything else out that is not an address.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from apikeyrouter.domain.errors import ConfigurationError

__all__ = ["DEFAULT_SCHEMA", "PostgresTarget", "parse"]

DEFAULT_SCHEMA = "apikeyrouter"
"""Where our tables are when the URL names no schema: of our own, so that no other program's tables are in the way."""

_SCHEMA = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_SSL_MODES = frozenset({"disable", "allow", "prefer", "require", "verify-ca", "verify-full"})
_SHOWN = ("host", "port", "schema", "sslmode")


@dataclass(frozen=True, slots=True)
class PostgresTarget:
    """`dsn`: for the driver, password and all. `description`: for people."""

    dsn: str = field(repr=False)
    schema: str
    description: str


def parse(url: str) -> PostgresTarget:
    """The target that `url` names: `postgresql://role:password@host:port/database?schema=name&sslmode=verify-full`.

    A Unix socket: `postgresql://role@/database?host=/run/postgresql`. Other options go to the driver and the server
    as they are. Raises ConfigurationError.
    """
    parts = urlsplit(url.strip())
    faults = []
    if parts.netloc.count("@") > 1:
        faults.append('A PostgreSQL URL has one "@": write the one in a role or password as "%40".')
    if parts.fragment:
        faults.append('A PostgreSQL URL has no "#": write the one in a password as "%23".')
    options = parse_qsl(parts.query, keep_blank_values=True)
    if parts.query and not all("=" in one for one in parts.query.split("&")):
        faults.append("The options of a PostgreSQL URL are name=value, joined by &.")
    given = dict(options)
    schema = given.get("schema", DEFAULT_SCHEMA)
    if not _SCHEMA.fullmatch(schema):
        faults.append("schema= takes up to 63 letters, digits and underscores, and does not start with a digit.")
    if "search_path" in given:
        faults.append("Use schema=NAME instead of search_path=: the store has one schema, and makes it if need be.")
    if given.get("sslmode", "prefer") not in _SSL_MODES:
        faults.append(f"sslmode= is one of: {', '.join(sorted(_SSL_MODES))}.")
    role, _, address = parts.netloc.rpartition("@")
    if not re.fullmatch(r"[^:]*:?|\[[^\]]*\]:?|.*:\d+(,.*)?", address):
        faults.append(
            'The port of a PostgreSQL URL is a number. Write a "/", "?" or ":" in a password as %2F, %3F, %3A.'
        )
    if faults:
        raise ConfigurationError(faults)
    passed_on = urlencode([(name, value) for name, value in options if name != "schema"], quote_via=quote)
    dsn = f"{parts.scheme.lower().partition('+')[0]}://{parts.netloc}{parts.path}"
    shown = urlencode({name: given[name] for name in _SHOWN if name in given}, safe="/,", quote_via=quote)
    user = quote(unquote(role.partition(":")[0]))
    whom = f"{user}@" if user else ""
    return PostgresTarget(
        dsn=dsn + (f"?{passed_on}" if passed_on else ""),
        schema=schema,
        description=f"postgresql://{whom}{address}{parts.path}{'?' if shown else ''}{shown}",
    )
