"""Plain HTTP requests to one server, over the standard library: what the command line needs, and no more.

Main entries: `ask` for a whole answer and `stream` for one that comes in pieces. Laws: no proxy of the environment is
ever used and no redirect is followed, since requests carry keys; every failure below HTTP is an `Unreachable` that says
how far it got.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from apikeyrouter_proxy.cli.failures import USAGE, CliError

__all__ = ["Answer", "Unreachable", "ask", "checked_origin", "stream"]

_CONNECT_TIMEOUT_S = 5.0
_READ_TIMEOUT_S = 600.0
_PIECE_BYTES = 65_536


@dataclass(slots=True)
class Answer:
    """A reply. `headers` in lower case; `body` is empty while it still comes in pieces."""

    status: int
    headers: dict[str, str]
    body: bytes = field(default=b"", repr=False)

    def json(self) -> Any:
        """The body's value, or None when it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class Unreachable(Exception):
    """No answer. `kind`: "refused", "dns", "timeout" and "tls" before a connection was made, "silent" and "broken" on
    one. `message`: in words."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


def checked_origin(url: str) -> str:
    """Scheme, host and port of a URL. Raises CliError for what is no http(s) URL; the message does not repeat it."""
    parts = urlsplit(url.strip())
    try:
        port = parts.port
    except ValueError:
        port = -1
    path = parts.path.rstrip("/")
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1 or path not in ("", "/v1"):
        raise CliError("The proxy's URL must look like http://127.0.0.1:8000 (--url, APIKEYROUTER_URL).", USAGE)
    if parts.username or parts.password:
        raise CliError("The proxy's URL must hold no password: keys belong in APIKEYROUTER_ADMIN_KEY.", USAGE)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{port}" if port else "")


def ask(
    origin: str,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    timeout_s: float = _READ_TIMEOUT_S,
) -> Answer:
    """One request and its whole answer. Raises Unreachable."""
    with stream(origin, method, path, body, headers, timeout_s=timeout_s) as (answer, pieces):
        answer.body = b"".join(pieces)
    return answer


@contextmanager
def stream(
    origin: str,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    timeout_s: float = _READ_TIMEOUT_S,
) -> Iterator[tuple[Answer, Iterator[bytes]]]:
    """The answer's head, and its body in pieces as they come; leaving early ends it. Raises Unreachable."""
    connection = _connection(origin)
    try:
        with _explained(origin):
            connection.connect()
        connection.sock.settimeout(timeout_s)
        with _explained(origin, connected=True):
            connection.request(method, path, body, dict(headers or {}))
            reply = connection.getresponse()
        answer = Answer(reply.status, {name.lower(): value for name, value in reply.getheaders()})
        yield answer, _pieces(reply, origin)
    finally:
        connection.close()


def _pieces(reply: http.client.HTTPResponse, origin: str) -> Iterator[bytes]:
    while True:
        with _explained(origin, connected=True):
            piece = reply.read1(_PIECE_BYTES)
        if not piece:
            return
        yield piece


def _connection(origin: str) -> http.client.HTTPConnection:
    parts = urlsplit(origin)
    host = parts.hostname or ""
    if parts.scheme == "https":
        return http.client.HTTPSConnection(host, parts.port, timeout=_CONNECT_TIMEOUT_S)
    return http.client.HTTPConnection(host, parts.port, timeout=_CONNECT_TIMEOUT_S)


@contextmanager
def _explained(origin: str, *, connected: bool = False) -> Iterator[None]:
    try:
        yield
    except ConnectionRefusedError:
        raise Unreachable("refused", f"Nothing listens at {origin}.") from None
    except socket.gaierror:
        raise Unreachable("dns", f"The host name in {origin} is not known.") from None
    except TimeoutError:
        raise Unreachable("silent" if connected else "timeout", f"{origin} did not answer in time.") from None
    except ssl.SSLError as fault:
        why = getattr(fault, "verify_message", "") or fault.reason or "the TLS handshake failed"
        raise Unreachable("tls", f"No secure connection to {origin}: {why}.") from None
    except (OSError, http.client.HTTPException) as fault:
        raise Unreachable("broken", f"The connection to {origin} broke off ({type(fault).__name__}).") from None
