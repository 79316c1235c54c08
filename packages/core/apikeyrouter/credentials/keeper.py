"""Keeps the access tokens of credentials fresh: one worker exchanges them ahead of their end, the others hear of it.

Main entries: `add` (exchange once, then register the key), `tick` (whenever `due`: once a second, and as soon as an
exchange is) and `refused` (the provider refused a token before its time). The spec lies sealed in the store, beside the
token's end; the token is the key's secret, replaced by rotation, so requests under way keep theirs.
Which worker exchanges is settled by Fischer's lock over a setting of the store (Lamport, "A fast mutual exclusion
algorithm", 1987): write your name, wait for longer than a write takes, and go on if it is still there.
Laws: a new refresh token is durable before the token that came with it is used; the spec never leaves this module but
into a token request; a fault of an exchange never ends a request, since the old token counts until its end.
"""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from apikeyrouter.credentials.grants import Token, TokenError, read_token, run_command, token_request
from apikeyrouter.credentials.specs import Command, RefreshToken, Spec, kind_of, spec_of
from apikeyrouter.domain.components.key_manager import KeyManager
from apikeyrouter.domain.errors import KeyRegistrationError, RouterError, StateStoreError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.sealer import Sealer
from apikeyrouter.domain.interfaces.state_store import StateStore, StoreBatch, StoredEvent
from apikeyrouter.domain.interfaces.transport import Transport, TransportError
from apikeyrouter.domain.keys.metadata import CREDENTIAL
from apikeyrouter.domain.keys.record import KeyRecord
from apikeyrouter.domain.models.api_key import APIKey, KeyState

__all__ = ["CredentialKeeper"]

_log = logging.getLogger("apikeyrouter")

_MARGIN_S = 300.0
_MARGIN_SHARE = 0.2
"""A token is replaced five minutes before its end, or when a fifth of its life is left, whichever is later."""

_CLAIM_S = 60.0
"""How long a worker that claims an exchange may take, before another one tries."""

_CLAIM_SETTLES_S = 0.5
"""Longer than a write to the store takes, in a store that answers in time at all."""

_RETRY_S, _RETRY_MAX_S = 5.0, 300.0
_LOOK_AGAIN_S = 5.0
_ALL_AFTER_S = 1.0
"""At least so often all keys are looked through: other workers add and retire them too."""

_UNDER_WAY = float("inf")
"""Due: somebody sees to it just now; a one-time refresh token must not be sent twice."""

_OVERLAP_S = 120.0
_REFUSED_EVERY_S = 30.0


class _Kept(msgspec.Struct):
    """What the store keeps, sealed. `ends_utc_s`: of the newest token."""

    spec: Spec
    ends_utc_s: float
    life_s: float


class _Claim(msgspec.Struct):
    """Who exchanges, until when."""

    who: str
    until_utc_s: float


class _Watch(msgspec.Struct):
    """What this worker knows of one credential. `due_s`: monotonic time of the next look."""

    due_s: float
    retry_s: float = _RETRY_S
    refreshed_s: float = float("-inf")
    forced: bool = False


class CredentialKeeper:
    """One per router. `transport`: gives the running one."""

    def __init__(
        self,
        store: StateStore,
        keys: KeyManager,
        clock: Clock,
        *,
        transport: Callable[[], Transport],
    ) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._transport = transport
        self._me = secrets.token_hex(8)
        self._sealer: Sealer | None = None
        self._watches: dict[str, _Watch] = {}
        self._tick_at_s = float("-inf")

    def open(self, sealer: Sealer) -> None:
        """From now on specs can be sealed and opened."""
        self._sealer = sealer

    async def add(
        self, provider_id: str, given: Mapping[str, Any] | Spec, metadata: Mapping[str, Any] | None, label: str | None
    ) -> APIKey:
        """Exchanges the credential, and registers the token as a key. Raises ConfigurationError (a malformed spec),
        KeyRegistrationError (no token came), StateStoreError."""
        spec = spec_of(given)
        try:
            token = await self._exchange(spec)
        except TokenError as error:
            raise KeyRegistrationError(f"The credential was not registered: {error.message}") from None
        if token.refresh_token is not None and isinstance(spec, RefreshToken):
            spec = msgspec.structs.replace(spec, refresh_token=token.refresh_token)
        key = await self._keys.register(
            token.value, provider_id, {**(metadata or {}), CREDENTIAL: kind_of(spec)}, label
        )
        try:
            await self._save(key.id, spec, token)
        except StateStoreError:
            await self._keys.revoke_key(key.id, reason="its credential could not be stored")
            raise
        return key

    def refused(self, record: KeyRecord) -> None:
        """The provider refused the key's token: it is exchanged at once, unless that has just been done."""
        watch = self._watches.get(record.key_id)
        now_s = self._clock.monotonic_s()
        if watch is not None and now_s - watch.refreshed_s >= _REFUSED_EVERY_S:
            watch.due_s, watch.forced = now_s, True
            self._tick_at_s = now_s

    def due(self, now_s: float) -> bool:
        """Whether it is time for `tick`, and any key's token is, or was, exchanged here."""
        if now_s < self._tick_at_s:
            return False
        if self._watches:
            return True
        for record in self._keys.ring.all():
            if CREDENTIAL in record.metadata:
                return True
        self._tick_at_s = now_s + _ALL_AFTER_S
        return False

    async def tick(self) -> None:
        """Exchanges what is due."""
        now_s = self._clock.monotonic_s()
        self._tick_at_s = now_s + _ALL_AFTER_S
        try:
            await self._look_through(now_s)
        finally:
            soonest_s = min((watch.due_s for watch in self._watches.values()), default=math.inf)
            self._tick_at_s = min(self._tick_at_s, soonest_s)

    async def _look_through(self, now_s: float) -> None:
        for record in self._keys.ring.all():
            if CREDENTIAL not in record.metadata or record.state in (KeyState.Retired, KeyState.Disabled):
                watched = self._watches.pop(record.key_id, None)
                if watched is not None and record.state is KeyState.Retired:
                    await self._store.put_setting(_name(record.key_id), b"")
                continue
            watch = self._watches.get(record.key_id)
            if watch is None:
                watch = self._watches[record.key_id] = _Watch(now_s)
            if now_s >= watch.due_s:
                watch.due_s = _UNDER_WAY
                try:
                    await self._look(record, watch)
                except RouterError as error:
                    _log.warning("The credential of key %s could not be looked after: %s", record.label, error.message)
                finally:
                    if watch.due_s is _UNDER_WAY:
                        watch.due_s = self._clock.monotonic_s() + _LOOK_AGAIN_S

    async def _look(self, record: KeyRecord, watch: _Watch) -> None:
        kept = await self._load(record.key_id)
        if kept is None:
            watch.due_s = self._clock.monotonic_s() + _LOOK_AGAIN_S
            return
        left_s = kept.ends_utc_s - self._utc_s()
        margin_s = min(_MARGIN_S, kept.life_s * _MARGIN_SHARE)
        if left_s > margin_s and not watch.forced:
            watch.due_s = self._clock.monotonic_s() + left_s - margin_s
            return
        if not await self._claim(record.key_id):
            watch.due_s = self._clock.monotonic_s() + _LOOK_AGAIN_S
            return
        newest = await self._load(record.key_id)
        if newest is None or newest.ends_utc_s != kept.ends_utc_s:  # another worker was faster
            watch.due_s, watch.forced = self._clock.monotonic_s(), False
            return
        await self._renew(record, watch, newest)

    async def _renew(self, record: KeyRecord, watch: _Watch, kept: _Kept) -> None:
        watch.forced = False
        try:
            token = await self._exchange(kept.spec)
        except TokenError as error:
            self._tell("credential.failed", record, {"why": error.message, "final": error.final})
            _log.warning("The credential of key %s was not renewed: %s", record.label, error.message)
            watch.due_s = self._clock.monotonic_s() + (_RETRY_MAX_S if error.final else watch.retry_s)
            watch.retry_s = min(watch.retry_s * 2, _RETRY_MAX_S)
            return
        spec = kept.spec
        if token.refresh_token is not None and isinstance(spec, RefreshToken):
            spec = msgspec.structs.replace(spec, refresh_token=token.refresh_token)
        await self._save(record.key_id, spec, token)
        if token.value != record.secret.reveal():
            await self._keys.rotate_key(record.key_id, token.value, overlap_s=_OVERLAP_S, actor=CREDENTIAL)
        watch.refreshed_s = self._clock.monotonic_s()
        watch.retry_s = _RETRY_S
        watch.due_s = watch.refreshed_s + max(1.0, token.life_s - min(_MARGIN_S, token.life_s * _MARGIN_SHARE))

    async def _exchange(self, spec: Spec) -> Token:
        if isinstance(spec, Command):
            return await run_command(spec)
        try:
            reply = await self._transport().send(token_request(spec, self._utc_s()))
            return read_token(reply.status, await reply.read())
        except TransportError as error:
            raise TokenError(f"The token endpoint could not be asked: {error.message}.", final=False) from None

    async def _claim(self, key_id: str) -> bool:
        """Whether this worker may exchange now: no other one is about to."""
        if not self._store.persistent:
            return True
        name = f"{_name(key_id)}.claim"
        stored = await self._store.get_setting(name)
        held = msgspec.json.decode(stored, type=_Claim) if stored else None
        if held is not None and held.who != self._me and held.until_utc_s > self._utc_s():
            return False
        mine = msgspec.json.encode(_Claim(self._me, self._utc_s() + _CLAIM_S))
        await self._store.put_setting(name, mine)
        await self._clock.sleep(_CLAIM_SETTLES_S)
        return await self._store.get_setting(name) == mine

    async def _load(self, key_id: str) -> _Kept | None:
        sealed = await self._store.get_setting(_name(key_id))
        if not sealed:
            return None
        return msgspec.json.decode(self._opened().open(sealed, _context(key_id)), type=_Kept)

    async def _save(self, key_id: str, spec: Spec, token: Token) -> None:
        kept = _Kept(spec, self._utc_s() + token.life_s, token.life_s)
        await self._store.put_setting(_name(key_id), self._opened().seal(msgspec.json.encode(kept), _context(key_id)))

    def _opened(self) -> Sealer:
        if self._sealer is None:
            raise RouterError("The router is not started: call `await router.start()` first.")
        return self._sealer

    def _tell(self, kind: str, record: KeyRecord, facts: dict[str, Any]) -> None:
        document = {"key_id": record.key_id, "provider_id": record.provider_id, "label": record.label, **facts}
        self._store.post(StoreBatch(events=[StoredEvent(self._utc_s(), kind, record.key_id, document)]))

    def _utc_s(self) -> float:
        return self._clock.utc_now().timestamp()


def _name(key_id: str) -> str:
    return f"{CREDENTIAL}.{key_id}"


def _context(key_id: str) -> bytes:
    return f"{CREDENTIAL}:{key_id}".encode()
