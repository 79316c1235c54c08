"""Who may do what.

Main entry: `Access`. Open mode (the server is bound to loopback, `APIKEYROUTER_REQUIRE_AUTH` is off and no virtual key
was ever created): callers from this machine need no key on `/v1`. The management API is open in the same way until an
admin key exists. Everything else needs a key, in `Authorization: Bearer`, `x-api-key`, `x-goog-api-key` or, as Azure's
clients send it, `api-key`.
Laws: a web page can never use open mode: a foreign `Host` (DNS rebinding) and a foreign `Origin` are refused, because
nothing but being on this machine protects the user's money there. Where a key is demanded the key alone decides, since
browsers never attach one by themselves. Unknown, wrong, revoked and expired keys get the same answer, in constant time.
Our own store's failure is a 503 and never a 401: known virtual keys go on for a bounded time, and a well-formed one
that is not known may have been made by another process meanwhile.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Mapping, MutableMapping
from hashlib import sha256
from typing import Any

from apikeyrouter.domain.errors import ConfigurationError, StateStoreError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.feed import ChangeFeed
from apikeyrouter_proxy.principal import ADMIN, LOCAL, Principal, Role
from apikeyrouter_proxy.settings import ProxySettings, is_loopback
from apikeyrouter_proxy.virtual_keys import VirtualKeys
from apikeyrouter_proxy.wire.errors import WireError, of_router_error

__all__ = ["Access", "Principal", "Role", "check_safe_start"]

Headers = Mapping[bytes, bytes]
Scope = MutableMapping[str, Any]

_FAILURES_MAX, _FAILURE_WINDOW_S, _ADDRESSES_MAX = 20, 60.0, 4096
_KNOWN_HOSTS_MAX = 64
_UNSURE_AFTER_S = 1.0
"""Silence of the store after which an unknown key may be one that was made meanwhile."""

_LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})
_WRONG_KEY = (
    "Incorrect API key provided. It is unknown, revoked, expired or mistyped. Keys of this proxy begin with akr_; "
    "the operator makes one with `apikeyrouter virtual-keys create` or POST /api/v1/virtual-keys."
)
_NO_KEY = (
    "No API key was provided, and this proxy needs one. Send it as 'Authorization: Bearer YOUR_KEY' (or x-api-key, or "
    "x-goog-api-key). The operator makes one with `apikeyrouter virtual-keys create` or POST /api/v1/virtual-keys."
)
_NO_ADMIN_KEY = (
    "The management API needs an admin key: the value of APIKEYROUTER_ADMIN_KEY, or a virtual key of role admin, "
    "as 'Authorization: Bearer YOUR_KEY' or 'X-API-Key: YOUR_KEY'."
)


def check_safe_start(settings: ProxySettings, keys: VirtualKeys) -> None:
    """Raises ConfigurationError when keys will be demanded and none exists that could ever be presented."""
    demanded = settings.require_auth or not settings.bound_to_loopback
    if demanded and settings.admin_key is None and not any(key.active for key in keys.list()):
        why = "APIKEYROUTER_REQUIRE_AUTH is on" if settings.bound_to_loopback else f"PROXY_HOST is {settings.host}"
        raise ConfigurationError(
            [
                (
                    f"{why}, so callers must present a key, but there is none: neither an admin key nor a virtual key. "
                    "Set APIKEYROUTER_ADMIN_KEY (make one with: openssl rand -hex 24), "
                    "or listen on 127.0.0.1, where none is needed."
                )
            ]
        )


class UnknownKeyError(WireError):
    """A key in our form that is not known here (yet)."""


class Access:
    """Decides about one request at a time. `scope` is ASGI's; `headers` are its headers as a mapping, lower case.

    `feed`: hears of virtual keys that other processes make and revoke.
    """

    def __init__(self, settings: ProxySettings, keys: VirtualKeys, clock: Clock, feed: ChangeFeed) -> None:
        self._keys = keys
        self._feed = feed
        self._stale_max_s = settings.stale_keys_s
        self._may_be_open = settings.bound_to_loopback and not settings.require_auth
        self._admin_digest = _digest(settings.admin_key.reveal_bytes()) if settings.admin_key else None
        self._metrics_public = settings.metrics_public
        self._browsers = BrowserRules(settings)
        self._failures = Failures(clock)

    @property
    def open_mode(self) -> bool:
        """Whether callers from this machine need no key on `/v1`."""
        return self._may_be_open and not self._keys.any_created

    @property
    def open_management(self) -> bool:
        """Whether callers from this machine need no key for the management API."""
        return self._may_be_open and self._admin_digest is None and not self._keys.any_admin

    @property
    def browsers(self) -> BrowserRules:
        """The rules for web pages."""
        return self._browsers

    async def admit(self, scope: Scope, headers: Headers, *, management: bool = False) -> Principal:
        """`authenticate` or `authenticate_admin`, after a second look for a key that another process may just have
        made. Raises WireError as they do, and 503."""
        decide = self.authenticate_admin if management else self.authenticate
        try:
            return decide(scope, headers, surely=False)
        except UnknownKeyError:
            try:
                await self._feed.catch_up()
            except StateStoreError as error:
                raise of_router_error(error) from None
            return decide(scope, headers)

    def authenticate(self, scope: Scope, headers: Headers, *, surely: bool = True) -> Principal:
        """The caller of `/v1`. Raises WireError 401, 403, 421, 429 or 503; UnknownKeyError instead of 401, uncounted,
        when `surely` is False and the key may be a new one of another process."""
        if self._may_be_open and not self._keys.any_created and _is_local(scope):
            self._browsers.check(headers)
            return LOCAL
        token = _token(headers)
        return self._by_virtual_key(token) or self._by_admin_key(scope, token, _NO_KEY, surely=surely)

    def authenticate_admin(self, scope: Scope, headers: Headers, *, surely: bool = True) -> Principal:
        """The caller of the management API. Raises WireError 401, 403 (a client's key), 421, 429 or 503; `surely`: as
        for `authenticate`."""
        if self.open_management and _is_local(scope):
            self._browsers.check(headers)
            return LOCAL
        token = _token(headers)
        principal = self._by_virtual_key(token)
        if principal is None:
            return self._by_admin_key(scope, token, _NO_ADMIN_KEY, surely=surely)
        if principal.role is not Role.Admin:
            raise WireError(
                403, "This key may use /v1 but not the management API. " + _NO_ADMIN_KEY, code="admin_key_required"
            )
        return principal

    def authenticate_metrics(self, scope: Scope, headers: Headers) -> Principal:
        """The caller of `/metrics`: anybody on this machine (a scraper rarely has a key), else as for management."""
        if self._metrics_public:
            return LOCAL
        if self._may_be_open and _is_local(scope):
            self._browsers.check(headers)
            return LOCAL
        return self.authenticate_admin(scope, headers)

    def _by_virtual_key(self, token: bytes) -> Principal | None:
        """Whose virtual key this is. It holds for a bounded time without the store, which may know it is revoked."""
        principal = self._keys.verify(token) if token else None
        if principal is not None and self._feed.stale_s > self._stale_max_s:
            raise _store_silent(f"for {self._feed.stale_s:.0f} seconds, so this key may have been revoked meanwhile")
        return principal

    def _by_admin_key(self, scope: Scope, token: bytes, missing: str, *, surely: bool) -> Principal:
        """The last resort, slowed down per address: an admin key is as strong as the operator made it."""
        client = scope.get("client")
        address = client[0] if client else ""
        wait_s = self._failures.wait_s(address)
        if wait_s > 0:
            raise WireError(
                429,
                f"Too many wrong keys from this address; wait {wait_s:.0f} seconds.",
                code="too_many_auth_failures",
                retry_after_s=wait_s,
            )
        if token and self._admin_digest is not None and hmac.compare_digest(_digest(token), self._admin_digest):
            return ADMIN
        if token and self._keys.may_be_new(token):
            if self._feed.stale_s > _UNSURE_AFTER_S:
                raise _store_silent("so whether this key exists cannot be known")
            if not surely:
                raise UnknownKeyError(401, _WRONG_KEY, code="invalid_api_key")
        if token:
            self._failures.count(address)
        error = WireError(401, _WRONG_KEY if token else missing, code="invalid_api_key")
        error.headers.append((b"www-authenticate", b"Bearer"))
        raise error


class BrowserRules:
    """What web pages may do: `check` guards open mode; `cors` and `preflight` answer for the allowed origins."""

    def __init__(self, settings: ProxySettings) -> None:
        self._hosts = _LOOPBACK_NAMES | set(settings.allowed_hosts)
        if settings.bound_to_loopback:
            self._hosts |= {settings.host.lower()}
        self._origins = frozenset(origin.encode() for origin in settings.allowed_origins)
        self._seen: set[bytes] = set()

    @property
    def any_origin(self) -> bool:
        """Whether any foreign origin is allowed at all."""
        return bool(self._origins)

    def check(self, headers: Headers) -> None:
        """Raises WireError 421 for a foreign Host, 403 for a request that a web page of another origin made."""
        host = headers.get(b"host", b"")
        if host not in self._seen:
            self._check_host(host)
        origin = headers.get(b"origin")
        if origin is None:
            if headers.get(b"sec-fetch-site", b"").lower() == b"cross-site":
                raise _foreign_page("another site")
        elif not self.allows(origin, host):
            raise _foreign_page(_shown(origin))

    def allows(self, origin: bytes, host: bytes) -> bool:
        """Whether pages of this origin may call: the proxy's own pages, and those that the operator named."""
        origin = origin.lower()
        return origin in self._origins or origin.partition(b"://")[2] == host.lower() != b""

    def cors(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        """The headers that let a page of an allowed origin read the answer; none for others."""
        origin = headers.get(b"origin")
        if origin is None or origin.lower() not in self._origins:
            return []
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", b"*"),
            (b"vary", b"Origin"),
        ]

    def preflight(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        """The headers that answer a browser's question whether it may call. Raises WireError 403 for others."""
        allowed = self.cors(headers)
        if not allowed:
            raise _foreign_page(_shown(headers.get(b"origin", b"")))
        asked = headers.get(b"access-control-request-headers", b"")
        allowed += [
            (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE, OPTIONS"),
            (b"access-control-allow-headers", asked if _is_name_list(asked) else b"authorization, content-type"),
            (b"access-control-max-age", b"600"),
        ]
        if headers.get(b"access-control-request-private-network") == b"true":
            allowed.append((b"access-control-allow-private-network", b"true"))
        return allowed

    def _check_host(self, host: bytes) -> None:
        text = host.decode("latin-1").lower()
        name, colon, port = text.rpartition(":")
        bare = name if colon and port.isdecimal() and not name.endswith(":") else text
        if bare not in self._hosts:
            raise WireError(
                421,
                f"This proxy does not answer to the host name {_shown(host)!r}: in open mode only loopback names are "
                "accepted, since a web page could point any other name here. Use http://127.0.0.1 or http://localhost, "
                "or allow the name with APIKEYROUTER_ALLOWED_HOSTS.",
                code="host_not_allowed",
            )
        if len(self._seen) < _KNOWN_HOSTS_MAX:
            self._seen.add(host)


class Failures:
    """Wrong keys per client address: 20 a minute are answered, then nothing is compared until the minute is over."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """Seconds until the next attempt of this address is looked at; 0 for now."""
        started_s, count = self._counts.get(address, (0.0, 0))
        if count < _FAILURES_MAX:
            return 0.0
        return max(0.0, started_s + _FAILURE_WINDOW_S - self._clock.monotonic_s())

    def count(self, address: str) -> None:
        """One more wrong key."""
        now_s = self._clock.monotonic_s()
        started_s, count = self._counts.get(address, (now_s, 0))
        if now_s - started_s >= _FAILURE_WINDOW_S:
            started_s, count = now_s, 0
        self._counts[address] = (started_s, count + 1)
        self._counts.move_to_end(address)
        if len(self._counts) > _ADDRESSES_MAX:
            self._counts.popitem(last=False)


def _is_local(scope: Scope) -> bool:
    """Whether the connection comes from this machine. A server's idea of its own address is not asked: behind
    `uvicorn --host 0.0.0.0` it would be wrong."""
    client = scope.get("client")
    return client is not None and (client[0] in ("127.0.0.1", "::1") or is_loopback(client[0]))


def _token(headers: Headers) -> bytes:
    """The credential in whichever header it came; empty when there is none. That of a URL has become a header before
    (`wire.credentials`)."""
    authorization = headers.get(b"authorization", b"")
    if authorization[:7].lower() == b"bearer ":
        bearer = authorization[7:].strip()
        if bearer:
            return bearer
    return next((found for name in _KEY_HEADERS if (found := headers.get(name, b"").strip())), b"")


_KEY_HEADERS = (b"x-api-key", b"x-goog-api-key", b"api-key")


def _digest(token: bytes) -> bytes:
    return sha256(token).digest()


def _shown(value: bytes) -> str:
    """A header's value for an error message: short, printable."""
    return "".join(c if c.isprintable() else "?" for c in value[:80].decode("latin-1"))


def _is_name_list(asked: bytes) -> bool:
    return 0 < len(asked) <= 1000 and all(c.isalnum() or c in "-_, " for c in asked.decode("latin-1"))


def _store_silent(why: str) -> WireError:
    return of_router_error(StateStoreError(f"The state store does not answer, {why}. Try again soon."))


def _foreign_page(origin: str) -> WireError:
    return WireError(
        403,
        f"A web page of {origin} may not use this proxy: in your browser it would act, and spend, in your name. "
        "If the page is yours, allow its origin with APIKEYROUTER_ALLOWED_ORIGINS.",
        code="origin_not_allowed",
    )
