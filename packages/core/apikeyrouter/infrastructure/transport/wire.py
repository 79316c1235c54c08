"""Requests as bytes.

The part of a request that depends on its method and URL only is made once (`RequestWriter.route`) and kept by the
caller; each request then adds its own headers and body (`RequestWriter.payload`) and leaves as one bytes object.
Laws: nothing that a caller passes can add a header or a second request: CR, LF and NUL are refused before a byte
leaves, and so are the headers that this transport writes itself. Refusals never quote a value.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from apikeyrouter.domain.interfaces.transport import Headers, SendPhase, TransportError

__all__ = ["Origin", "Proxy", "RequestWriter", "Route", "parse_proxy"]

CACHE_ENTRIES_MAX = 1024
# RFC 9110 section 5.6.2: the characters of a token (methods and header names).
TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# RFC 3986: what a URL may hold; everything else must come percent-encoded.
URL_TEXT = re.compile(r"[!#$%&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~]+")
HOST_TEXT = re.compile(r"[0-9A-Za-z._\-]+|\[[0-9A-Fa-f:.]+\]")
BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})
# Written by this transport, or about the connection and not the request (RFC 9110 section 7.6.1).
RESERVED_NAMES = frozenset(
    {
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"keep-alive",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where connections lead: they are shared by all requests of one origin. `host` without brackets."""

    scheme: str
    host: str
    port: int

    @property
    def address(self) -> str:
        """host:port, for messages and for CONNECT."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.address}"


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy. `authorization`: the value of Proxy-Authorization, or None; never shown."""

    origin: Origin
    authorization: bytes | None

    def __repr__(self) -> str:
        return f"<Proxy {self.origin.address}>"


@dataclass(frozen=True, slots=True)
class Route:
    """The fixed part of all requests with one method and URL. `line_count`: line ends in `prefix`.
    `head_only`: the reply has no body (HEAD).

    `repeatable`: sending it twice does no harm (GET, HEAD), so a connection that went stale may be replaced."""

    origin: Origin
    prefix: bytes
    line_count: int
    sends_length: bool
    head_only: bool
    repeatable: bool

    def __repr__(self) -> str:
        return f"<Route to {self.origin}>"


def parse_proxy(url: str) -> Proxy:
    """Reads "http://[user:password@]host[:port]"; port 80 unless given. Raises ValueError without quoting the URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or 80
    except ValueError:
        raise ValueError('The proxy URL cannot be read. It looks like "http://host:3128".') from None
    if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/") or parts.query:
        raise ValueError('The proxy URL must have the form "http://[user:password@]host:port".')
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        authorization = b"Basic " + base64.b64encode(pair)
    return Proxy(Origin("http", parts.hostname, port), authorization)


class RequestWriter:
    """Turns requests into bytes. Remembers the header names that it has checked (a bounded number)."""

    __slots__ = ("_names", "_proxy")

    def __init__(self, proxy: Proxy | None = None) -> None:
        self._proxy = proxy
        self._names: dict[bytes, bool] = {}

    def route(self, method: str, url: str) -> Route:
        """Reads method and URL. Raises TransportError (kind "request", NotSent)."""
        if not TOKEN.fullmatch(method.encode("latin-1", "replace")) or method in ("CONNECT", "TRACE"):
            raise _refused("the method is not one that can be sent")
        origin, target = _split_url(url)
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        if origin.port != DEFAULT_PORTS[origin.scheme]:
            host = f"{host}:{origin.port}"
        extra = b""
        if self._proxy is not None and origin.scheme == "http":
            target = f"http://{host}{target}"
            if self._proxy.authorization is not None:
                extra = b"Proxy-Authorization: " + self._proxy.authorization + b"\r\n"
        prefix = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n".encode("ascii") + extra
        return Route(
            origin=origin,
            prefix=prefix,
            line_count=prefix.count(b"\n"),
            sends_length=method in BODY_METHODS,
            head_only=method == "HEAD",
            repeatable=method in ("GET", "HEAD"),
        )

    def payload(self, route: Route, headers: Headers, body: bytes) -> bytes:
        """The whole request. Raises TransportError (kind "request", NotSent) for a header that cannot be sent."""
        names = self._names
        lines = [route.prefix]
        chooses_encoding = False
        for name, value in headers:
            is_encoding = names.get(name)
            if is_encoding is None:
                is_encoding = self._check_name(name)
            if is_encoding:
                chooses_encoding = True
            lines += (name, b": ", value, b"\r\n")
        head = b"".join(lines)
        line_count = route.line_count + len(headers)
        # Every name and value ends its line once; any more line ends came inside a value.
        if head.count(b"\n") != line_count or head.count(b"\r") != line_count or b"\0" in head:
            raise _bad_value(headers)
        tail = b"\r\n" if chooses_encoding else b"accept-encoding: identity\r\n\r\n"
        if body or route.sends_length:
            return b"".join((head, b"content-length: %d\r\n" % len(body), tail, body))
        return head + tail

    def _check_name(self, name: bytes) -> bool:
        """Remembers a good name; True for accept-encoding."""
        if not TOKEN.fullmatch(name):
            raise _refused("a header name holds a character that HTTP does not allow")
        lower = name.lower()
        if lower in RESERVED_NAMES:
            raise _refused(f"the header {lower.decode()!r} is written by the transport; leave it out")
        if len(self._names) >= CACHE_ENTRIES_MAX:
            self._names.clear()
        is_encoding = lower == b"accept-encoding"
        self._names[name] = is_encoding
        return is_encoding


def _split_url(url: str) -> tuple[Origin, str]:
    # urlsplit silently drops tabs and line breaks, so the text is judged before it.
    if not URL_TEXT.fullmatch(url):
        raise _refused("the URL holds a character that must be percent-encoded (or the host one that must be punycode)")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _refused("the URL's host or port cannot be read") from None
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise _refused("the URL must begin with http:// or https:// and a host")
    if parts.username is not None or parts.password is not None:
        raise _refused("the URL holds a user name or password; send credentials in a header")
    host_text = parts.netloc.rpartition(":")[0] if port is not None else parts.netloc.rstrip(":")
    if not HOST_TEXT.fullmatch(host_text) or port == 0:
        raise _refused("the URL's host or port cannot be read")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Origin(parts.scheme, parts.hostname, port or DEFAULT_PORTS[parts.scheme]), target


def _bad_value(headers: Headers) -> TransportError:
    for name, value in headers:
        if any(byte in value for byte in (b"\r", b"\n", b"\0")):
            return _refused(f"the value of header {name.decode()!r} holds a line break or a NUL byte")
    return _refused("a header holds a line break or a NUL byte")


def _refused(why: str) -> TransportError:
    return TransportError("request", SendPhase.NotSent, f"The request was not sent: {why}.")
