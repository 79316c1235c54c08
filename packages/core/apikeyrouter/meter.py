"""What was used, summed up by hour, for spend reports: a bounded number of rows, however many requests there are.

`Meter.add` counts one finished request in memory; `flush` posts what came together since the last time, and the store
adds it to its sums. A crash loses at most what was not flushed (a quarter of a second) from the reports; budgets have
a ledger of their own and lose nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.interfaces.shared_ledger import UsageRow
from apikeyrouter.domain.interfaces.state_store import StateStore, StoreBatch
from apikeyrouter.domain.routing.explain import DecisionRecord

__all__ = ["RESERVED_TAGS", "Meter"]

RESERVED_TAGS = ("virtual_key", "team")
"""Tags with columns of their own."""

_ROWS_MAX = 5_000
"""Distinct rows between two flushes; what is beyond loses its tags, so that no caller can fill the store."""

_HOUR_S = 3600
_encode = msgspec.json.Encoder(order="sorted").encode


class Meter:
    """Rows by everything that they have in common. `on_first`: called when there is something to flush again."""

    def __init__(self, store: StateStore, on_first: Callable[[], None]) -> None:
        self._store = store
        self._on_first = on_first
        self._rows: dict[tuple[object, ...], UsageRow] = {}
        self._tags: dict[int, tuple[Mapping[str, Any], tuple[str, str, str]]] = {}

    def add(self, tags: Mapping[str, Any], record: DecisionRecord, usage: Usage | None, *, ok: bool) -> None:
        """One request ended. It counts for the key that it ended at; keys that failed before count a failure each."""
        attempts = record.attempts
        if not attempts:
            return
        hour_s = int(record.at_utc_s // _HOUR_S) * _HOUR_S
        who = self._who(tags)
        for failed in attempts[:-1]:
            self._row(hour_s, failed.provider_id, failed.key_id, record.model, who).failures += 1
        last = attempts[-1]
        row = self._row(hour_s, last.provider_id, last.key_id, record.model, who)
        row.requests += 1
        row.failures += not ok
        row.cost_nano_usd += (record.cost_nano_usd or 0) + record.presumed_nano_usd
        row.presumed_nano_usd += record.presumed_nano_usd
        if usage is not None:
            row.input_tokens += usage.input_tokens
            row.cached_input_tokens += usage.cached_input_tokens
            row.output_tokens += usage.output_tokens

    def late(
        self, tags: Mapping[str, Any], owner: tuple[str, str], model: str, usage: Usage, cost: int, *, at_utc_s: float
    ) -> None:
        """What a finished batch used and cost (nano-USD); `owner`: provider id and key id. It counts as no request."""
        row = self._row(int(at_utc_s // _HOUR_S) * _HOUR_S, *owner, model, self._who(tags))
        row.cost_nano_usd += cost
        row.input_tokens += usage.input_tokens
        row.cached_input_tokens += usage.cached_input_tokens
        row.output_tokens += usage.output_tokens

    def flush(self) -> None:
        """Posts what was counted since the last call."""
        if self._rows:
            rows, self._rows = self._rows, {}
            self._tags.clear()
            self._store.post(StoreBatch(usage=list(rows.values())))

    def _row(self, hour_s: int, provider_id: str, key_id: str, model: str, who: tuple[str, str, str]) -> UsageRow:
        if len(self._rows) >= _ROWS_MAX:
            who = (who[0], who[1], "{}")
        key = (hour_s, provider_id, key_id, model, who)
        row = self._rows.get(key)
        if row is None:
            if not self._rows:
                self._on_first()
            row = self._rows[key] = UsageRow(hour_s, provider_id, key_id, model, *who)
        return row

    def _who(self, tags: Mapping[str, Any]) -> tuple[str, str, str]:
        """(virtual key, team, other tags as text). Callers share one mapping per credential, so it is looked up by
        identity; the mapping is kept, so that no other one can take its place in memory meanwhile."""
        if not tags:
            return ("", "", "{}")
        known = self._tags.get(id(tags))
        if known is None:
            others = {str(name): str(value) for name, value in tags.items() if name not in RESERVED_TAGS}
            who = (str(tags.get("virtual_key") or ""), str(tags.get("team") or ""), _encode(others).decode())
            known = self._tags[id(tags)] = (tags, who)
        return known[1]
