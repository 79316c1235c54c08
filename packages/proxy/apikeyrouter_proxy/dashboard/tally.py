"""What happened since somebody last asked, counted and in rows: `Tally` observes, `Batch` is what it hands over.

Main entry: `Tally.take`. Laws: a batch names at most `ROWS_MAX` requests and says how many more there were; its sums
cover all of them; a batch is plain data, so that one process can hand it to another.
"""

from __future__ import annotations

from typing import Any

import msgspec

from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.models.events import KeyMoved, RequestEnded

__all__ = ["ROWS_MAX", "Batch", "Tally"]

ROWS_MAX = 50
_KEYS_MAX = 50
_TIMES_MAX = 1000
"""Durations kept of one batch: enough for a 95th percentile that does not jump, and bounded at any rate."""


class Batch(msgspec.Struct, array_like=True):
    """Sums, and the first rows. `levels`: what is under way now, by name. `ttft_s`, `duration_s`: in no order."""

    requests: int = 0
    failures: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nano_usd: int = 0
    ttft_s: list[float] = []
    duration_s: list[float] = []
    rows: list[dict[str, Any]] = []
    more: int = 0
    keys: list[dict[str, Any]] = []
    levels: dict[str, int] = {}

    def add(self, other: Batch) -> None:
        """Everything of another one but its levels."""
        self.requests += other.requests
        self.failures += other.failures
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.cost_nano_usd += other.cost_nano_usd
        self.ttft_s += other.ttft_s
        self.duration_s += other.duration_s
        self.add_rows(other.rows, other.more)
        self.keys += other.keys

    def add_rows(self, rows: list[dict[str, Any]], more: int = 0) -> None:
        """As many as there is room for."""
        room = max(0, ROWS_MAX - len(self.rows))
        self.rows += rows[:room]
        self.more += more + len(rows[room:])


class Tally:
    """An observer (see `Observer`) that counts."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._batch = Batch()

    def take(self) -> Batch:
        """What came together; counting begins anew."""
        batch, self._batch = self._batch, Batch()
        return batch

    def request_ended(self, event: RequestEnded) -> None:
        """See `Observer`."""
        batch = self._batch
        batch.requests += 1
        batch.failures += event.outcome != "ok"
        batch.input_tokens += event.input_tokens
        batch.output_tokens += event.output_tokens
        batch.cost_nano_usd += event.cost_nano_usd
        if len(batch.duration_s) < _TIMES_MAX:
            batch.duration_s.append(event.duration_s)
            if event.ttft_s is not None:
                batch.ttft_s.append(event.ttft_s)
        if len(batch.rows) >= ROWS_MAX:
            batch.more += 1
        else:
            batch.rows.append(self._row(event))

    def key_moved(self, event: KeyMoved) -> None:
        """See `Observer`."""
        if len(self._batch.keys) < _KEYS_MAX:
            self._batch.keys.append(
                {
                    "key_id": event.key_id,
                    "label": event.label,
                    "provider_id": event.provider_id,
                    "from": event.from_state,
                    "to": event.to_state,
                    "cause": event.cause,
                }
            )

    def _row(self, event: RequestEnded) -> dict[str, Any]:
        return {
            "id": event.decision_id,
            "request_id": event.request_id,
            "at": self._clock.utc_now().isoformat(timespec="milliseconds"),
            "operation": event.operation,
            "model": event.model,
            "provider_id": event.provider_id,
            "key_label": event.key_label,
            "caller": event.caller,
            "outcome": event.outcome,
            "status": event.status,
            "stream": event.stream,
            "duration_s": round(event.duration_s, 6),
            "ttft_s": None if event.ttft_s is None else round(event.ttft_s, 6),
            "input_tokens": event.input_tokens,
            "output_tokens": event.output_tokens,
            "cost_usd": f"{event.cost_nano_usd / 1e9:.9f}",
            "attempts": len(event.attempts),
        }
