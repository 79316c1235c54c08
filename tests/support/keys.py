"""Failures, records and managers for tests of keys."""

from __future__ import annotations

from random import Random
from typing import Any

from apikeyrouter.domain.components.key_manager import KeyManager
from apikeyrouter.domain.interfaces.state_store import StateStore
from apikeyrouter.domain.keys.record import KeyRecord, Transition
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.resilience.failures import FACTS, Failure, FailureClass, Scope
from apikeyrouter.infrastructure.state_store.memory_store import MemoryStateStore
from apikeyrouter.infrastructure.state_store.sealing import EnvelopeSealer, Keyring
from apikeyrouter.testing.virtual_time import ManualClock


def failure(
    kind: FailureClass,
    *,
    hint_s: float | None = None,
    scope: Scope | None = None,
    whole_account: bool | None = None,
    status: int | None = None,
) -> Failure:
    """A failure of this class with the class's own scope, unless told otherwise."""
    facts = FACTS[kind]
    return Failure(
        failure_class=kind,
        scope=facts.scope if scope is None else scope,
        billing=facts.billing,
        elsewhere=facts.elsewhere,
        status=facts.status if status is None else status,
        code=f"code-{kind}",
        message="what the provider said",
        retry_after_s=hint_s,
        provider_request_id="req-77",
        whole_account=facts.whole_account if whole_account is None else whole_account,
    )


def record(key_id: str = "key_1", **fields: Any) -> KeyRecord:
    """An Available key, made without a manager."""
    return KeyRecord(
        key_id,
        fields.pop("provider_id", "openai"),
        fields.pop("label", key_id),
        fields.pop("pool_id", key_id),
        fields.pop("secret", Secret(f"material-of-{key_id}")),
        fields.pop("sealed", b"sealed-1"),
        fields.pop("fingerprint", b"fingerprint"),
        fields.pop("created_at_utc_s", 1_700_000_000.0),
        **fields,
    )


class Office:
    """A manager with its store, clock and sealer; `heard` is what `on_change` was told."""

    def __init__(
        self, store: StateStore | None = None, *, clock: ManualClock | None = None, keyring: Keyring | None = None
    ):
        self.clock = clock or ManualClock(50.0)
        self.store = store or MemoryStateStore(clock=self.clock)
        self.sealer = EnvelopeSealer(keyring or Keyring.random())
        self.heard: list[tuple[str, Transition | None]] = []
        self.keys = KeyManager(self.store, self.clock, Random(7), on_change=self._hear)

    def _hear(self, changed: KeyRecord, moved: Transition | None) -> None:
        self.heard.append((changed.key_id, moved))

    async def open(self) -> Office:
        await self.keys.open(self.sealer)
        return self

    async def reopened(self, after_s: float = 0.0, *, monotonic_s: float = 3.0) -> Office:
        """The same store in a new process, `after_s` later by the wall clock, with a monotonic clock of its own."""
        self.keys.flush_counters(closing=True)
        await self.store.flush()
        self.clock.advance(after_s)
        other = Office(self.store, clock=ManualClock(monotonic_s, utc=self.clock.utc_now()))
        other.sealer = self.sealer
        return await other.open()

    async def beside(self, *, monotonic_s: float = 900.0) -> Office:
        """Another process on the same store, with the same encryption key and a monotonic clock of its own."""
        other = Office(self.store, clock=ManualClock(monotonic_s, utc=self.clock.utc_now()))
        other.sealer = self.sealer
        return await other.open()

    def now_s(self) -> float:
        return self.clock.monotonic_s()

    def serve(self, key_id: str, model: str = "gpt-4") -> None:
        """One request that succeeds."""
        self.keys.succeed(self.keys.begin(self.keys.get(key_id), model, self.now_s()), self.now_s())

    def refuse(self, key_id: str, why: Failure, model: str = "gpt-4") -> None:
        """One request that fails."""
        self.keys.fail(self.keys.begin(self.keys.get(key_id), model, self.now_s()), why, self.now_s())
