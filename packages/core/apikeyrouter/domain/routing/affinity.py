"""Prompt caches: which quota pool has the beginning of this prompt, and what leaving it would cost.

Providers bill input that they have cached at a tenth of its price, per organisation, for some minutes. `Affinity.find`
says for a request where its beginning was sent last and how many tokens of it are worth something; the chooser turns
that into dollars (`saved_usd`) and scores it against load. Laws: tenants never share an entry, since their prompts must
not tell of each other; memory is bounded; prompts below 1,024 tokens are not looked at (OpenAI and Anthropic cache none
of them); a loaded pool is no reason to stay (`within_bound`).
Sources: design notes 2.4, "Prefix affinity"; bounded loads: Mirrokni, Thorup and Zadimoghaddam, 2018.
"""

from __future__ import annotations

import math

from apikeyrouter.domain.quota.pools import QuotaPool
from apikeyrouter.domain.routing.candidates import Candidate
from apikeyrouter.domain.routing.demand import Demand

__all__ = ["CACHED_MIN_TOKENS", "KEPT_S", "LOAD_BOUND", "Affinity", "Prefix", "saved_usd", "within_bound"]

CACHED_MIN_TOKENS = 1024
KEPT_S = 300.0
"""Providers forget a prefix after 5 to 10 minutes without use (OpenAI, Anthropic: "prompt caching")."""
LOAD_BOUND = 1.25

_BEGINNING_BYTES = 4096
"""About as many bytes as the smallest cached prompt has; text is hashed until so many were read."""
_END_BYTES = 512

_Name = tuple[str, str, object]


class Prefix:
    """The beginning of one request's prompt, of `length` tokens. `tokens`: how many of them the cache of `pool` should
    have; `index`: the place of the candidate that was sent to; `pool` is None while nobody has it."""

    __slots__ = ("index", "length", "name", "pool", "tokens")

    def __init__(self, name: _Name, length: int) -> None:
        self.name = name
        self.length = length
        self.tokens = 0
        self.pool: QuotaPool | None = None
        self.index = 0


class Affinity:
    """Where beginnings of prompts were sent last. `entries_max`: the oldest go first."""

    def __init__(self, entries_max: int = 8192) -> None:
        self._entries_max = entries_max
        self._seen: dict[_Name, tuple[QuotaPool, int, int, float]] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def find(self, demand: Demand, now_s: float) -> Prefix | None:
        """The request's beginning, with the pool that has it: by the caller's own name for the conversation, if it gave
        one. None for prompts that no provider caches. About 2 us."""
        if demand.input_expected < CACHED_MIN_TOKENS:
            return None
        if demand.session:
            prefix = Prefix((demand.tenant, demand.model, demand.session), demand.input_expected)
        else:
            digest, read = _beginning(demand)
            share = min(1.0, read / max(1, demand.bound.content_bytes))
            tokens = int(demand.input_expected * share)
            if tokens < CACHED_MIN_TOKENS:
                return None
            prefix = Prefix((demand.tenant, demand.model, digest), tokens)
        seen = self._seen.get(prefix.name)
        if seen is not None and now_s - seen[3] <= KEPT_S:
            prefix.pool, prefix.index = seen[0], seen[1]
            prefix.tokens = min(prefix.length, seen[2])
        return prefix

    def sent(self, prefix: Prefix, candidate: Candidate, now_s: float) -> None:
        """The request goes to this candidate, whose pool will have its beginning cached."""
        seen = self._seen
        seen.pop(prefix.name, None)
        seen[prefix.name] = (candidate.quota.pool, candidate.index, prefix.length, now_s)
        if len(seen) > self._entries_max:
            del seen[next(iter(seen))]


def saved_usd(candidate: Candidate, tokens: int) -> float:
    """What `tokens` of cached input save with this candidate, in dollars; 0.0 where its provider gives no discount."""
    price = candidate.price
    if price is None or price.cached_input is None:
        return 0.0
    return max(0.0, tokens * (price.input - price.cached_input) / 1e15)


def within_bound(load: float, total: float, keys: int) -> bool:
    """Whether one more request leaves a key within 1.25 times the mean. `load`: requests in flight with it, by weight;
    `total`: those of all `keys` that could serve."""
    return load + 1.0 <= math.ceil(LOAD_BOUND * (total + 1.0) / keys)


def _beginning(demand: Demand) -> tuple[int, int]:
    """A digest of the first messages, and how many bytes they have. A long message counts by its two ends."""
    digest = read = 0
    for raw in demand.peek.messages or (demand.peek.prompt,):
        view = memoryview(raw)
        size = len(view)
        if size <= _BEGINNING_BYTES + _END_BYTES:
            digest = hash((digest, bytes(view)))
        else:
            digest = hash((digest, size, bytes(view[:_BEGINNING_BYTES]), bytes(view[-_END_BYTES:])))
        read += size
        if read >= _BEGINNING_BYTES:
            break
    return digest, read
