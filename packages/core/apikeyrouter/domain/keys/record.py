"""What a router knows about a key while it runs.

Main entries: `KeyRecord`, the one mutable object per key, shared by all who route; `Ticket`, one attempt with it;
`Transition`, one line of its audit trail. Times are seconds of the router's monotonic clock unless a name ends in
`_utc_s`; 0.0 means none. Only `learning`, `operators`, `rotation` and `merging` change a record.
Law: an Available key has no wait of any kind, so `state is Available` alone says that it may serve.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.keys.states import KeyEvent
from apikeyrouter.domain.models.api_key import KeyState
from apikeyrouter.domain.resilience.ejection import Track

__all__ = ["KeyRecord", "ModelLimit", "Strike", "Ticket", "Transition"]


@dataclass(slots=True)
class Strike:
    """Failures of one kind in a row. `struck_s`: when the last one was counted."""

    count: int
    struck_s: float


@dataclass(slots=True)
class ModelLimit:
    """A wait of one model of a key.

    `code`: as in `Block.code`. `trusted`: the provider itself named the deadline, for the first time, so full traffic
    returns at it; otherwise one probe goes first. `probing`: that probe is in flight. `open_from_s`: from then on,
    though it waits, it is sent what the pool's windows have room for: the provider said how much that is. `for_size`:
    refusals of what they had room for since something was served.
    """

    until_s: float
    code: str
    reason: str
    trusted: bool
    probing: bool = False
    open_from_s: float = math.inf
    for_size: int = 0

    @property
    def closed_until_s(self) -> float:
        """Until then nothing is sent."""
        return min(self.until_s, self.open_from_s)


@dataclass(slots=True, eq=False)
class KeyRecord:
    """A key at run time; equal only to itself.

    `models`: patterns (`*`, `?`) of the models that it may serve; None: all. `weight`: share of the traffic, > 0.
    `base_url`: where to send instead of the provider's own address. `sealed`, `sealed_previous`: the secrets as the
    store holds them. `previous`: the secret that is not current while a rotation's overlap lasts, until
    `draining_until_s`; `previous_version`: its number. `newest_version`: the highest number given so far. `swaps_left`:
    how often a refused secret may still make room for the other one.
    `until_s`: end of a wait of the whole key; kept, though past, until a request proves that it is over. `code`: why it
    waits, as in `Block.code`. `trusted`: as in `ModelLimit`. `limited_models`: waits of single models. `strikes`:
    failures in a row by (failure class, model or "" for the whole key). `suspected_s`: when the secret was first
    refused since its last success. `in_flight`: attempts under way. `probing`: one of them is the probe that decides.
    `revision`: grows with every change that other processes must know, see `keys.saving`. `order_revision`: the one of
    the last change by an operator (enabled, disabled, rotated, revoked); `secret_revision`: that of the last rotation;
    `terms_revision`: that of label and metadata.
    `track`: how its attempts ended of late.
    `usage_count`, `failure_count`, `last_used_s`: as far as this process knows, see `keys.counting`.
    """

    key_id: str
    provider_id: str
    label: str
    pool_id: str
    secret: Secret
    sealed: bytes
    fingerprint: bytes
    created_at_utc_s: float
    weight: float = 1.0
    models: frozenset[str] | None = None
    base_url: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    version: int = 1
    newest_version: int = 1
    previous: Secret | None = None
    sealed_previous: bytes | None = None
    previous_version: int = 0
    draining_until_s: float = 0.0
    swaps_left: int = 0
    state: KeyState = KeyState.Available
    state_reason: str = ""
    state_since_s: float = 0.0
    until_s: float = 0.0
    code: str = ""
    limited_models: dict[str, ModelLimit] = field(default_factory=dict)
    strikes: dict[tuple[str, str], Strike] = field(default_factory=dict)
    trusted: bool = False
    suspected_s: float = 0.0
    in_flight: int = 0
    probing: bool = False
    track: Track = field(default_factory=Track)
    usage_count: int = 0
    failure_count: int = 0
    last_used_s: float | None = None
    revision: int = 0
    order_revision: int = 0
    secret_revision: int = 0
    terms_revision: int = 0


class Ticket(Struct, eq=False):
    """One attempt with a key, from `begin` to exactly one of `succeed`, `fail` and `release`.

    `secret`: what this attempt sends, whatever is rotated meanwhile; `version`: its number. `model`: None for a request
    that generates nothing. `probe`: this attempt decides whether the key recovers; `model_limit`: the wait of a single
    model that it decides about. `used_before_s`: when the key was last taken before it.
    """

    record: KeyRecord
    model: str | None
    version: int
    secret: Secret
    started_s: float
    probe: bool = False
    model_limit: ModelLimit | None = None
    open: bool = True
    used_before_s: float | None = None


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of a key's state, or of the deadline of its wait.

    `cause`: the failure class or the operator's reason. `evidence`: facts (status, code, request id, model, strikes),
    never bodies. `until_s`: when the wait ends, None when it does not end by itself. `actor`: "provider", "clock" or
    who acted. `at_s`, `until_s`: monotonic.
    """

    key_id: str
    provider_id: str
    from_state: KeyState
    to_state: KeyState
    event: KeyEvent
    cause: str
    evidence: Mapping[str, Any]
    until_s: float | None
    actor: str
    at_s: float
