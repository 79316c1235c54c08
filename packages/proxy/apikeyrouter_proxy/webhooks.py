"""Webhooks: alerts to a receiver of the operator's, signed, retried, and kept in the store until they arrive.

Main entry: `Webhooks`, an observer whose `budget_alert` puts a message into a bounded queue; one task sends them, one
at a time, over a transport of its own. Each change of a message is a line of the store's event log (kind
"webhook.delivery") that holds the whole message, so the newest line of an id is its state, and any process can take it
over: at the start, when a process said that it ends, or when its owner has been silent for `Timing.orphan_s`. Who takes
over writes a claim; the first claim of a line in the store's order wins.
Laws: delivery is at least once, and a message keeps its id, so that receivers can drop repeats; nothing here waits on
the path of a request; redirects are not followed and bodies of answers are not read; a message is given up after 24
hours, or at once when the receiver answers 410.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import secrets
from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass, replace
from datetime import UTC, datetime
from random import Random
from typing import Any

from apikeyrouter import __version__
from apikeyrouter.domain.cost.budgets import BudgetOverrun, BudgetThresholdReached
from apikeyrouter.domain.cost.prices import to_decimal_usd
from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.state_store import StateQuery, StateStore, StoreBatch, StoredEvent
from apikeyrouter.domain.interfaces.transport import HttpRequest, Timeouts, Transport, TransportError
from apikeyrouter.domain.models.events import KeyMoved, RequestEnded
from apikeyrouter.domain.resilience.durations import retry_after_s
from apikeyrouter_proxy.webhook_forms import body_of
from apikeyrouter_proxy.webhook_target import WebhookTarget

__all__ = ["KIND", "Message", "Timing", "Webhooks", "latest_messages"]

KIND = "webhook.delivery"
"""The kind of their lines in the event log."""

QUEUED, RETRYING, DELIVERED, FAILED = "queued", "retrying", "delivered", "failed"
_OPEN = (QUEUED, RETRYING)
_PENDING_MAX = 1000
_LINES_MAX = 10_000
_GONE = 410
_TICK_S = 1e-3

_log = logging.getLogger("apikeyrouter_proxy.webhooks")


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. `attempt_s`: one send, all in all. Waits double from `first_wait_s` to `wait_max_s`, half of each by
    chance (equal jitter, https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/). `give_up_s`: age
    at which a message is given up. `orphan_s`: silence after which another process takes over. `scan_s`: how often
    that is looked for."""

    attempt_s: float = 15.0
    first_wait_s: float = 5.0
    wait_max_s: float = 3600.0
    give_up_s: float = 86_400.0
    orphan_s: float = 60.0
    scan_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Message:
    """One event on its way. `id`: `webhook-id`, the same for every attempt. `body`: the JSON text that is signed.
    `state`: "queued", "retrying", "delivered" or "failed". Times are Unix seconds; `at_s`: of this state. `next_at_s`:
    of the next attempt. `owner`: the process that sends it, "" for none. `detail`: how the last attempt ended.
    `claims`: the line that this one takes the message over from, or gives it away after."""

    id: str
    type: str
    body: str
    created_at_s: float
    at_s: float
    next_at_s: float
    owner: str
    state: str = QUEUED
    attempts: int = 0
    detail: str = ""
    claims: str = ""

    @property
    def open(self) -> bool:
        """Whether it is still to be delivered."""
        return self.state in _OPEN

    @property
    def line(self) -> str:
        """This line's name, for claims."""
        return f"{self.owner}@{self.at_s!r}"


class Webhooks:
    """Sends webhooks to one target. `transport`: must not reach what the target forbids; default: one that does not.

    `dropped`: messages that were given up because the queue was full.
    """

    def __init__(
        self,
        target: WebhookTarget,
        store: StateStore,
        clock: Clock,
        rng: Random,
        *,
        transport: Transport | None = None,
        timing: Timing | None = None,
    ) -> None:
        self.target = target
        self.dropped = 0
        self._store = store
        self._clock = clock
        self._rng = rng
        self._transport = transport or _transport_to(target, clock)
        self._timing = timing or Timing()
        self._owner = secrets.token_hex(8)
        self._pending: dict[str, Message] = {}
        self._known: set[str] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # -- the observer -----------------------------------------------------------------------------------------------

    def request_ended(self, event: RequestEnded) -> None:
        """Requests cause no webhook."""

    def key_moved(self, event: KeyMoved) -> None:
        """Keys cause no webhook."""

    def budget_alert(self, event: BudgetThresholdReached) -> None:
        """Queues `budget.threshold`. The id follows from its facts: an alert told twice is one."""
        facts = "\n".join(map(str, astuple(event)))
        data = {
            "budget_id": event.budget_id,
            "scope": event.scope,
            "scope_id": event.scope_id,
            "mode": event.mode,
            "percent": event.percent,
            "limit": _dollars(event.limit_nano_usd),
            "spent": _dollars(event.spent_nano_usd),
            "currency": "USD",
            "window": str(event.window_id),
        }
        self.queue("budget.threshold", data, f"msg_{hashlib.sha256(facts.encode()).hexdigest()[:32]}")

    def budget_overrun(self, event: BudgetOverrun) -> None:
        """Queues `budget.overrun`: requests cost more than was held for them."""
        data = {
            "budget_id": event.budget_id,
            "scope": event.scope,
            "scope_id": event.scope_id,
            "overrun": _dollars(event.amount_nano_usd),
            "limit": _dollars(event.limit_nano_usd),
            "spent": _dollars(event.spent_nano_usd),
            "currency": "USD",
            "window": str(event.window_id),
        }
        self.queue("budget.overrun", data)

    def queue(self, kind: str, data: dict[str, Any], message_id: str | None = None) -> Message:
        """Queues an event of type `kind`; never waits. `message_id`: default a new one."""
        now_s = self._now_s()
        at = datetime.fromtimestamp(now_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        body = body_of(self.target.form, kind, at, data)
        message_id = message_id or f"msg_{secrets.token_hex(16)}"
        message = Message(message_id, kind, body, now_s, now_s, now_s, self._owner)
        if message_id not in self._known:
            if len(self._pending) >= _PENDING_MAX:
                oldest = min(self._pending.values(), key=lambda one: one.created_at_s)
                self.dropped += 1
                self._end(oldest, FAILED, "given up: the queue is full")
            self._known.add(message_id)
            self._keep(message)
            self._wake.set()
        return message

    # -- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begins to send; also what earlier processes left behind."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="apikeyrouter-webhooks")
            self._task.add_done_callback(_ended)

    async def aclose(self) -> None:
        """Stops sending, and leaves what is pending to the next process. Call it before the store is closed."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for message in list(self._pending.values()):
            self._keep(replace(message, owner="", claims=message.line, at_s=self._later(message)))
        self._pending.clear()
        self._owner = ""  # what is settled from now on is for the next process
        await self._transport.aclose()

    @property
    def pending(self) -> int:
        """Messages that this process still has to deliver."""
        return len(self._pending)

    async def newest(self, limit: int) -> list[Message]:
        """The newest messages, newest first, of every process on the store. Raises StateStoreError."""
        found = latest_messages(await self._lines(self._now_s() - self._timing.give_up_s * 2))
        return sorted(found.values(), key=lambda one: one.created_at_s, reverse=True)[:limit]

    # -- inside -----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        scan_at_s = 0.0
        while True:
            now_s = self._clock.monotonic_s()
            if now_s >= scan_at_s:
                scan_at_s = now_s + self._timing.scan_s
                await self._adopt()
            self._show_life()
            message = min(self._pending.values(), key=lambda one: one.next_at_s, default=None)
            if message is not None and message.next_at_s <= self._now_s():
                await self._deliver(message)
                continue
            wait_s = scan_at_s - self._clock.monotonic_s()
            if message is not None:
                wait_s = min(wait_s, message.next_at_s - self._now_s())
            await self._idle(max(0.0, wait_s))

    async def _idle(self, wait_s: float) -> None:
        """Waits, or until something was queued."""
        waits = [asyncio.ensure_future(self._clock.sleep(wait_s)), asyncio.ensure_future(self._wake.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        self._wake.clear()

    async def _deliver(self, message: Message) -> None:
        status, detail, hint_s = await self._attempt(message)
        message = replace(message, attempts=message.attempts + 1)
        if status is not None and 200 <= status < 300:
            self._end(message, DELIVERED, detail)
            return
        wait_s = max(self._wait_s(message.attempts), min(hint_s, self._timing.wait_max_s))
        next_at_s = self._now_s() + wait_s
        if status == _GONE or next_at_s - message.created_at_s > self._timing.give_up_s:
            _log.error("Webhook %s to %s is given up: %s.", message.id, self.target.origin, detail)
            self._end(message, FAILED, f"given up: {detail}")
            return
        if message.attempts == 1:
            _log.warning("Webhook %s to %s failed (%s) and will be repeated.", message.id, self.target.origin, detail)
        self._keep(replace(message, state=RETRYING, at_s=self._later(message), next_at_s=next_at_s, detail=detail))

    async def _attempt(self, message: Message) -> tuple[int | None, str, float]:
        """Sends once: (status, how it ended in words, seconds that the receiver asked to wait)."""
        body = message.body.encode()
        timestamp_s = int(self._now_s())
        headers = {
            "content-type": "application/json",
            "user-agent": f"ApiKeyRouter/{__version__}",
            "webhook-id": message.id,
            "webhook-timestamp": str(timestamp_s),
        }
        if self.target.secrets:
            headers["webhook-signature"] = self.target.signature(message.id, timestamp_s, body)
        within_s = self._timing.attempt_s
        request = HttpRequest(
            "POST",
            self.target.url,
            [(name.encode(), value.encode()) for name, value in headers.items()],
            body,
            deadline_s=self._clock.monotonic_s() + within_s,
            timeouts=Timeouts(connect_s=within_s, first_byte_s=within_s, idle_s=within_s),
        )
        try:
            reply = await self._transport.send(request)
        except TransportError as fault:
            return None, f"no answer ({fault.kind}): {fault.message}", 0.0
        try:
            hint_s = retry_after_s(reply.headers, self._clock.utc_now()) or 0.0
            more = "; redirects are not followed" if 300 <= reply.status < 400 else ""
            return reply.status, f"status {reply.status}{more}", hint_s
        finally:
            reply.aclose()

    def _wait_s(self, attempts: int) -> float:
        timing = self._timing
        wait_s = min(timing.wait_max_s, timing.first_wait_s * 2.0 ** min(attempts - 1, 40))
        return wait_s / 2 + self._rng.random() * wait_s / 2

    def _show_life(self) -> None:
        """Messages that are due but wait for their turn get a fresh line, or others would take them for orphans."""
        late_s = self._now_s() - self._timing.orphan_s / 2
        for message in list(self._pending.values()):
            if message.next_at_s < late_s:
                self._keep(replace(message, at_s=self._later(message), next_at_s=self._now_s()))

    async def _adopt(self) -> None:
        """Takes over what nobody sends any more."""
        try:
            found = latest_messages(await self._lines(self._now_s() - self._timing.give_up_s))
            self._known = {*self._pending, *found}
            orphans = [one for one in found.values() if self._is_orphan(one)]
            if not orphans:
                return
            # A claim carries the time of the line that it claims, so that clocks have no say in which one is first.
            claims = [
                replace(one, owner=self._owner, claims=one.line, at_s=one.at_s + _TICK_S, next_at_s=self._now_s())
                for one in orphans
            ]
            await self._store.apply(StoreBatch(events=[_event_of(claim) for claim in claims]))
            found = latest_messages(await self._lines(self._now_s() - self._timing.give_up_s))
        except StateStoreError as error:
            _log.warning("Webhooks of earlier processes could not be read: %s", error.message)
            return
        for claim in claims:
            latest = found.get(claim.id)
            if latest is not None and latest.owner == self._owner and latest.open:
                self._pending[claim.id] = latest

    def _is_orphan(self, message: Message) -> bool:
        if not message.open or message.id in self._pending:
            return False
        silent_s = self._now_s() - max(message.next_at_s, message.at_s)
        return message.owner == "" or silent_s > self._timing.orphan_s

    async def _lines(self, since_s: float) -> list[Message]:
        """The log's lines, oldest first."""
        await self._store.flush()
        events = await self._store.query_events(StateQuery(KIND, since_s=since_s, limit=_LINES_MAX))
        return [message for event in reversed(events) if (message := _message_of(event)) is not None]

    def _end(self, message: Message, state: str, detail: str) -> None:
        self._pending.pop(message.id, None)
        self._post(replace(message, state=state, at_s=self._later(message), detail=detail))

    def _keep(self, message: Message) -> None:
        self._pending[message.id] = message
        self._post(message)

    def _post(self, message: Message) -> None:
        self._store.post(StoreBatch(events=[_event_of(message)]))

    def _later(self, message: Message) -> float:
        """Now, and after the message's last line: the log is read in the order of its times."""
        return max(self._now_s(), message.at_s + _TICK_S)

    def _now_s(self) -> float:
        return self._clock.utc_now().timestamp()


def latest_messages(lines: Iterable[Message]) -> dict[str, Message]:
    """The state of each message by id, from its lines, oldest first. Only lines of whoever owns a message count; of
    several claims of one line, the first."""
    found: dict[str, Message] = {}
    for line in lines:
        before = found.get(line.id)
        if before is None or line.owner == before.owner or line.claims == before.line:
            found[line.id] = line
    return found


def _ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (fault := task.exception()) is not None:
        _log.error("Webhooks are not sent any more: restart the proxy, and please report this.", exc_info=fault)


def _transport_to(target: WebhookTarget, clock: Clock) -> Transport:
    from apikeyrouter.infrastructure.transport import HttpTransport, TransportLimits

    limits = TransportLimits(
        connections_per_origin=2, idle_per_origin=1, head_bytes=16_384, body_bytes=65_536, decoded_bytes=65_536,
        buffer_bytes=16_384,
    )  # fmt: skip
    return HttpTransport(limits=limits, clock=clock, resolver=target.resolve)


def _event_of(message: Message) -> StoredEvent:
    document = asdict(message)
    return StoredEvent(document.pop("at_s"), KIND, document.pop("id"), document)


def _message_of(event: StoredEvent) -> Message | None:
    """The message of a line; None for one that another version wrote and this one cannot read."""
    try:
        return Message(id=event.entity_id, at_s=event.at_s, **event.document)
    except TypeError:
        return None


def _dollars(nano_usd: int) -> str:
    return format(to_decimal_usd(nano_usd), "f")
