"""Bodies in the log, of a share of requests, for whoever looks for a fault: off unless the operator asks for it.

Main entry: `BodyLog.begin`, which draws lots for a request and gives a `Noted` that goes along with it; `Noted.end`
tells one JSON line, event `request_bodies`.
Laws: what looks like a credential is masked before anything is cut, also behind JSON's escapes and over a stream's
events; at most 4 KiB of each body are told, and whether it was more; base64 is told by its size, a body that is no text
by type and size; work and memory per request are bounded, however large its bodies are.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from random import Random
from typing import Any

import msgspec

from apikeyrouter.domain.models.call import Call
from apikeyrouter.domain.resilience.redact import MASK, redact
from apikeyrouter_proxy.body_pieces import is_stream, joined
from apikeyrouter_proxy.incoming import Incoming
from apikeyrouter_proxy.one_write import forgo

__all__ = ["BODY_MAX_BYTES", "BodyLog", "Noted", "loggable"]

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

BODY_MAX_BYTES = 4096
"""Of each body in a line, as UTF-8."""

_READ_BYTES = 2 * BODY_MAX_BYTES
"""Looked at, base64 aside: masking makes texts shorter."""

_NAME_MAX = 200
_TEXT_TYPES = frozenset({
    "application/x-www-form-urlencoded", "application/xml", "application/x-ndjson", "application/jsonl",
})  # fmt: skip
_CREDENTIAL_MIN = 12
"""Shorter ones are words such as "unused", which open mode takes; an admin key has 12 characters at the least."""

_CREDENTIAL_HEADERS = (b"authorization", b"x-api-key", b"x-goog-api-key", b"api-key")


class BodyLog:
    """Draws lots. `share`: of requests whose bodies are told, 0 to 1. `tell`: takes a whole line."""

    def __init__(
        self, share: float, chance: Random, *, tell: Callable[[str], object], utc_now_iso: Callable[[], str]
    ) -> None:
        self._share = share
        self._chance = chance
        self._tell = tell
        self._now = utc_now_iso

    def begin(self, scope: Scope, send: Send) -> Noted | None:
        """What goes along with this request; None when it is not one of the share."""
        if self._chance.random() >= self._share:
            return None
        forgo(scope)  # each byte is to come by `send`
        return Noted(scope, send, self._tell, self._now)


class Noted:
    """One request whose bodies are told. `request`: set it when the body has been read. `send`: use it instead of the
    one that was given."""

    def __init__(self, scope: Scope, send: Send, tell: Callable[[str], object], now: Callable[[], str]) -> None:
        self.request: Incoming | None = None
        self._scope = scope
        self._send = send
        self._tell = tell
        self._now = now
        self._status: int | None = None
        self._headers: dict[bytes, bytes] = {}
        self._parts: list[bytes] = []
        self._kept_bytes = self._bytes = 0
        self._complete = False

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """ASGI; keeps the beginning of what passes."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = dict(message["headers"])
        else:
            body: bytes = message.get("body", b"")
            self._bytes += len(body)
            if body and self._kept_bytes < _READ_BYTES:
                self._parts.append(body)
                self._kept_bytes += len(body)
        await self._send(message)
        self._complete = message["type"] == "http.response.body" and not message.get("more_body", False)

    def end(self, call: Call | None) -> None:
        """Tells the line, when everything was sent or nobody listens any more. `call`: None if none was made."""
        request, headers = self.request, self._headers
        answered = headers.get(b"x-request-id", b"").decode("latin-1")
        given: Mapping[bytes, bytes] = dict(self._scope["headers"])
        secrets = [*_credentials(given)]
        asked, asked_cut, asked_type = None, False, ""
        if request is not None:
            asked_type = _type_of(request.content_type)
            asked, asked_cut = loggable(request.body, asked_type, secrets, more=False)
        sent_type = _type_of(headers.get(b"content-type", b""))
        sent, sent_cut = None, False
        if headers.get(b"content-encoding", b"identity") == b"identity":
            more = self._bytes > self._kept_bytes
            sent, sent_cut = loggable(b"".join(self._parts), sent_type, secrets, more=more)
        tags = request.principal.tags if request is not None else {}
        line = _Line(
            timestamp=self._now(),
            request_id=_safe(call.request_id if call is not None else answered),
            decision_id=headers.get(b"x-akr-decision", b"").decode("latin-1") or None,
            model=_safe(call.model) if call is not None else "",
            endpoint=_safe(f"{self._scope['method']} {self._scope['path']}"),
            caller=_safe(str(tags.get("virtual_key") or (request.principal.id if request is not None else ""))),
            status=self._status,
            complete=self._complete,
            request=asked,
            request_type=_safe(asked_type),
            request_bytes=len(request.body) if request is not None else None,
            request_cut=asked_cut,
            response=sent,
            response_type=_safe(sent_type),
            response_bytes=self._bytes,
            response_cut=sent_cut,
        )
        self._tell(_encode(line).decode() + "\n")


class _Line(msgspec.Struct, gc=False, kw_only=True):
    """`caller`: the virtual key, as its request's row names it, else "local" or "admin"; "" for nobody. `request`,
    `response`: text, None for what is none or was not read. `complete`: whether the reply went out to its end."""

    timestamp: str
    request_id: str
    decision_id: str | None
    model: str
    endpoint: str
    caller: str
    status: int | None
    complete: bool
    request: str | None
    request_type: str
    request_bytes: int | None
    request_cut: bool
    response: str | None
    response_type: str
    response_bytes: int
    response_cut: bool
    level: str = "info"
    logger: str = "apikeyrouter_proxy.bodies"
    event: str = "request_bodies"


_encode = msgspec.json.Encoder().encode


def _safe(text: str) -> str:
    """A short text that a caller chose."""
    return redact(text[: 4 * _NAME_MAX])[:_NAME_MAX]


def _type_of(header: bytes) -> str:
    """A content type without its parameters."""
    return header.decode("latin-1").partition(";")[0].strip().lower()


def _credentials(headers: Mapping[bytes, bytes]) -> Iterable[str]:
    """What the caller showed to get in, whatever it looks like."""
    for name in _CREDENTIAL_HEADERS:
        words = headers.get(name, b"").decode("latin-1").split()
        if words and len(words[-1]) >= _CREDENTIAL_MIN:
            yield words[-1]


def loggable(body: bytes, kind: str, secrets: Iterable[str], *, more: bool) -> tuple[str | None, bool]:
    """A body as it may be logged, None when it is no text; and whether something is missing at its end. `kind`: its
    content type. `secrets`: masked besides what looks like one. `more`: whether `body` is but the beginning."""
    if body and not (kind.startswith("text/") or kind.endswith(("json", "+xml")) or kind in _TEXT_TYPES):
        return None, False
    short, cut = _without_base64(body, more=more)
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(short, final=not cut)
    except UnicodeDecodeError:
        return None, False
    known = tuple(secrets)
    if is_stream(kind, text):
        text = joined(text, lambda words: _masked(words, known), cut=cut)
    masked = _masked(text, known).encode()
    return masked[:BODY_MAX_BYTES].decode("utf-8", "ignore"), cut or len(masked) > BODY_MAX_BYTES


# -- base64 -------------------------------------------------------------------------------------------------------

_BASE64_MIN = 256
_ENCODED = re.compile(
    # a URL's head; or a long word, with the slashes that some clients escape
    rb"(?<![A-Za-z0-9])data:[A-Za-z]{1,20}\\?/[A-Za-z0-9.+\-]{1,80}(?:;[A-Za-z0-9=_.\-]{1,80}){0,4},"
    rb"|(?<![A-Za-z0-9+/=_\-])(?:[A-Za-z0-9+/=_\-]|\\/){%d}" % _BASE64_MIN,
)
_BASE64_RUN = re.compile(rb"[A-Za-z0-9+/=_\-]*")
_URL_RUN = re.compile(rb"[^\s\"<>\\]*")
_WORD = bytes(one for one in range(0x21, 0x7F) if one not in b'"\\')


def _without_base64(body: bytes, *, more: bool) -> tuple[bytes, bool]:
    """The beginning of a body with sizes in place of what is encoded in it, and whether something is missing at its
    end; then it ends before the last word, which may be the first half of a secret."""
    parts: list[bytes] = []
    at, room = 0, _READ_BYTES
    while room > 0 and at < len(body):
        found = _ENCODED.search(body, at, at + room)
        if found is None:
            rest = body[at : at + room]
            at += room
            parts.append(_before_last_word(rest) if more or at < len(body) else rest)
            break
        is_url = found.group().startswith(b"data:")
        run = _URL_RUN if is_url and not found.group().endswith(b";base64,") else _BASE64_RUN
        end = _end_of_run(body, found.end(), run)
        head = found.group()[:-1].replace(b"\\", b"") if is_url else b"base64"
        size = b"more than %d" if more and end == len(body) else b"%d"
        parts += (body[at : found.start()], b"[" + head + b", " + size % (end - found.start()) + b" bytes]")
        room -= found.start() - at + len(parts[-1])
        at = end
    return b"".join(parts), more or at < len(body)


def _before_last_word(text: bytes) -> bytes:
    """Without the letters, digits and signs at its end, escaped slashes among them."""
    while True:
        kept = text.rstrip(_WORD)
        if not kept.endswith(b"\\") or text[len(kept) : len(kept) + 1] != b"/":
            return kept
        text = kept[:-1]


def _end_of_run(body: bytes, at: int, run: re.Pattern[bytes]) -> int:
    """Where it ends that began before `at`; an escaped slash does not end it."""
    while True:
        found = run.match(body, at)
        at = found.end() if found is not None else at
        if body[at : at + 2] != b"\\/":
            return at
        at += 2


# -- credentials --------------------------------------------------------------------------------------------------

_PLAIN_ESCAPE = re.compile(r"\\u00(2[013-9a-f]|[3-46][0-9a-f]|5[0-9abd-f]|7[0-9a-e])", re.IGNORECASE)
"""JSON's \\u escapes of printable ASCII, quotes and backslashes aside."""

_ESCAPE = re.compile(r"\\(?:[nrtbf]|u[0-9a-fA-F]{4})")
_MARK = "\x1f"
"""Whitespace to a pattern, and in no JSON text."""

_GLUE = r"(?:\\[nrt]?|[\"'`\s]){0,12}"
_SAID = re.compile(
    rf"((?:proxy-)?authorization{_GLUE}[:=]{_GLUE})([^\"'`\\\r\n]{{4,}})"
    rf"|((?:client[-_ ]?secret|private[-_ ]?key|api[-_ ]?key|secret|passw(?:or)?d|cookie"
    rf"|(?:access|refresh|id|auth|session|security)[-_ ]?token)s?{_GLUE}[:=]{_GLUE})([^\s\"'`,;&\\\[\]{{}}]{{4,}})"
    # a URL's password, whose end a model may have left out
    r"|(://[^\s/@:\"'\\]{1,100}:)([^\s/@:\"'\\]{6,})",
    re.IGNORECASE,
)
_MORE = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}-----|\Z)"
    # what ends by itself, webhooks' secrets, GitHub's and Slack's tokens
    r"|(?:\b|(?<=\\[nrt]))(?:ek|sess|whsec|gh[osur]|github_pat|xox[abeprs])[-_][A-Za-z0-9+/=_.\-]{12,}",
    re.DOTALL,
)


def _masked(text: str, secrets: Iterable[str]) -> str:
    """`redact`, for texts whose line ends and quotes may be escaped, once or several times: in `\\nsk-...` the key does
    not stand behind a letter."""
    text = text.replace(_MARK, " ").replace("\\/", "/")
    text = _PLAIN_ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
    text = _MORE.sub(MASK, text)
    text = redact(_ESCAPE.sub(_MARK + r"\g<0>" + _MARK, text), secrets).replace(_MARK, "")
    return _SAID.sub(lambda found: (found[1] or found[3] or found[5]) + MASK, text)
