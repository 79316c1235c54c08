"""Keys from registration to retirement: the component that the router, the pipeline and operators talk to.

Main entries: `register`, `rotate_key`, `revoke_key`, `enable`, `disable` for operators (async: durable when they
return); what the pipeline calls is in `key_attempts`; `refresh` for what other processes on the store did. What happens
to a key is decided in `domain.keys`; here it is stored and announced.
Laws: key material enters by `register` and `rotate_key`, is sealed before it is stored, and leaves only as a `Secret`.
A change by an operator counts in this process at once; if the store fails, StateStoreError says that it is not durable,
and the next flush tries again. Key ids come from the system's random source and not from `rng`: they must be
unguessable, not replayable.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from random import Random
from typing import Any

from apikeyrouter.domain.components.key_attempts import KeyAttempts, OnChange
from apikeyrouter.domain.errors import InvalidStateTransitionError, KeyRegistrationError, RouterError, StateStoreError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.sealer import Sealer
from apikeyrouter.domain.interfaces.state_store import StateQuery, StateStore, StoredEvent
from apikeyrouter.domain.keys import operators, rotation
from apikeyrouter.domain.keys.counting import KeyCounts
from apikeyrouter.domain.keys.eligibility import blocked
from apikeyrouter.domain.keys.joining import take_in
from apikeyrouter.domain.keys.merging import twins
from apikeyrouter.domain.keys.metadata import CREDENTIAL, clean_label, clean_material, clean_metadata, key_terms
from apikeyrouter.domain.keys.record import KeyRecord, Transition
from apikeyrouter.domain.keys.ring import KeyRing
from apikeyrouter.domain.keys.rows import api_key_view, seal_context, transition_of
from apikeyrouter.domain.keys.saving import KeyWriter
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.keys.unsealing import does_not_open, unseal_rows
from apikeyrouter.domain.models.api_key import APIKey, KeyState, StateTransition

__all__ = ["KeyManager"]

_HISTORY_MAX = 1000
_KEY_ID_BYTES = 8


class KeyManager(KeyAttempts):
    """Owns every `KeyRecord`. `on_change` hears of each transition, and gets None for the transition when keys came,
    went or got other terms, or when a probe ended without an outcome."""

    def __init__(self, store: StateStore, clock: Clock, rng: Random, *, on_change: OnChange) -> None:
        super().__init__(KeyRing(), KeyWriter(store, clock, secrets.randbits(16)), rng, on_change)
        self._store = store
        self._clock = clock
        self._sealer: Sealer | None = None
        self._counts = KeyCounts(store, clock)
        self._registering: set[tuple[str, bytes]] = set()

    async def open(self, sealer: Sealer) -> None:
        """Loads the stored keys and opens their secrets; what was sealed under an older key is sealed anew.

        A second call does nothing. Raises SealError, naming the keys that do not open, and StateStoreError.
        """
        if self._sealer is not None:
            return
        records, resealed = unseal_rows(await self._store.load_keys(), sealer, self._writer.moment())
        await self._counts.read(records)
        self._writer.known(record for record in records if record not in resealed)
        moved = [self._retire_twin(surplus, kept) for surplus, kept in twins(records)]
        changed = list(dict.fromkeys([*resealed, *(record for record, _ in moved)]))
        await self._writer.apply(changed, [line for _, line in moved])
        self._ring.add(records)
        self._sealer = sealer

    async def refresh(self, key_ids: Collection[str] | None = None) -> None:
        """Takes in what other processes wrote about these keys, or about all of them; `on_change` hears of each key
        that is different now. Before `open` there is nothing to do.

        Raises StateStoreError, and SealError for secrets that do not open: everything else was taken in then.
        """
        if self._sealer is None:
            return
        looked = self._ring.known(key_ids)
        rows = await self._store.load_keys(None if key_ids is None else list(key_ids))
        gone = looked.difference(row.key_id for row in rows)
        taken = take_in(self._ring, rows, gone, self._sealer, self._writer.moment())
        for key_id in gone:
            self._writer.forget(key_id)
        self._writer.known(taken.as_stored)
        self._post([self._retire_twin(surplus, kept) for surplus, kept in taken.surplus])
        for record in taken.renamed:
            self._writer.renamed(record)
        self._writer.post_again([*taken.rewrite, *taken.renamed])
        for record in (*taken.changed, *taken.renamed):
            self._on_change(record, None)
        if taken.faults:
            raise does_not_open(taken.faults)

    # -- looking ----------------------------------------------------------------------------------------------------

    def get(self, key_id: str) -> KeyRecord:
        """The live record. Raises KeyNotFoundError."""
        return self._ring.get(key_id)

    @property
    def ring(self) -> KeyRing:
        """Every key, for reading."""
        return self._ring

    def records(self, provider_id: str) -> Sequence[KeyRecord]:
        """The provider's keys that are not retired, oldest first; the same tuple until keys come or go."""
        return self._ring.of_provider(provider_id)

    def find(self, key_material: str, provider_id: str) -> KeyRecord | None:
        """The provider's key with this material, or None. Raises KeyRegistrationError for unusable material."""
        return self._ring.holder_of(provider_id, self._fingerprint(provider_id, clean_material(key_material)))

    async def get_key(self, key_id: str) -> APIKey:
        """The key as users see it, also when it is retired. Raises KeyNotFoundError."""
        record = self.get(key_id)
        await self._counts.read(self._ring.all())
        return api_key_view(record, self._writer.moment())

    async def list_keys(self, provider_id: str | None = None) -> list[APIKey]:
        """Keys as users see them, oldest first, retired ones left out."""
        await self._counts.read(self._ring.all())
        at = self._writer.moment()
        found = self._ring.all() if provider_id is None else self.records(provider_id)
        return [api_key_view(record, at) for record in found if record.state is not KeyState.Retired]

    async def get_eligible_keys(self, provider_id: str, model: str | None = None) -> list[APIKey]:
        """The provider's keys that may serve `model` now; without one: that wait for nothing, whatever the model."""
        at = self._writer.moment()
        free = [r for r in self.records(provider_id) if blocked(r, model, at.now_s) is None]
        if model is None:
            free = [r for r in free if not any(limit.until_s > at.now_s for limit in r.limited_models.values())]
        return [api_key_view(record, at) for record in free]

    async def history(self, key_id: str) -> list[StateTransition]:
        """The key's audit trail as far as the store keeps it, oldest first, the last 1,000 lines at most."""
        self.get(key_id)
        query = StateQuery("StateTransition", entity_id=key_id, limit=_HISTORY_MAX)
        return [transition_of(event) for event in reversed(await self._store.query_events(query))]

    # -- operators --------------------------------------------------------------------------------------------------

    async def register(
        self,
        key_material: str,
        provider_id: str,
        metadata: Mapping[str, Any] | None = None,
        label: str | None = None,
    ) -> APIKey:
        """Adds a key: sealed and durable when this returns, eligible at once.

        `key_material`: 1 to 8,192 printable ASCII characters; white space around it is cut off. `metadata`: `weight`
        (share of traffic, > 0), `models` (names or patterns), `quota_pool`, `base_url`, prices (`cost_per_1k` ...), and
        whatever else JSON can hold. Raises KeyRegistrationError, StateStoreError.
        """
        if not isinstance(provider_id, str) or not provider_id.strip():
            raise KeyRegistrationError("A key belongs to a provider: give its id, such as 'openai'.")
        sealer = self._opened()
        material = clean_material(key_material)
        clean = clean_metadata(metadata, material)
        name = None if label is None else clean_label(label, material)
        fingerprint = self._new_fingerprint(provider_id, material)
        at = self._writer.moment()
        key_id = "key_" + secrets.token_hex(_KEY_ID_BYTES)
        sealed = sealer.seal(material.encode(), seal_context(key_id, provider_id, 1))
        record = KeyRecord(
            key_id,
            provider_id,
            name or self._ring.next_label(provider_id),
            key_id,
            Secret(material),
            sealed,
            fingerprint,
            at.utc_s,
            state_since_s=at.now_s,
        )
        _set_terms(record, clean)
        self._writer.registered(record)
        facts = {"key_id": key_id, "provider_id": provider_id, "label": record.label, "actor": "operator"}
        reservation = (provider_id, fingerprint)
        self._registering.add(reservation)  # while we wait for the store, nobody else may register the same secret
        try:
            await self._writer.apply([record], [StoredEvent(at.utc_s, "key.registered", key_id, facts)])
        except StateStoreError:
            self._writer.forget(key_id)
            raise
        finally:
            self._registering.discard(reservation)
        known = self._ring.find(key_id)
        if known is not None:  # `refresh` found the row before the store had answered here
            return api_key_view(known, self._writer.moment())
        twin = self._ring.holder_of(provider_id, fingerprint)  # of another process, heard of while we waited
        self._ring.add([record])
        self._on_change(record, None)
        if twin is not None and (record, twin) in twins([record, twin]):
            self._post([self._retire_twin(record, twin)])
            raise _registered_already(twin)
        return api_key_view(record, self._writer.moment())

    async def update(
        self, key_id: str, *, metadata: Mapping[str, Any] | None = None, label: str | None = None
    ) -> APIKey:
        """Replaces metadata or label of a key; None leaves them. Raises KeyNotFoundError, KeyRegistrationError."""
        record = self.get(key_id)
        if record.state is KeyState.Retired:
            raise InvalidStateTransitionError(f"Key {key_id} is revoked for good; nothing about it can be changed.")
        material = record.secret.reveal()
        name = record.label if label is None else clean_label(label, material)
        if metadata is not None:
            clean = clean_metadata(metadata, material)
            if CREDENTIAL in record.metadata:  # what it is does not change with what is said of it
                clean[CREDENTIAL] = record.metadata[CREDENTIAL]
            _set_terms(record, clean)
        if metadata is not None or name != record.label:
            record.label = name
            self._ring.reindex()  # groups go by both: policies and deployments may name keys by their labels
        self._writer.renamed(record)
        self._on_change(record, None)
        await self._writer.apply([record])
        return api_key_view(record, self._writer.moment())

    async def disable(self, key_id: str, reason: str = "", actor: str = "operator") -> APIKey:
        """Takes the key out of service until it is enabled. Raises KeyNotFoundError, InvalidStateTransitionError."""
        record = self.get(key_id)
        return await self._announce(record, operators.disable(record, self._now_s(), reason=reason, actor=actor))

    async def enable(self, key_id: str, reason: str = "", actor: str = "operator") -> APIKey:
        """Puts the key into service now, whatever it waited for. Raises as `disable` does."""
        record = self.get(key_id)
        return await self._announce(record, operators.enable(record, self._now_s(), reason=reason, actor=actor))

    async def revoke_key(self, key_id: str, reason: str = "", actor: str = "operator") -> APIKey:
        """Retires the key for good and destroys its stored secret. Revoking it again changes nothing."""
        record = self.get(key_id)
        if record.state is KeyState.Retired:
            return api_key_view(record, self._writer.moment())
        moved = operators.revoke(record, self._now_s(), reason=reason, actor=actor)
        self._ring.reindex()
        self._on_change(record, None)
        return await self._announce(record, moved)

    async def rotate_key(
        self,
        key_id: str,
        new_key_material: str,
        overlap_s: float = rotation.OVERLAP_S,
        actor: str = "operator",
    ) -> APIKey:
        """Gives the key a new secret, used from now on; id, limits and history stay.

        For `overlap_s` seconds the old one is kept: if the provider refuses the new one, the old one takes over again
        and the audit trail says so. Raises KeyNotFoundError, KeyRegistrationError, InvalidStateTransitionError.
        """
        record = self.get(key_id)
        if record.state is KeyState.Retired:
            raise InvalidStateTransitionError(
                f"Key {key_id} is revoked for good; register the new secret as a new key."
            )
        if not 0.0 <= overlap_s < float("inf"):
            raise KeyRegistrationError(f"The overlap must be a number of seconds of zero or more, not {overlap_s}.")
        material = clean_material(new_key_material)
        fingerprint = self._new_fingerprint(record.provider_id, material)
        context = seal_context(key_id, record.provider_id, rotation.next_version(record))
        moved = rotation.replace_secret(
            record,
            Secret(material),
            sealed=self._opened().seal(material.encode(), context),
            fingerprint=fingerprint,
            now_s=self._now_s(),
            overlap_s=overlap_s,
            actor=actor,
        )
        self._writer.rotated(record)
        return await self._announce(record, moved)

    # -- the pipeline -----------------------------------------------------------------------------------------------

    def flush_counters(self, *, closing: bool = False) -> None:
        """Posts the rows that changed since the last call, counters every 10 s or when `closing`, and forgets secrets
        and limits whose time is over."""
        self._writer.flush(self._ring.all(), counters=closing)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _now_s(self) -> float:
        return self._clock.monotonic_s()

    def _opened(self) -> Sealer:
        if self._sealer is None:
            raise RouterError("The key manager is not open yet: start the router first (`await router.start()`).")
        return self._sealer

    def _fingerprint(self, provider_id: str, material: str) -> bytes:
        return self._opened().fingerprint(f"{provider_id}\0{material}".encode())

    def _new_fingerprint(self, provider_id: str, material: str) -> bytes:
        """The fingerprint of material that no key of the provider has yet."""
        fingerprint = self._fingerprint(provider_id, material)
        holder = self._ring.holder_of(provider_id, fingerprint)
        if holder is not None:
            raise _registered_already(holder)
        if (provider_id, fingerprint) in self._registering:
            raise KeyRegistrationError(f"This key material is being registered for {provider_id} at this moment.")
        return fingerprint

    def _retire_twin(self, surplus: KeyRecord, kept: KeyRecord) -> tuple[KeyRecord, Transition]:
        moved = operators.retire_twin(surplus, kept, self._now_s())
        self._writer.ordered(surplus)
        self._ring.reindex()
        return surplus, moved

    async def _announce(self, record: KeyRecord, moved: Transition) -> APIKey:
        """An operator's order: it counts here at once, and is durable when this returns."""
        self._writer.ordered(record)
        self._on_change(record, moved)
        await self._writer.apply([record], [moved])
        return api_key_view(record, self._writer.moment())


def _registered_already(holder: KeyRecord) -> KeyRegistrationError:
    return KeyRegistrationError(
        f"This key material is registered already, as {holder.key_id} ({holder.label}) of {holder.provider_id}. "
        "Use that key, or revoke it first."
    )


def _set_terms(record: KeyRecord, metadata: dict[str, Any]) -> None:
    """Gives the record its metadata, and what follows from it."""
    terms = key_terms(metadata)
    record.metadata = metadata
    record.weight, record.models, record.base_url = terms.weight, terms.models, terms.base_url
    record.pool_id = terms.quota_pool or record.key_id
