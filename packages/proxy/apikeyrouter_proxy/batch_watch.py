"""Batches that this proxy made are charged when they are over, also when nobody looks at them any more.

Main entries: `BatchWatch.made` when a reply names a new batch, `charge` when somebody looks at one, and `tick`, which
looks at those that are due, with the key that made them. What is open lies in the store (settings, 16 blobs), so that
it survives restarts and every worker sees it; who looks is settled by an exchange that one worker wins.
Laws: charged once, by `LaterCharges`, to whoever made the batch; a batch is asked about every five minutes at first
and every hour in the end, at most `_LOOKS_MAX` a minute in each process, and given up after eight days; at most 1,024
are open, the oldest are forgotten first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from apikeyrouter.domain.errors import RouterError, StateStoreError, SystemError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.models.call import Operation, Peek
from apikeyrouter.later_charges import LaterCharges
from apikeyrouter.pinning import Owner
from apikeyrouter.router import ApiKeyRouter
from apikeyrouter.sending import Reply
from apikeyrouter_proxy.batch_usage import ended, usage_of_batch, usage_of_results
from apikeyrouter_proxy.threads import pinned

__all__ = ["TICK_S", "BatchWatch"]

_log = logging.getLogger("apikeyrouter_proxy")

TICK_S = 60.0
_LOOKS_MAX = 20
_FIRST_S, _MOST_S, _AGE_SHARE = 300.0, 3_600.0, 0.1
"""How long after a look the next one comes: a tenth of the batch's age, within these bounds."""

_GIVE_UP_S = 8 * 86_400.0
"""OpenAI's and Anthropic's batches end within a day; their results are kept for about thirty."""

_BUCKETS = 16
_IN_BUCKET = 64
_TRIES = 100
_PREFIX = "batches/"
_RESULTS = "/results"
_GONE = 404


class _Open(msgspec.Struct, frozen=True):
    """A batch that is not charged yet. `path`: of the batch, below the API's root. `tags`: of whoever made it. `mark`:
    makes every writing unlike another worker's."""

    batch_id: str
    path: str
    provider_id: str
    key_id: str
    tags: dict[str, Any]
    made_utc_s: float
    next_utc_s: float
    mark: str = ""

    def due_again(self, now_s: float) -> _Open:
        """After a look at `now_s`."""
        wait_s = min(_MOST_S, max(_FIRST_S, _AGE_SHARE * (now_s - self.made_utc_s)))
        return msgspec.structs.replace(self, next_utc_s=now_s + wait_s, mark=secrets.token_hex(4))


_decode = msgspec.json.Decoder(list[_Open]).decode
_Change = Callable[[list[_Open]], list[_Open] | None]


class BatchWatch:
    """See the module. One per process."""

    def __init__(self, router: ApiKeyRouter, clock: Clock) -> None:
        self._router = router
        self._clock = clock
        self._later = LaterCharges(router)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to look, on the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="apikeyrouter-proxy-batches")

    async def aclose(self) -> None:
        """Looks no more. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    # -- what requests tell -----------------------------------------------------------------------------------------

    async def made(self, batch_id: str, path: str, owner: Owner, tags: Mapping[str, Any]) -> None:
        """A batch was made. Returns when that is stored; a store that does not answer is told in the log."""
        now_s = self._now_s()
        made = _Open(
            batch_id, f"{path}/{batch_id}", *owner, dict(tags), now_s, now_s + _FIRST_S, mark=secrets.token_hex(4)
        )

        def added(known: list[_Open]) -> list[_Open] | None:
            if any(one.batch_id == batch_id for one in known):
                return None
            return [*known, made][-_IN_BUCKET:]

        try:
            await self._exchange(_name(batch_id), added)
        except StateStoreError as error:
            _log.warning("The batch %s is charged only when somebody looks at it: %s", batch_id, error.message)

    async def charge(self, batch_id: str, path: str, reply: Reply, tags: Mapping[str, Any]) -> None:
        """Somebody looked at a batch, or at its results (`path`): it is charged if it is over, to whoever made it, or
        with `tags` when that is not known."""
        scored = reply.taken.scored
        try:
            known = await self._find(batch_id)
        except StateStoreError:
            known = None
        await self._book(
            batch_id, path, reply.body, (scored.provider_id, scored.key_id), tags if known is None else known.tags
        )

    async def _book(self, batch_id: str, path: str, body: bytes, owner: Owner, tags: Mapping[str, Any]) -> None:
        """What tells no usage is not charged: batches of OpenAI from before 2025-09-07, and of servers without that
        member. Those of Anthropic are charged by their results, line by line."""
        results = path.endswith(_RESULTS)
        found = usage_of_results(body) if results else usage_of_batch(body)
        things = [f"{batch_id}/{number}" if number else batch_id for number in range(len(found))]
        for thing, (model, usage) in zip(things, found, strict=True):
            await self._later.book("batch", thing, owner, model, usage, tags)
        if (results or ended(body) == "charged here") and all(self._later.booked("batch", one) for one in things):
            with contextlib.suppress(StateStoreError):  # else the next look forgets it
                await self._forget(batch_id)

    # -- looking ----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            await self._clock.sleep(TICK_S)
            try:
                await self.tick()
            except StateStoreError as error:
                _log.warning("Open batches are looked at later: %s", error.message)
            except Exception:  # noqa: BLE001 - a fault of ours must not end the looking
                _log.exception("Looking at open batches failed; it is taken up again.")

    async def tick(self) -> None:
        """Looks at what is due, once among all workers. Raises StateStoreError."""
        due: list[_Open] = []
        now_s = self._now_s()
        for bucket in range(_BUCKETS):
            blob = await self._router.state_store.get_setting(f"{_PREFIX}{bucket:x}")
            due += [one for one in _read(blob) if one.next_utc_s <= now_s]
        due.sort(key=lambda one: one.next_utc_s)
        for one in due[:_LOOKS_MAX]:
            if await self._claim(one, now_s):
                await self._look(one, now_s)

    async def _look(self, one: _Open, now_s: float) -> None:
        owner = one.provider_id, one.key_id
        try:
            body = await self._ask(one, one.path)
            if ended(body) == "charged by results":
                path = one.path + _RESULTS
                await self._book(one.batch_id, path, await self._ask(one, path), owner, one.tags)
            else:
                await self._book(one.batch_id, one.path, body, owner, one.tags)
        except RouterError as error:
            gone = isinstance(error, SystemError) and error.status == _GONE
            if gone or now_s - one.made_utc_s > _GIVE_UP_S:
                _log.warning("The batch %s is not charged, it cannot be asked about: %s", one.batch_id, error.message)
                await self._forget(one.batch_id)
            return
        if now_s - one.made_utc_s > _GIVE_UP_S:
            await self._forget(one.batch_id)

    async def _ask(self, one: _Open, path: str) -> bytes:
        """A free request with the very key that made it. Raises SystemError."""
        router = self._router
        call = router.new_call(
            Operation.Raw,
            b"",
            Peek(model="/batches"),
            provider_id=one.provider_id,
            method="GET",
            path=path,
            tags=one.tags,
            free=True,
        )
        objective = pinned(router, router.objective(None), (one.provider_id, one.key_id))
        return (await router.serve(call, objective, None)).body

    # -- the store --------------------------------------------------------------------------------------------------

    async def _find(self, batch_id: str) -> _Open | None:
        blob = await self._router.state_store.get_setting(_name(batch_id))
        return next((one for one in _read(blob) if one.batch_id == batch_id), None)

    async def _claim(self, one: _Open, now_s: float) -> bool:
        """Whether this process looks: nobody else has begun to since it was read."""

        def claimed(known: list[_Open]) -> list[_Open] | None:
            if one not in known:
                return None
            return [each.due_again(now_s) if each == one else each for each in known]

        return await self._exchange(_name(one.batch_id), claimed)

    async def _forget(self, batch_id: str) -> None:
        def without(known: list[_Open]) -> list[_Open] | None:
            left = [one for one in known if one.batch_id != batch_id]
            return left if len(left) < len(known) else None

        await self._exchange(_name(batch_id), without)

    async def _exchange(self, name: str, change: _Change) -> bool:
        """Changes a blob in one step; whether `change` had anything to do. Raises StateStoreError."""
        store = self._router.state_store
        for _ in range(_TRIES):
            before = await store.get_setting(name)
            wanted = change(_read(before))
            if wanted is None:
                return False
            after = msgspec.json.encode(wanted)
            if await store.put_setting(name, after, only_if_absent=before is None, only_if=before) == after:
                return True
        raise StateStoreError("other processes write all the time")

    def _now_s(self) -> float:
        return self._clock.utc_now().timestamp()


def _name(batch_id: str) -> str:
    return f"{_PREFIX}{zlib.crc32(batch_id.encode('utf-8', 'surrogatepass')) % _BUCKETS:x}"


def _read(blob: bytes | None) -> list[_Open]:
    """What cannot be read counts as nothing."""
    try:
        return _decode(blob) if blob else []
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return []
