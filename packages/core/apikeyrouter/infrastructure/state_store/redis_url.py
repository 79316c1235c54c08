"""Which Redis a URL names, and under which name our keys lie there.

Main entry: `RedisPlace.parse`. `redis://[[user]:password@]host[:port][/database][?name=...]`, or `rediss://` for TLS.
Laws: the password is in no description, no repr and no error; TLS always verifies the server's certificate and name;
what is not understood is refused, never ignored.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from apikeyrouter.domain.errors import ConfigurationError

__all__ = ["REDIS_SCHEMES", "RedisPlace"]

REDIS_SCHEMES = frozenset({"redis", "rediss"})

_FORM = "redis://[[user]:password@]host[:port][/database][?name=...] (rediss:// for TLS)"
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_TLS_OPTIONS = {"ssl_ca_certs": "ca_file", "ssl_certfile": "cert_file", "ssl_keyfile": "key_file"}
"""Options for TLS as redis-py calls them in URLs: paths of PEM files. There is none that turns verification off."""


@dataclass(frozen=True, slots=True)
class RedisPlace:
    """A server, a database on it, and the name under which one store's keys lie there.

    `name`: several stores may share a server, each under its own; all keys begin with "akr:{name}:", whose braces keep
    them in one slot. `ca_file`, `cert_file`, `key_file`: PEM files for `tls`; None: the system's authorities, and no
    certificate of our own.
    """

    host: str = "localhost"
    port: int = 6379
    database: int = 0
    name: str = "main"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    @classmethod
    def parse(cls, url: str) -> RedisPlace:
        """Raises ConfigurationError with every fault; the message repeats nothing of the URL but names of options."""
        try:
            parts = urlsplit(url.strip())
            port = parts.port
        except ValueError:
            raise ConfigurationError([f"The Redis URL is malformed. Its form: {_FORM}."]) from None
        faults = []
        if parts.scheme not in REDIS_SCHEMES or parts.fragment:
            faults.append(f"The Redis URL is malformed (a password needs %23 for # and %2F for /). Its form: {_FORM}.")
        database = parts.path.strip("/")
        if not (database == "" or (database.isascii() and database.isdigit() and len(database) < 6)):
            faults.append(f"What follows the server in a Redis URL is the number of a database. Its form: {_FORM}.")
        options, option_faults = _options(parts)
        faults += option_faults
        if faults:
            raise ConfigurationError(faults)
        return cls(
            host=parts.hostname or "localhost",
            port=port or 6379,
            database=int(database or 0),
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            tls=parts.scheme == "rediss",
            **options,
        )

    @property
    def prefix(self) -> str:
        """What every key of this store begins with."""
        return f"akr:{{{self.name}}}:"

    @property
    def description(self) -> str:
        """The URL without user and password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        name = "" if self.name == "main" else f"?name={self.name}"
        return f"redis{'s' if self.tls else ''}://{host}:{self.port}/{self.database}{name}"

    def connection_arguments(self) -> dict[str, Any]:
        """What a connection of redis-py takes."""
        arguments: dict[str, Any] = {
            "host": self.host,
            "port": self.port,
            "db": self.database,
            "username": self.username,
            "password": self.password,
        }
        if self.tls:
            arguments |= {
                "ssl_cert_reqs": "required",
                "ssl_check_hostname": True,
                "ssl_ca_certs": self.ca_file,
                "ssl_certfile": self.cert_file,
                "ssl_keyfile": self.key_file,
                "ssl_min_version": ssl.TLSVersion.TLSv1_2,
            }
        return arguments


def _options(parts: SplitResult) -> tuple[dict[str, str], list[str]]:
    options: dict[str, str] = {}
    faults = []
    for option, value in parse_qsl(parts.query, keep_blank_values=True):
        if option == "name":
            options["name"] = value
            if not _NAME.fullmatch(value):
                faults.append(
                    "The option name of a Redis URL has 1 to 64 letters, digits, dots, dashes or underscores."
                )
        elif option in _TLS_OPTIONS and parts.scheme == "rediss":
            options[_TLS_OPTIONS[option]] = value
        else:
            known = ", ".join(["name", *_TLS_OPTIONS])
            faults.append(f"The Redis URL has an option that does not exist. Known: {known} (the last three with TLS).")
    return options, faults
