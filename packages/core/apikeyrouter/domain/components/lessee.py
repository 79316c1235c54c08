"""The worker's side of the shared ledger: keeps the slices of its budgets in step with the store.

`Lessee.run` is one task: about every 250 ms, and at once when somebody waits, it sends what changed to the store in one
call and hands the answers to the leases. One call is under way at a time, so what comes up meanwhile goes together in
the next (group commit). Without any lease it rests until there is one, or until boxes are to be looked at.

When the store is not heard for longer than the lease lives (`ttl_s`), hard budgets are frozen: by then the store may
have given the slices to others. A worker that was given up (`fenced`) starts anew under another id. What dead workers
left behind is settled from their black boxes (`rescue`).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Protocol

from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.shared_ledger import LeaseAsk, LeaseGrant, LeaseWorker
from apikeyrouter.domain.interfaces.state_store import StateStore
from apikeyrouter.domain.ledger.accounts import Cells
from apikeyrouter.domain.ledger.leases import Answer, Lease, Waiter

__all__ = ["Boxes", "Lessee", "wait_for_lines", "wait_for_room"]

_log = logging.getLogger("apikeyrouter")

SYNC_EVERY_S = 0.25
HURRY_S = 0.04
TTL_S = 15.0
HEARTBEATS = 5
"""A worker that wants nothing still says so often in the life of its lease that its slices are not given up."""

MARGIN = 2 / 15
"""Hard budgets freeze this part of a lease's life before the store may give the slices up."""

RESCUE_EVERY_S = 2.0
WAITING_MAX = 1000
"""Requests that may wait on one budget; more are not let in."""

_RETRY_S = (0.1, 0.2, 0.4, 0.8, 1.0)


class Boxes(Protocol):
    """Black boxes: what survives this process's end. Implementation: `infrastructure.black_box`."""

    def begin(self, worker_id: str) -> None:
        """Starts the box of a new worker; an earlier one of this process ends."""
        ...

    def open_cells(self, budget_id: str, window: int) -> Cells | None:
        """Two integers for this window, or None when there is no box."""
        ...

    def close_cells(self, budget_id: str, window: int) -> None:
        """The window is over and the store knows everything."""
        ...

    async def rescue(self, store: StateStore) -> int:
        """Settles what dead workers on this machine left; returns how many. Raises StateStoreError."""
        ...

    def end(self) -> None:
        """This worker ended in order: its box is not needed."""
        ...


class Lessee:
    """Leases of one router.

    `on_answer` is told each grant after its lease took it in (alerts, vanished budgets); `on_fenced`, that all leases
    are void and new ones must be made; `on_time`, that the store's clock is known, before anything is leased: until
    then `utc_s` goes by this machine's, and windows may be wrong. `ttl_s`: see `LeaseWorker`.
    """

    def __init__(
        self,
        store: StateStore,
        clock: Clock,
        *,
        boxes: Boxes | None = None,
        on_answer: Callable[[Lease, LeaseGrant], None],
        on_fenced: Callable[[], None],
        on_time: Callable[[], None],
        host: str = "",
        ttl_s: float = TTL_S,
    ) -> None:
        self._store = store
        self._clock = clock
        self._boxes = boxes
        self._on_answer = on_answer
        self._on_fenced = on_fenced
        self._on_time = on_time
        self._time_known = False
        self._host = host
        self._ttl_s = ttl_s
        self._leases: dict[tuple[str, int], Lease] = {}
        self._kicked = False
        self._rest: asyncio.Future[None] | None = None
        self._heard_at_s = -1e18
        self._utc_minus_mono_s = clock.utc_now().timestamp() - clock.monotonic_s()
        self._rescued_at_s = -1e18
        self._failures = 0
        self._next_in_s = SYNC_EVERY_S
        self.failure: StateStoreError | None = None
        self.worker = self._new_worker()
        self.workers = 1
        self.round_trips = 0

    # -- time -------------------------------------------------------------------------------------------------------

    def utc_s(self, now_s: float) -> float:
        """The store's Unix time at the monotonic time `now_s`."""
        return now_s + self._utc_minus_mono_s

    @property
    def lapse_at_s(self) -> float:
        """When hard leases must stop, unless the store is heard before."""
        return self._heard_at_s + self._ttl_s * (1 - MARGIN)

    # -- leases -----------------------------------------------------------------------------------------------------

    def add(self, lease: Lease) -> None:
        """Begins to look after a lease."""
        if self._boxes is not None and lease.boxed:
            lease.account.cells = self._boxes.open_cells(lease.budget_id, lease.window)
        if not self._leases:
            self.kick()
        self._leases[lease.budget_id, lease.window] = lease

    def drop(self, lease: Lease) -> None:
        """Forgets a lease whose budget is gone; running requests settle into it, unseen."""
        lease.account.cells = None
        if self._leases.pop((lease.budget_id, lease.window), None) is not None and self._boxes is not None:
            self._boxes.close_cells(lease.budget_id, lease.window)

    def kick(self) -> None:
        """Asks the store as soon as possible."""
        self._kicked = True
        if self._rest is not None:
            _end(self._rest)

    def hurry(self) -> None:
        """Asks the store again in some milliseconds: somebody is about to give back what is waited for."""
        self._next_in_s = HURRY_S

    def called(self, budget_ids: Collection[str] | None) -> None:
        """Other workers call for money of these budgets (None: of any, maybe): asks the store, which tells how often it
        was called, and so gives back what is idle. With None it also says anew what it was granted."""
        for lease in self._leases.values():
            if budget_ids is None or lease.budget_id in budget_ids:
                lease.heard = False
        self.kick()

    def leases(self) -> Iterable[Lease]:
        """Those looked after, draining ones included."""
        return self._leases.values()

    def freeze_if_lapsed(self, now_s: float, *, soft_too: bool = False) -> bool:
        """Freezes hard leases once the store was not heard for too long; True when they are frozen."""
        if now_s < self.lapse_at_s:
            return False
        for lease in self._leases.values():
            lease.freeze(soft_too=soft_too)
        return True

    # -- the store --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keeps in step for ever, after `begin`; cancel it to stop, then `aclose`."""
        self._kicked, self._rest = False, None
        while True:
            await self.step()
            await self._wait()

    async def _wait(self) -> None:
        """Until somebody kicks, or the next regular round; after a failure for a while in any case."""
        if self._failures:
            await self._clock.sleep(_RETRY_S[min(self._failures, len(_RETRY_S)) - 1])
        elif self._kicked:
            await self._clock.sleep(0.0)  # whoever was told of room takes it before it is asked about again
        else:
            await self._rest_until_due()
        self._kicked = False

    async def _rest_until_due(self) -> None:
        rest = self._rest = asyncio.get_running_loop().create_future()
        later: asyncio.Future[None] | None = None
        if self._leases or self._boxes is not None:
            wait_s = self._next_in_s if self._leases else RESCUE_EVERY_S
            later = asyncio.ensure_future(self._clock.sleep(wait_s))
            later.add_done_callback(lambda _: _end(rest))
        try:
            await rest
        finally:
            if self._rest is rest:  # that of a loop that was left ends some time later
                self._rest = None
            if later is not None:
                later.cancel()

    async def step(self) -> bool:
        """One round: asks what there is to ask. True when the store was asked and answered."""
        now_s = self._clock.monotonic_s()
        self._next_in_s = SYNC_EVERY_S
        asked: list[tuple[Lease, LeaseAsk]] = []
        try:
            if self._leases and not self._time_known:
                await self._exchange([], now_s)
                now_s = self._clock.monotonic_s()
            asked = [(lease, ask) for lease in self._leases.values() if (ask := lease.ask(now_s)) is not None]
            beat = bool(self._leases) and now_s - self._heard_at_s >= self._ttl_s / HEARTBEATS
            if asked or beat:
                await self._exchange(asked, now_s)
            if self._boxes is not None and now_s - self._rescued_at_s >= RESCUE_EVERY_S:
                self._rescued_at_s = now_s
                if await self._boxes.rescue(self._store):
                    self.kick()
        except StateStoreError as error:
            self._failed(error)
            return False
        self._failures = 0
        self.failure = None
        return bool(asked or beat)

    async def _exchange(self, asked: list[tuple[Lease, LeaseAsk]], now_s: float) -> None:
        self.round_trips += 1
        reply = await self._store.lease(self.worker, [ask for _, ask in asked])
        after_s = self._clock.monotonic_s()
        self._utc_minus_mono_s = reply.now_utc_s - (now_s + after_s) / 2
        if not self._time_known:
            self._time_known = True
            self._on_time()
        if reply.fenced:
            self._start_anew()
            return
        self._heard_at_s = now_s  # the store counts the lease's life from some moment after this
        self.workers = reply.workers
        for (lease, ask), grant in zip(asked, reply.grants, strict=True):
            lease.apply(ask, grant, after_s)
            self._on_answer(lease, grant)
        self._forget_settled()

    def _forget_settled(self) -> None:
        for lease in [one for one in self._leases.values() if one.draining and one.settled]:
            self.drop(lease)

    def _failed(self, error: StateStoreError) -> None:
        self._failures += 1
        if self._failures == 1:
            _log.warning("The store cannot be reached; budgets run on what they have leased: %s", error.message)
        self.failure = error
        for lease in self._leases.values():
            lease.fail()
        self.freeze_if_lapsed(self._clock.monotonic_s())

    def _start_anew(self) -> None:
        """The store gave this worker up and has charged its slices: they are void, and so is the id."""
        _log.warning("This worker was not heard for too long and was given up by the store; it starts anew.")
        self.begin()

    def begin(self) -> None:
        """A new worker without any lease; those of an earlier one are void."""
        void = list(self._leases.values())
        for lease in void:
            self.drop(lease)
        self.worker = self._new_worker()
        if self._boxes is not None:
            self._boxes.begin(self.worker.worker_id)
        self._on_fenced()
        for lease in void:
            lease.retire()

    def _new_worker(self) -> LeaseWorker:
        return LeaseWorker(secrets.token_hex(8), self._host, self._ttl_s)

    async def aclose(self) -> None:
        """Reports everything and gives all slices back. Call it when no request runs any more. A store that cannot be
        reached is left to the black box."""
        for lease in self._leases.values():
            lease.draining = True
        for _ in range(3):
            if not self._leases or not await self.step():
                break
        self._forget_settled()
        if self._leases or self._failures:
            return
        try:
            await self._store.recover_worker(self.worker.worker_id, {})
        except StateStoreError:
            return
        if self._boxes is not None:
            self._boxes.end()


def _end(rest: asyncio.Future[None]) -> None:
    if not rest.done() and not rest.get_loop().is_closed():
        rest.set_result(None)


async def wait_for_room(
    lessee: Lessee, clock: Clock, leases: Sequence[Lease], need: int, *, wait_s: float, first: bool = False
) -> Answer | None:
    """Waits in line until each of `leases` has room for `need`: `wait_for_lines` with the same need of each."""
    return await wait_for_lines(lessee, clock, [(lease, need) for lease in leases], wait_s=wait_s, first=first)


async def wait_for_lines(
    lessee: Lessee,
    clock: Clock,
    lines: Sequence[tuple[Lease, int]],
    *,
    wait_s: float,
    first: bool = False,
    patient: bool = True,
    keep: bool = False,
) -> Answer | None:
    """Waits in line until each lease has room for its need, one can never have it, or the store fails; None when
    `wait_s` was over before, or too many wait. `first`: it waited before, so it goes to the front. `patient`: see
    `Waiter`. `keep`: what some have room for is not given back while others are waited for.

    Room is not kept for the caller: try the hold, and wait again if another one was faster.
    """
    short = [(lease, need) for lease, need in lines if lease.free < need]
    if not short:
        return Answer.Room
    if lessee.failure is not None:
        return Answer.Failed  # it is asked again soon, whoever waits; a caller is better told at once
    if any(len(lease.waiters) >= WAITING_MAX for lease, _ in short):
        return None
    told: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    awaited = lines if keep else short
    left = len(awaited)

    def tell(answer: Answer) -> None:
        nonlocal left
        left -= 1
        if (answer is not Answer.Room or left == 0) and not told.done():
            told.set_result(answer)

    waiters = [(lease, Waiter(need, tell, patient=patient)) for lease, need in awaited]
    for lease, waiter in waiters:
        lease.enqueue(waiter, first=first)
        if keep:
            lease.wake()
    lessee.kick()
    timer = asyncio.ensure_future(clock.sleep(wait_s))
    try:
        await asyncio.wait((told, timer), return_when=asyncio.FIRST_COMPLETED)
        return told.result() if told.done() else None
    finally:
        timer.cancel()
        for lease, waiter in waiters:
            lease.leave(waiter)
            if not told.done() or told.result() is not Answer.Room:
                lease.wake()  # whoever is next in line may fit where this one did not
