"""What happened, kept for whoever asks: the bounded decision log, and the observers that are told.

`Journal` holds the newest decisions in memory and moves finished ones to the store in batches, off the request's path.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial

import msgspec

from apikeyrouter.domain.cost.budgets import BudgetOverrun, BudgetThresholdReached, PriceUnknown
from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.errors import SystemError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.state_store import StateStore, StoreBatch, StoredDecision
from apikeyrouter.domain.models.call import Call
from apikeyrouter.domain.models.events import KeyMoved, Observer, QuotaChanged, RequestEnded
from apikeyrouter.domain.models.routing_decision import RoutingDecision
from apikeyrouter.domain.routing.explain import AttemptFact, DecisionRecord, decode, encode, render
from apikeyrouter.meter import Meter
from apikeyrouter.telling import call_all, tell_all

__all__ = ["Journal"]

_log = logging.getLogger("apikeyrouter")
_PENDING_MAX = 250
"""Decisions written per flush (every 250 ms): 1,000 a second. Above that rate successful ones stay in memory only,
since writing each would cost more than routing it; failures are always written."""


def _to_datetime(unix_s: float) -> datetime:
    return datetime.fromtimestamp(unix_s, UTC)


Recorder = Callable[[Call, DecisionRecord, int, Usage | None], None]


def _nobody() -> None:
    """Is not told."""


class Journal:
    """`decisions_max`: newest decisions kept in memory, each reachable by decision id and by request id."""

    def __init__(self, store: StateStore, clock: Clock, *, decisions_max: int) -> None:
        self._store = store
        self._clock = clock
        self._decisions_max = decisions_max
        self._decisions: OrderedDict[str, DecisionRecord] = OrderedDict()
        self._by_request: dict[str, str] = {}
        self._pending: list[DecisionRecord] = []
        self._epoch_s = clock.utc_now().timestamp() - clock.monotonic_s()
        self.observers: list[Observer] = []
        self.recorders: list[Recorder] = []
        """Told of each finished request with all that is known of it; they must be quick."""
        self.dropped = 0
        self.spent_nano_usd = 0
        self.on_pending: Callable[[], None] = _nobody
        """Called when there is something to flush again."""
        self.meter = Meter(store, self._first)

    def utc_s(self) -> float:
        """Unix seconds, from the monotonic clock: cheap, and steady within one run."""
        return self._epoch_s + self._clock.monotonic_s()

    def utc_now(self) -> datetime:
        """The time of day."""
        return self._clock.utc_now()

    def ended(
        self, call: Call, record: DecisionRecord, fact: AttemptFact, usage: Usage | None, *, outcome: str = "ok"
    ) -> None:
        """A reply was delivered, whole or in part."""
        self._finish(call, record, outcome, 200, usage)
        if self.observers:
            self._tell(call, record, fact, outcome=outcome, status=200, usage=usage)

    def failed(self, call: Call, record: DecisionRecord, error: SystemError) -> None:
        """The request ended in an error, which from now on carries its decision."""
        outcome = error.provider_code or error.category.value
        self._finish(call, record, outcome, error.status)
        if record.choice is not None:  # the note of how its model was chosen is written on
            error.decision = render(record, _to_datetime)
        elif record.attempts or record.kept:  # as of now: attempts may still be under way, and labels change
            error.decided_by(partial(decode, encode(record), _to_datetime))
        else:
            error.decided_by(partial(render, record, _to_datetime))
        if self.observers:
            fact = record.attempts[-1] if record.attempts else None
            self._tell(call, record, fact, outcome=outcome, status=error.status, usage=None)

    def amended(self, record: DecisionRecord) -> None:
        """More became known of a finished request: its decision is written again."""
        if self._store.persistent and all(record is not other for other in self._pending):
            self._pending.append(record)
            self.on_pending()

    def unavailable(self, call: Call, record: DecisionRecord) -> None:
        """Our own store could not be asked, so nothing was sent."""
        self._finish(call, record, "store_unavailable", 503)
        if self.observers:
            fact = record.attempts[-1] if record.attempts else None
            self._tell(call, record, fact, outcome="store_unavailable", status=503, usage=None)

    def cancelled(self, call: Call, record: DecisionRecord) -> None:
        """Nobody waits for the answer any more."""
        self._finish(call, record, "cancelled", 499)
        if self.observers:
            fact = record.attempts[-1] if record.attempts else None
            self._tell(call, record, fact, outcome="cancelled", status=499, usage=None)

    def key_moved(self, event: KeyMoved) -> None:
        """Passes a key's change of state to the observers."""
        tell_all(self.observers, "key_moved", event)

    def render(self, record: DecisionRecord) -> RoutingDecision:
        """A decision as users read it."""
        return render(record, _to_datetime)

    async def find(self, decision_or_request_id: str) -> RoutingDecision | None:
        """By decision id or request id; from memory, else from the store."""
        record = self._decisions.get(self._by_request.get(decision_or_request_id, decision_or_request_id))
        if record is not None:
            return self.render(record)
        stored = await self._store.get_decision(decision_or_request_id)
        return None if stored is None else decode(msgspec.json.decode(stored.payload), _to_datetime)

    def newest(self, limit: int = 50, *, key_id: str | None = None) -> list[RoutingDecision]:
        """The newest decisions in memory, newest first."""
        found: list[RoutingDecision] = []
        for record in reversed(self._decisions.values()):
            if key_id is None or any(a.key_id == key_id for a in record.attempts):
                found.append(self.render(record))
                if len(found) >= limit:
                    break
        return found

    def records(self, before_s: float | None = None) -> Iterable[DecisionRecord]:
        """What memory holds of decisions before a time (Unix seconds), in no order."""
        records = list(self._decisions.values())
        return records if before_s is None else (record for record in records if record.at_utc_s < before_s)

    def money_event(self, event: BudgetThresholdReached | BudgetOverrun | PriceUnknown) -> None:
        """Tells of a passed threshold, an overrun or an unknown price: the log, and for budgets the observers that
        care (`budget_alert`, `budget_overrun`)."""
        _log.warning("%s", event)
        if isinstance(event, PriceUnknown):
            return
        name = "budget_alert" if isinstance(event, BudgetThresholdReached) else "budget_overrun"
        tell_all(self.observers, name, event)

    def quota_changed(self, event: QuotaChanged) -> None:
        """Tells of a pool that will run dry, or does so no more: observers that care (`quota_changed`), and the log
        for alerts."""
        if event.alert is not None:
            _log.warning("Quota %s (%s, %s): %s.", event.pool_id, event.models, event.window, event.outlook)
        tell_all(self.observers, "quota_changed", event)

    def _first(self) -> None:
        self.on_pending()

    def flush(self) -> None:
        """Posts finished decisions and usage to the store."""
        self.meter.flush()
        pending, self._pending = self._pending, []
        if pending:
            self._store.post(StoreBatch(decisions=list(_stored(pending))))

    def _finish(
        self, call: Call, record: DecisionRecord, outcome: str, status: int, usage: Usage | None = None
    ) -> None:
        record.outcome = outcome
        if call.admission is not None:
            used = usage.input_tokens + usage.output_tokens if usage is not None else None
            if used is None and outcome != "cancelled":
                used = 0
            call.admission.close(used, sent=bool(record.attempts))
        self.spent_nano_usd += (record.cost_nano_usd or 0) + record.presumed_nano_usd
        tags, decisions = call.tags, self._decisions
        self.meter.add(tags, record, usage, ok=outcome == "ok")
        record.duration_s = self._clock.monotonic_s() - call.started_s
        if tags:
            record.caller = str(tags.get("virtual_key") or "")
        decisions[record.decision_id] = record
        self._by_request[record.request_id] = record.decision_id
        if len(decisions) > self._decisions_max:
            _, oldest = decisions.popitem(last=False)
            if self._by_request.get(oldest.request_id) == oldest.decision_id:
                del self._by_request[oldest.request_id]
        if self.recorders:
            call_all(self.recorders, call, record, status, usage)
        if not self._store.persistent:
            return
        if len(self._pending) >= _PENDING_MAX and outcome == "ok":
            self.dropped += 1
            return
        if not self._pending:
            self.on_pending()
        self._pending.append(record)

    def _tell(
        self,
        call: Call,
        record: DecisionRecord,
        fact: AttemptFact | None,
        *,
        outcome: str,
        status: int,
        usage: Usage | None,
    ) -> None:
        event = RequestEnded(
            request_id=record.request_id,
            operation=str(call.operation),
            model=record.model,
            provider_id=fact.provider_id if fact else "",
            key_label=fact.label if fact else "",
            outcome=outcome,
            status=status,
            stream=record.stream,
            duration_s=record.duration_s,
            ttft_s=fact.ttft_s if fact else None,
            input_tokens=usage.input_tokens if usage else 0,
            output_tokens=usage.output_tokens if usage else 0,
            cost_nano_usd=record.cost_nano_usd or 0,
            attempts=tuple([(a.label, a.outcome) for a in record.attempts]),
            decision_id=record.decision_id,
            caller=record.caller,
        )
        tell_all(self.observers, "request_ended", event)


def _stored(records: Iterable[DecisionRecord]) -> Iterable[StoredDecision]:
    for record in records:
        chosen = record.chosen
        yield StoredDecision(
            decision_id=record.decision_id,
            request_id=record.request_id,
            at_s=record.at_utc_s,
            key_id=chosen.key_id if chosen else None,
            provider_id=chosen.provider_id if chosen else None,
            model=record.model,
            outcome=record.outcome,
            payload=msgspec.json.encode(encode(record)),
        )
