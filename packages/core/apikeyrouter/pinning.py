"""Who made what: responses, files, batches and conversations live in one provider account and are known to its key.

Main entries: `Pins.learn` when a reply names a new id, `Pins.owner` (in memory) or `Pins.look_up` (the store too) when
a client sends one back. Ids are the provider's own and pass unchanged.
Kept through the store's settings, which every store has: ids are spread over buckets by a hash, a bucket is one blob,
bounded, and changes of it are told to all processes. Writes gather for a moment, and none is waited for.
Laws: memory and store are bounded, the oldest are forgotten first, responses never push out files; two processes that
write one bucket at once lose nothing for good (whoever misses its own pin in what was stored writes it again); a crash
may lose the last fraction of a second.
"""

from __future__ import annotations

import asyncio
import logging
import zlib

import msgspec

from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.state_store import StateStore
from apikeyrouter.feed import ChangeFeed
from apikeyrouter.infrastructure.clock import SystemClock

__all__ = ["KINDS", "Owner", "Pins"]

_log = logging.getLogger("apikeyrouter")

Owner = tuple[str, str]
"""Provider id and key id."""

KINDS = {"response": 256, "file": 16, "batch": 16, "conversation": 16, "session": 64}
"""Kinds of things with the number of their buckets in the store."""

_OTHER_BUCKETS = 16
_IN_BUCKET = 64
"""Pins of one bucket: 16,384 responses, 1,024 files ... are remembered; a blob has about 6 KB."""

_GATHER_S = 0.05
"""How long new pins wait for others before they are written together."""

_RETRY_S = 2.0
_LOOK_AGAIN_S = 0.15
"""Another process that just made a thing has written it by then: gathering, and a write to the store."""

_PREFIX = "pins/"
_AT_ONCE = 16


class _Pin(msgspec.Struct, array_like=True, gc=False):
    thing_id: str
    provider_id: str
    key_id: str
    at_s: float


_decode = msgspec.json.Decoder(list[_Pin]).decode


class Pins:
    """Remembers owners. `store` None: in this process alone. Use one on one event loop at a time.

    `feed`: tells what other processes wrote; without it their pins are found by `look_up` only.
    """

    def __init__(
        self, store: StateStore | None = None, *, feed: ChangeFeed | None = None, clock: Clock | None = None
    ) -> None:
        self._store = store
        self._clock: Clock = clock or SystemClock()
        self._buckets: dict[str, dict[str, _Pin]] = {}
        self._dirty: set[str] = set()
        self._mine: dict[str, set[str]] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        if feed is not None:
            feed.subscribe("setting", self._told)

    def learn(self, kind: str, thing_id: str, provider_id: str, key_id: str) -> None:
        """This key of this provider made it. `kind`: of `KINDS`, or any other word. Cheap; never fails."""
        name = _bucket(kind, thing_id)
        known = self._buckets.get(name, {}).get(thing_id)
        if known is not None and (known.provider_id, known.key_id) == (provider_id, key_id):
            return
        self._put(name, _Pin(thing_id, provider_id, key_id, self._clock.utc_now().timestamp()))
        if self._store is not None:
            self._mine.setdefault(name, set()).add(thing_id)
            self._dirty.add(name)
            self._wake.set()

    def owner(self, kind: str, thing_id: str) -> Owner | None:
        """(provider id, key id) of whoever made it, as far as this process knows; None when it does not."""
        pin = self._buckets.get(_bucket(kind, thing_id), {}).get(thing_id)
        return None if pin is None else (pin.provider_id, pin.key_id)

    async def look_up(self, kind: str, thing_id: str) -> Owner | None:
        """The same, asking the store where memory does not know: twice, a moment apart, since another process may have
        made it just now. A store that does not answer knows nothing."""
        found = self.owner(kind, thing_id)
        if found is not None or self._store is None:
            return found
        for wait_s in (0.0, _LOOK_AGAIN_S):
            if wait_s:
                await self._clock.sleep(wait_s)
            try:
                await self._load(_bucket(kind, thing_id))
            except StateStoreError:
                return None
            found = self.owner(kind, thing_id)
            if found is not None:
                return found
        return None

    async def start(self) -> None:
        """Loads what is stored and begins to write what is learned. Idempotent. Raises StateStoreError."""
        if self._store is None or self._task is not None:
            return
        names = [f"{_PREFIX}{kind}/{at:02x}" for kind, buckets in KINDS.items() for at in range(buckets)]
        for at in range(0, len(names), _AT_ONCE):
            await asyncio.gather(*(self._load(name) for name in names[at : at + _AT_ONCE]))
        self._wake = asyncio.Event()
        if self._dirty:
            self._wake.set()
        self._task = asyncio.get_running_loop().create_task(self._write_on(), name="apikeyrouter-pins")

    async def stop(self) -> None:
        """Writes what was not written yet and ends. Idempotent. Raises StateStoreError."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await self._write()

    async def flush(self) -> None:
        """Returns when everything learned so far is stored. Raises StateStoreError."""
        await self._write()

    # -- the store --------------------------------------------------------------------------------------------------

    async def _write_on(self) -> None:
        failing = False
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._clock.sleep(_RETRY_S if failing else _GATHER_S)
            try:
                await self._write()
                failing = False
            except StateStoreError as error:
                if not failing:
                    _log.warning("Owners of responses and files cannot be stored now; tried again: %s", error.message)
                failing = True
                self._wake.set()

    async def _write(self) -> None:
        """Several buckets at once: stores write what comes together in one step."""
        while self._store is not None and self._dirty:
            names = list(self._dirty)[:_AT_ONCE]
            done = await asyncio.gather(
                *(self._write_bucket(self._store, name) for name in names), return_exceptions=True
            )
            for one in done:
                if isinstance(one, BaseException):
                    raise one

    async def _write_bucket(self, store: StateStore, name: str) -> None:
        await self._load(name)
        self._dirty.discard(name)
        try:
            await store.put_setting(name, msgspec.json.encode(list(self._buckets.get(name, {}).values())))
        except BaseException:
            self._dirty.add(name)
            raise

    async def _load(self, name: str) -> None:
        """Takes in what is stored under one bucket; notices when it lacks what was learned here."""
        if self._store is None:
            return
        blob = await self._store.get_setting(name)
        try:
            stored = {pin.thing_id: pin for pin in _decode(blob)} if blob else {}
        except msgspec.MsgspecError:
            stored = {}
        for pin in stored.values():
            self._put(name, pin)
        mine = self._mine.get(name)
        if mine:
            mine.intersection_update(self._buckets.get(name, ()))
            if any(one not in stored for one in mine):
                self._dirty.add(name)

    async def _told(self, names: frozenset[str] | None) -> None:
        """A change of settings: those of ours are read again. None: any may have changed; those in memory are."""
        ours = self._buckets if names is None else [one for one in names if one.startswith(_PREFIX)]
        for name in list(ours):
            await self._load(name)
        if self._dirty:
            self._wake.set()

    def _put(self, name: str, pin: _Pin) -> None:
        bucket = self._buckets.setdefault(name, {})
        known = bucket.get(pin.thing_id)
        if known is not None and known.at_s >= pin.at_s:
            return
        bucket[pin.thing_id] = pin
        if len(bucket) > _IN_BUCKET:
            del bucket[min(bucket.values(), key=_age).thing_id]


def _age(pin: _Pin) -> float:
    return pin.at_s


def _bucket(kind: str, thing_id: str) -> str:
    """The name of the setting that holds it."""
    at = zlib.crc32(thing_id.encode("utf-8", "surrogatepass")) % KINDS.get(kind, _OTHER_BUCKETS)
    return f"{_PREFIX}{kind}/{at:02x}"
