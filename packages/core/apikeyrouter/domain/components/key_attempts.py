"""What attempts do to keys: the half of the key manager that the pipeline calls.

Main entries: `begin`, `accepted`, `succeed`, `fail`, `release`. They are synchronous: they change memory at once and
post the rows, which a crash may lose for a fraction of a second. What happens to a key is decided in
`domain.keys.learning`; here it is spread over the quota pool, stored and announced.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from random import Random

from apikeyrouter.domain.keys import learning
from apikeyrouter.domain.keys.effects import Among, impose
from apikeyrouter.domain.keys.record import KeyRecord, Ticket, Transition
from apikeyrouter.domain.keys.ring import KeyRing
from apikeyrouter.domain.keys.saving import KeyWriter
from apikeyrouter.domain.keys.states import KeyEvent
from apikeyrouter.domain.models.api_key import KeyState
from apikeyrouter.domain.resilience.failures import Failure, Scope

__all__ = ["KeyAttempts", "OnChange"]

OnChange = Callable[[KeyRecord, Transition | None], None]

_AVAILABLE = KeyState.Available  # a member of an enum class costs five times a global


class KeyAttempts(ABC):
    """Takes keys for attempts and learns from them."""

    def __init__(self, ring: KeyRing, writer: KeyWriter, rng: Random, on_change: OnChange) -> None:
        self._ring = ring
        self._writer = writer
        self._rng = rng
        self._on_change = on_change

    def begin(self, record: KeyRecord, model: str | None, now_s: float, *, ahead: bool = False) -> Ticket:
        """Takes the key for one attempt, which sends `ticket.secret`; see `keys.learning.begin`."""
        ticket, moved = learning.begin(record, model, now_s, ahead=ahead)
        self._writer.used(record)
        if moved is not None:
            self._post([(record, moved)])
        return ticket

    def accepted(self, ticket: Ticket, now_s: float) -> None:
        """The provider let the attempt in; its reply goes on."""
        record = ticket.record
        if record.state is _AVAILABLE:
            return
        probed = ticket.probe or ticket.model_limit is not None
        moved = learning.accepted(ticket, now_s)
        if moved is not None:
            self._post([(record, moved)])
        elif probed:
            self._on_change(record, None)

    def succeed(self, ticket: Ticket, now_s: float) -> None:
        """The attempt was served."""
        self._writer.used(ticket.record)
        moved = learning.succeed(ticket, now_s)
        if moved is not None:
            self._post([(ticket.record, moved)])
        elif ticket.probe or ticket.model_limit is not None:
            self._on_change(ticket.record, None)

    def fail(
        self, ticket: Ticket, failure: Failure, now_s: float, among: Among | None = None, *, by_size: bool = False
    ) -> None:
        """The attempt failed, `among` those keys (None: its provider's). What concerns its pool reaches all of that.
        `by_size`: see `keys.effects.effect_of`."""
        record = ticket.record
        among = among or Among(self._ring.of_provider(record.provider_id))
        moved, effect = learning.fail(ticket, failure, now_s, self._rng, among, by_size=by_size)
        touched, news = [record], [] if moved is None else [(record, moved)]
        if moved is not None and moved.event is KeyEvent.RotationUndone:
            record.fingerprint = self._fingerprint(record.provider_id, record.secret.reveal())
        if effect is not None and failure.scope is Scope.Pool:
            touched += (mates := [mate for mate in self._ring.pool_of(record) if mate is not record])
            news += [(mate, change) for mate in mates if (change := impose(mate, effect, now_s)) is not None]
        self._post(news)
        self._writer.used(record)
        self._writer.post_changes(touched)  # a deadline that only moved is news too
        if moved is None and (ticket.probe or ticket.model_limit is not None):
            self._on_change(record, None)

    def release(self, ticket: Ticket) -> None:
        """The attempt ended and told nothing: cancelled, or the caller's own fault."""
        if learning.release(ticket):
            self._on_change(ticket.record, None)

    def _post(self, news: Sequence[tuple[KeyRecord, Transition]]) -> None:
        if not news:
            return
        self._writer.post([record for record, _ in news], [moved for _, moved in news])
        for record, moved in news:
            self._on_change(record, moved)

    @abstractmethod
    def _fingerprint(self, provider_id: str, material: str) -> bytes:
        """What tells two secrets apart without telling them."""
