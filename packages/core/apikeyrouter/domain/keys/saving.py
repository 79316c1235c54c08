"""The rows of this process's keys: when one is written, and the revision that tells other processes that it is news.

Main entries: `KeyWriter.post` (at once, not yet durable), `KeyWriter.apply` (durable when it returns) and
`KeyWriter.flush` (what changed without anybody saying so). `next_revision` is the clock of revisions.
A revision is a hybrid logical clock (Kulkarni et al., 2014) in microseconds of UTC: later than the one before, and not
behind the wall clock, so that of two changes the one that was made knowing the other is always the greater.
Laws: a row whose facts changed has a new revision; a row written for its counters keeps its own, so that nobody has to
read it; what the store refused is written again by the next flush.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.state_store import StateStore, StoreBatch, StoredEvent, StoredKey
from apikeyrouter.domain.keys import rotation
from apikeyrouter.domain.keys.learning import forget_old_limits
from apikeyrouter.domain.keys.record import KeyRecord, Transition
from apikeyrouter.domain.keys.rows import Moment, event_of, stored_key_of

__all__ = ["COUNTERS_EVERY_S", "KeyWriter", "next_revision"]

COUNTERS_EVERY_S = 10.0
"""How old a stored counter may get. Usage roll-ups have the sums; rows carry `last_used` and serve old readers."""

_PLACES = 1024
"""Revisions of one process are equal modulo this, so that two that see the same past choose different ones (1,023 times
of 1,024). It puts a revision ahead of the wall clock by a millisecond at most."""


def next_revision(previous: int, utc_s: float, place: int) -> int:
    """The least number above `previous`, not before `utc_s` (Unix seconds), that is `place` modulo 1,024."""
    least = max(previous + 1, int(utc_s * 1e6))
    return least + (place - least) % _PLACES


class KeyWriter:
    """Writes rows. `place`: a random number of this process, see `next_revision`."""

    def __init__(self, store: StateStore, clock: Clock, place: int) -> None:
        self._store = store
        self._clock = clock
        self._place = place % _PLACES
        self._told: dict[str, tuple[object, ...]] = {}
        self._used: set[KeyRecord] = set()
        self._counters_due_s = clock.monotonic_s() + COUNTERS_EVERY_S

    def moment(self) -> Moment:
        """Now, on both clocks."""
        return Moment(self._clock.monotonic_s(), self._clock.utc_now().timestamp())

    def known(self, records: Iterable[KeyRecord]) -> None:
        """The store has these as they are."""
        for record in records:
            self._told[record.key_id] = _facts(record)

    def forget(self, key_id: str) -> None:
        """The key does not exist any more."""
        self._told.pop(key_id, None)
        self._used = {record for record in self._used if record.key_id != key_id}

    def used(self, record: KeyRecord) -> None:
        """The record changed, if only its counters: `flush` looks at it."""
        self._used.add(record)

    def registered(self, record: KeyRecord) -> None:
        """An operator brought the key."""
        record.order_revision = record.secret_revision = record.terms_revision = self._advance(record)

    def rotated(self, record: KeyRecord) -> None:
        """An operator replaced the secret, which is an order too."""
        record.order_revision = record.secret_revision = self._advance(record)

    def ordered(self, record: KeyRecord) -> None:
        """An operator changed the state."""
        record.order_revision = self._advance(record)

    def renamed(self, record: KeyRecord) -> None:
        """An operator changed label or metadata."""
        record.terms_revision = self._advance(record)

    def post(self, records: Sequence[KeyRecord], lines: Sequence[Transition | StoredEvent] = ()) -> None:
        """Queues the rows, and lines for the audit trail."""
        self._used.difference_update(records)
        self._store.post(self._batch(records, lines))

    async def apply(self, records: Sequence[KeyRecord], lines: Sequence[Transition | StoredEvent] = ()) -> None:
        """Writes rows and lines; durable when it returns. Raises StateStoreError; then `flush` tries again."""
        if not records:
            return
        try:
            await self._store.apply(self._batch(records, lines))
        except StateStoreError:
            for record in records:
                self._told.pop(record.key_id, None)
                self._used.add(record)
            raise

    def post_again(self, records: Sequence[KeyRecord]) -> None:
        """Queues rows under new revisions: other processes must look at them again."""
        for record in records:
            self._told.pop(record.key_id, None)
        if records:
            self.post(records)

    def post_changes(self, records: Iterable[KeyRecord]) -> None:
        """Queues those whose facts differ from what was written last."""
        changed = [record for record in records if self._told.get(record.key_id) != _facts(record)]
        if changed:
            self.post(changed)

    def flush(self, records: Iterable[KeyRecord], *, counters: bool = False) -> None:
        """Posts what changed since it was last written, and forgets secrets and limits whose time is over. `counters`:
        those too, though they are not due."""
        now_s = self._clock.monotonic_s()
        for record in records:
            dropped = record.previous is not None and rotation.drop_previous(record, now_s)
            if dropped or (record.limited_models and forget_old_limits(record, now_s)):
                self._used.add(record)
        if counters or now_s >= self._counters_due_s:
            self._counters_due_s = now_s + COUNTERS_EVERY_S
            if self._used:
                self.post(list(self._used))
        elif self._used:
            self.post_changes(self._used)

    def _advance(self, record: KeyRecord) -> int:
        record.revision = next_revision(record.revision, self._clock.utc_now().timestamp(), self._place)
        return record.revision

    def _batch(self, records: Sequence[KeyRecord], lines: Sequence[Transition | StoredEvent]) -> StoreBatch:
        at = self.moment()
        events = [event_of(line, at) if isinstance(line, Transition) else line for line in lines]
        return StoreBatch(keys=[self._row(record, at) for record in records], events=events)

    def _row(self, record: KeyRecord, at: Moment) -> StoredKey:
        facts = _facts(record)
        if self._told.get(record.key_id) != facts:
            self._told[record.key_id] = facts
            record.revision = next_revision(record.revision, at.utc_s, self._place)
        return stored_key_of(record, at)


def _facts(record: KeyRecord) -> tuple[Any, ...]:
    """What other processes must know of the record. Strikes follow with the next fact; so do deadlines that moved by
    less than a tenth of a second, as those of many requests refused together do."""
    limits: tuple[object, ...] = ()
    if record.limited_models:
        limits = tuple([(m, round(one.until_s, 1), one.code, one.trusted) for m, one in record.limited_models.items()])
    return (
        record.state,
        record.state_reason,
        round(record.until_s, 1) if record.until_s else 0.0,
        record.code,
        record.trusted,
        record.suspected_s,
        limits,
        record.version,
        record.newest_version,
        record.previous_version,
        record.order_revision,
        record.secret_revision,
        record.terms_revision,
    )
