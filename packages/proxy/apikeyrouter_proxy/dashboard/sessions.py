"""Signed-in browsers: a cookie that stands for the admin key which was typed once.

Main entries: `Sessions.begin` and `Sessions.admit`. The cookie is the key itself, sealed by the store's own sealer
together with an end and a word against forgery; nothing is kept here, so any worker reads it, and revoking or changing
the key ends every session that was begun with it. Laws: scripts never see cookie or key (HttpOnly); other sites' pages
never send it (SameSite=Strict); writes must repeat the word of the session in `x-akr-csrf`, which only our own page was
told; where a credential is in the headers the cookie is not looked at.
"""

from __future__ import annotations

import binascii
import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie

import msgspec

from apikeyrouter.domain.errors import RouterError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.sealer import Sealer
from apikeyrouter_proxy.wire.errors import WireError

__all__ = ["COOKIE", "Session", "Sessions"]

Headers = dict[bytes, bytes]

COOKIE = "akr_session"
_LASTS_S = 12 * 3600.0
_CONTEXT = b"dashboard-session"
_COOKIE_MAX_BYTES = 4096
_SAFE = frozenset({"GET", "HEAD"})
_CREDENTIALS = (b"authorization", b"x-api-key", b"x-goog-api-key", b"api-key")


class _Content(msgspec.Struct, array_like=True):
    token: str
    ends_at_s: float
    csrf: str


@dataclass(frozen=True, slots=True)
class Session:
    """`csrf`: the word that writes must repeat. `ends_at_s`: Unix seconds."""

    csrf: str
    ends_at_s: float
    authorization: bytes = b""

    def __repr__(self) -> str:
        return f"Session(ends_at_s={self.ends_at_s})"


class Sessions:
    """`sealer`: asked each time, since the store opens after this is made."""

    def __init__(self, sealer: Callable[[], Sealer | None], clock: Clock) -> None:
        self._sealer = sealer
        self._clock = clock

    def begin(self, token: str, *, secure: bool) -> tuple[Session, str]:
        """A session for a key that was found good, and the `Set-Cookie` that begins it. `secure`: over TLS."""
        sealer = self._sealer()
        if sealer is None:
            raise WireError(503, "The store is not open yet. Try again in a moment.", code="not_ready")
        content = _Content(token, self._now_s() + _LASTS_S, secrets.token_urlsafe(18))
        sealed = sealer.seal(msgspec.msgpack.encode(content), _CONTEXT)
        value = urlsafe_b64encode(sealed).decode().rstrip("=")
        return self._session(content), _set_cookie(value, _LASTS_S, secure=secure)

    def end(self, *, secure: bool) -> str:
        """The `Set-Cookie` that makes a browser forget its session."""
        return _set_cookie("", 0, secure=secure)

    def find(self, headers: Headers) -> Session | None:
        """The session of a request; None when there is none, or it has ended, or its cookie is not ours."""
        cookie = headers.get(b"cookie")
        sealer = self._sealer()
        if not cookie or sealer is None:
            return None
        value = _value_of(cookie)
        if not value or len(value) > _COOKIE_MAX_BYTES:
            return None
        try:
            sealed = urlsafe_b64decode(value + "=" * (-len(value) % 4))
            content = msgspec.msgpack.decode(sealer.open(sealed, _CONTEXT), type=_Content)
        except (binascii.Error, ValueError, msgspec.MsgspecError, RouterError):
            return None
        return self._session(content) if content.ends_at_s > self._now_s() else None

    def admit(self, headers: Headers, method: str) -> Headers:
        """The headers with the session's credential in them; unchanged when they have a credential or no session.

        Raises WireError 403 for a write that does not repeat the session's word.
        """
        if b"cookie" not in headers or any(name in headers for name in _CREDENTIALS):
            return headers
        session = self.find(headers)
        if session is None:
            return headers
        if method not in _SAFE and not hmac.compare_digest(headers.get(b"x-akr-csrf", b""), session.csrf.encode()):
            raise WireError(
                403,
                "A signed-in browser must repeat the word of its session in x-akr-csrf; GET /api/v1/session tells it. "
                "Programs send a key instead: 'Authorization: Bearer YOUR_KEY'.",
                code="csrf_token_missing",
            )
        return {**headers, b"authorization": session.authorization}

    def _now_s(self) -> float:
        return self._clock.utc_now().timestamp()

    def _session(self, content: _Content) -> Session:
        return Session(content.csrf, content.ends_at_s, b"Bearer " + content.token.encode())


def _value_of(cookie: bytes) -> str:
    jar: SimpleCookie = SimpleCookie()
    try:
        jar.load(cookie.decode("latin-1"))
    except CookieError:
        return ""
    found = jar.get(COOKIE)
    return "" if found is None else found.value


def _set_cookie(value: str, lasts_s: float, *, secure: bool) -> str:
    end = "; Secure" if secure else ""
    return f"{COOKIE}={value}; Path=/; Max-Age={lasts_s:.0f}; HttpOnly; SameSite=Strict{end}"
