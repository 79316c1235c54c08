"""All keys of a router in memory, with the indexes that routing and pools need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from apikeyrouter.domain.errors import KeyNotFoundError
from apikeyrouter.domain.keys.record import KeyRecord
from apikeyrouter.domain.models.api_key import KeyState

__all__ = ["KeyRing"]


class KeyRing:
    """Records by id, provider and quota pool. Retired keys are found by id only."""

    __slots__ = ("_by_id", "_by_pool", "_by_provider", "_numbers")

    def __init__(self) -> None:
        self._by_id: dict[str, KeyRecord] = {}
        self._by_provider: dict[str, tuple[KeyRecord, ...]] = {}
        self._by_pool: dict[tuple[str, str], tuple[KeyRecord, ...]] = {}
        self._numbers: dict[str, int] = {}

    def add(self, records: Iterable[KeyRecord]) -> None:
        """Takes them in, in order of registration."""
        new = list(records)
        for record in new:
            self._by_id[record.key_id] = record
        if len(new) != 1:
            self.reindex()
        elif new[0].state is not KeyState.Retired:  # registering one key of thousands must not index them all anew
            self._append(new[0])

    def _append(self, record: KeyRecord) -> None:
        pool = (record.provider_id, record.pool_id)
        self._by_provider[record.provider_id] = (*self._by_provider.get(record.provider_id, ()), record)
        self._by_pool[pool] = (*self._by_pool.get(pool, ()), record)

    def reindex(self) -> None:
        """To be called when keys were retired or changed their pool."""
        by_provider: dict[str, list[KeyRecord]] = {}
        by_pool: dict[tuple[str, str], list[KeyRecord]] = {}
        for record in self._by_id.values():
            if record.state is not KeyState.Retired:
                by_provider.setdefault(record.provider_id, []).append(record)
                by_pool.setdefault((record.provider_id, record.pool_id), []).append(record)
        self._by_provider = {name: tuple(records) for name, records in by_provider.items()}
        self._by_pool = {name: tuple(records) for name, records in by_pool.items()}

    def get(self, key_id: str) -> KeyRecord:
        """The record. Raises KeyNotFoundError."""
        record = self._by_id.get(key_id)
        if record is None:
            raise KeyNotFoundError(key_id)
        return record

    def of_provider(self, provider_id: str) -> Sequence[KeyRecord]:
        """Its keys that are not retired, oldest first; the same tuple until keys come or go."""
        return self._by_provider.get(provider_id, ())

    def pool_of(self, record: KeyRecord) -> Sequence[KeyRecord]:
        """The keys that share its limits, itself among them unless it is retired."""
        return self._by_pool.get((record.provider_id, record.pool_id), ())

    def all(self) -> Sequence[KeyRecord]:
        """Every key, retired ones too, oldest first."""
        return tuple(self._by_id.values())

    def holder_of(self, provider_id: str, fingerprint: bytes) -> KeyRecord | None:
        """The provider's key that has this secret, or None."""
        return next((r for r in self.of_provider(provider_id) if r.fingerprint == fingerprint), None)

    def next_label(self, provider_id: str) -> str:
        """A label that no key of the provider had: `openai-1`, `openai-2` ..."""
        number = self._numbers.get(provider_id, 0) + 1
        while any(r.label == f"{provider_id}-{number}" for r in self._by_id.values()):
            number += 1
        self._numbers[provider_id] = number
        return f"{provider_id}-{number}"
