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
        """Takes them in. Another process may have registered one before those that are here."""
        new = list(records)
        newest_s = next(reversed(self._by_id.values())).created_at_utc_s if self._by_id else float("-inf")
        for record in new:
            self._by_id[record.key_id] = record
        if len(new) != 1 or new[0].created_at_utc_s < newest_s:
            self.reindex()
        elif new[0].state is not KeyState.Retired:  # registering one key of thousands must not index them all anew
            self._append(new[0])

    def discard(self, key_id: str) -> KeyRecord | None:
        """Forgets a key, which was deleted from the store; the record, or None when there is none."""
        record = self._by_id.pop(key_id, None)
        if record is not None:
            self.reindex()
        return record

    def known(self, key_ids: Iterable[str] | None) -> set[str]:
        """Those of these ids that are here; without any: all that are."""
        return set(self._by_id) if key_ids is None else {key_id for key_id in key_ids if key_id in self._by_id}

    def find(self, key_id: str) -> KeyRecord | None:
        """The record, or None."""
        return self._by_id.get(key_id)

    def _append(self, record: KeyRecord) -> None:
        pool = (record.provider_id, record.pool_id)
        self._by_provider[record.provider_id] = (*self._by_provider.get(record.provider_id, ()), record)
        self._by_pool[pool] = (*self._by_pool.get(pool, ()), record)

    def reindex(self) -> None:
        """To be called when keys were retired or changed their pool."""
        by_provider: dict[str, list[KeyRecord]] = {}
        by_pool: dict[tuple[str, str], list[KeyRecord]] = {}
        in_order = sorted(self._by_id.values(), key=lambda record: (record.created_at_utc_s, record.key_id))
        self._by_id = {record.key_id: record for record in in_order}
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

    def same_label(self, newcomers: Iterable[KeyRecord]) -> list[KeyRecord]:
        """Keys whose label was counted up here while another process, whose keys are `newcomers`, gave the same one to
        an older key. What an operator chose is left alone."""
        theirs: dict[tuple[str, str], KeyRecord] = {(one.provider_id, one.label): one for one in newcomers}
        found = []
        for record in self._by_id.values():
            other = theirs.get((record.provider_id, record.label))
            counted = record.label.removeprefix(f"{record.provider_id}-").isdecimal()
            if other is not None and other is not record and counted and record.state is not KeyState.Retired:
                older = (other.created_at_utc_s, other.key_id) < (record.created_at_utc_s, record.key_id)
                if older and other.state is not KeyState.Retired:
                    found.append(record)
        return found

    def next_label(self, provider_id: str) -> str:
        """A label that no key of the provider had: `openai-1`, `openai-2` ..."""
        number = self._numbers.get(provider_id, 0) + 1
        while any(r.label == f"{provider_id}-{number}" for r in self._by_id.values()):
            number += 1
        self._numbers[provider_id] = number
        return f"{provider_id}-{number}"
