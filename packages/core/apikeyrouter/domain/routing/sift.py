"""Filters: which candidates may serve a request, and why the others may not.

Main entry: `Sieve.sift`. The order is fixed, the first reason counts: what the request needs (capability, context), the
operator's and the caller's constraints (policy), the key's state, the breaker, what is asked of its record
(min_reliability, price_unknown, max_cost), and last the quota pool: health gates headroom always, since a dead key
never spends and so looks emptiest. Budgets refuse at the hold.
Law: every candidate is kept or has a rejection (L8); who is healthy and unconstrained passes with a few comparisons.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

from apikeyrouter.domain.keys.eligibility import Block, blocked
from apikeyrouter.domain.ledger.accounts import Account
from apikeyrouter.domain.models.api_key import KeyState
from apikeyrouter.domain.quota.doubts import doubt_burst, doubtful
from apikeyrouter.domain.quota.facts import ChargeRule, Dimension
from apikeyrouter.domain.quota.limits import KINDS, LIKELY
from apikeyrouter.domain.quota.pools import PoolView
from apikeyrouter.domain.resilience.breaker import Phase, Verdict
from apikeyrouter.domain.routing.candidates import Candidate, Group
from apikeyrouter.domain.routing.demand import Demand
from apikeyrouter.domain.routing.explain import Rejection
from apikeyrouter.domain.routing.objectives import Objective
from apikeyrouter.domain.routing.preflight import Needs, context_tokens, needs_of, preflight
from apikeyrouter.domain.routing.scoring import OVERSIZE

__all__ = ["HEADROOM", "OVER_LIMIT", "PARKED_S", "Sieve", "headroom_block"]

HEADROOM = "headroom"
"""The code of a pool without room now; `until_s` is when it will have, if nothing more is taken."""

OVER_LIMIT = "over_limit"
"""The code of a pool that such a request never fits into."""

PARKED_S = 0.25
"""How long a pool without room is left alone in a large group: requests that settle below what they held make room
sooner than its windows say."""

_AVAILABLE = KeyState.Available
_TOKENS = KINDS[Dimension.Tokens]
_CLOSED = Phase.Closed
_ADMIT = Verdict.Admit
_REJECT = Verdict.Reject
_SIZED = frozenset(
    [KINDS[one] for one in (Dimension.InputTokens, Dimension.OutputTokens, Dimension.Tokens)] + list(LIKELY.values())
)
"""Kinds of which one request may take more than half; a limit of one request at a time is no reason to go elsewhere."""

_ABOUT_THE_REQUEST = frozenset(
    {"capability", "context", "policy", "min_reliability", "price_unknown", "max_cost", OVER_LIMIT}
)
"""Codes that the next request may not get: nobody rests for them."""


class Sieve:
    """One decision's filters. `kept`, `rooms`: candidates that may serve, and the share of their pools that would be
    left; `rejections`: the others; `resting`: those among them who wait for something, whoever asks."""

    __slots__ = (
        "_base", "_demand", "_group", "_measured", "_needs", "_now_s", "_objective", "_selective", "_tried",
        "kept", "rejections", "resting", "rooms",
    )  # fmt: skip

    def __init__(
        self, group: Group, demand: Demand, objective: Objective, *, tried: Collection[tuple[str, str]], now_s: float
    ) -> None:
        self._group = group
        self._base = self._demand = demand
        self._objective = objective
        self._tried = tried
        self._now_s = now_s
        self._needs = needs_of(demand)
        self._selective = objective.selective
        self._measured = objective.measured and not self._all_cheap()
        self.kept: list[Candidate] = []
        self.rooms: list[float] = []
        self.rejections: list[Rejection] = []
        self.resting: list[Candidate] = []

    def _all_cheap(self) -> bool:
        """Whether no candidate can cost more than the request may, which is all that is asked: one look for all."""
        most, group = self._objective.max_cost_usd, self._group
        if most is None or self._objective.min_reliability is not None or group.serving is None:
            return False
        ceiling = group.ceiling
        return ceiling is not None and self._base.most_nano_usd(ceiling) / 1e9 <= most

    def sift(self, pool: Iterable[Candidate], keep_max: int) -> None:
        """Looks at candidates until `keep_max` are kept. `hurried`: room does not weigh and need not be exact."""
        tried, now_s, kept, rooms = self._tried, self._now_s, self.kept, self.rooms
        abilities, tokens = self._needs.abilities, self._needs.tokens
        objective, mixed, model = self._objective, self._group.serving is None, ""
        rule: ChargeRule | None = None
        calm = None
        selective, measured, hurried = self._selective, self._measured, objective.turns_only
        for candidate in pool:
            record = candidate.record
            if tried and candidate.who in tried:
                continue
            if mixed and candidate.model != model:
                tokens, rule, model = self._size_for(candidate.model), None, candidate.model
            breaker = candidate.breaker
            if breaker is not calm and breaker.phase is _CLOSED and breaker.verdict(now_s) is _ADMIT:
                calm = breaker
            if (
                breaker is not calm
                or record.state is not _AVAILABLE
                or record.models is not None
                or abilities & ~candidate.abilities
                or tokens > candidate.context_max
            ):
                block = self._block(candidate)
            else:
                passed = not selective or candidate.passed is objective
                block = None if passed else self._policy_block(candidate)
                if measured and block is None:
                    block = record_block(candidate, objective, self._demand, now_s)
            if block is not None:
                self._reject(candidate, block)
                continue
            quota = candidate.quota
            if quota.dialect.charges is not rule:
                needs = self._demand.needs(rule := quota.dialect.charges)
            room, size = quota.room, 0.0
            if not hurried or now_s >= quota.roomy_until_s or needs[_TOKENS] > quota.roomy_tokens:
                room = 1.0
                for window in quota.windows:
                    account = window.account
                    limit = account.limit
                    if limit is not None:
                        if now_s >= account.rolls_at_s:
                            account.roll(now_s)
                        need = needs[window.kind]
                        left = (limit - account.used - account.held - need) / (limit or 1)
                        if left < room:
                            room = left
                        if need + need > limit and window.kind in _SIZED:
                            size = OVERSIZE
                if room < 0.0:
                    block = headroom_block(quota, needs, now_s)
                    if block is not None:
                        self._reject(candidate, block)
                        continue
                elif hurried and not size:
                    quota.looked(room, now_s)
            kept.append(candidate)
            rooms.append(room + size if room > 0.0 else size)
            if len(kept) >= keep_max:
                break

    def readmit(self, candidates: Iterable[Candidate], code: str) -> None:
        """Takes back whoever was rejected with `code` alone: all other filters must let them pass."""
        out = {r.who for r in self.rejections if r.code == code}
        back = []
        for candidate in candidates:
            record = candidate.record
            if candidate.who in out and not record.probing and self._other_block(candidate) is None:
                back.append(candidate)
        if back:
            these = {c.who for c in back}
            self.rejections[:] = [r for r in self.rejections if r.who not in these]
            needs = [self._base.of(c.model).needs(c.quota.dialect.charges) for c in back]
            self.kept += back
            self.rooms += [
                max(0.0, c.quota.headroom_ratio(need, self._now_s)) for c, need in zip(back, needs, strict=True)
            ]

    def doubt(self) -> None:
        """When nobody is kept and nobody will be: one pool that only seems to be too small is tried after all, as soon
        as it is empty enough."""
        if self.kept or self._tried or any(r.until_s is not None for r in self.rejections):
            return
        out = {r.who: r for r in self.rejections if r.code == OVER_LIMIT}
        for candidate in self._group.candidates if out else ():
            rejection = out.get(candidate.who)
            if rejection is None:
                continue
            needs = self._base.of(candidate.model).needs(candidate.quota.dialect.charges)
            block = headroom_block(candidate.quota, needs, self._now_s, doubting=True)
            if block is None:
                self.rejections.remove(rejection)
                self.kept.append(candidate)
                self.rooms.append(max(0.0, candidate.quota.headroom_ratio(needs, self._now_s)))
                return
            rejection.code, rejection.reason, rejection.until_s = block.code, block.reason, block.until_s
            if block.code == HEADROOM and any(w.doubted_at_s == self._now_s for w in candidate.quota.windows):
                return  # one is enough

    def level(self) -> None:
        """Whoever rests now must not be flooded to catch up when it returns (large groups see to it themselves)."""
        if self.kept and self.resting and self._group.small:
            least = min([one.turn for one in self.kept])
            for candidate in self.resting:
                if candidate.turn < least:
                    candidate.turn = least

    def _size_for(self, model: str) -> int:
        """Goes on with the sizes that the request has for `model`; its tokens of context."""
        self._demand = demand = self._base.of(model)
        self._needs = needs = Needs(self._needs.abilities, context_tokens(demand))
        return needs.tokens

    def _block(self, candidate: Candidate) -> Block | None:
        """The first reason against it, in the order of the filters, but for headroom."""
        return (
            preflight(candidate, self._needs)
            or (self._policy_block(candidate) if self._selective else None)
            or blocked(candidate.record, candidate.model, self._now_s)
            or _breaker_block(candidate, self._now_s)
            or record_block(candidate, self._objective, self._demand, self._now_s)
        )

    def _policy_block(self, candidate: Candidate) -> Block | None:
        """What the caller's constraints say, and then the operator's policies. What they go by does not change while a
        group lives, but for a key's label; so one that passed is not asked again."""
        objective = self._objective
        block, ruling = selection_block(candidate, objective), objective.ruling
        if block is None and ruling is not None:
            block = ruling.block(candidate, self._demand, self._now_s)
        if block is not None or objective.allowed_keys is not None or objective.blocked_keys:
            return block
        if ruling is None or ruling.lets_pass(candidate):
            candidate.passed = objective
        return None

    def _other_block(self, candidate: Candidate) -> Block | None:
        """As `_block`, whatever the key's state, and headroom too."""
        rule = candidate.quota.dialect.charges
        if candidate.model != self._demand.model and self._group.serving is None:
            self._size_for(candidate.model)
        return (
            preflight(candidate, self._needs)
            or self._policy_block(candidate)
            or _breaker_block(candidate, self._now_s)
            or record_block(candidate, self._objective, self._demand, self._now_s)
            or headroom_block(candidate.quota, self._demand.needs(rule), self._now_s)
        )

    def _reject(self, candidate: Candidate, block: Block) -> None:
        """Notes why; who rests whoever asks leaves a large group's front for a while."""
        record = candidate.record
        code, reason, until_s = block.code, block.reason, block.until_s
        self.rejections.append(
            Rejection(record.key_id, record.label, record.provider_id, code, reason, until_s, candidate.model)
        )
        if code in _ABOUT_THE_REQUEST:
            return
        self.resting.append(candidate)
        if self._group.small:
            return
        if code == HEADROOM:
            soon_s = self._now_s + PARKED_S
            block = Block(code, reason, soon_s if until_s is None else min(until_s, soon_s))
        self._group.park(candidate, block)


def selection_block(candidate: Candidate, objective: Objective) -> Block | None:
    """What the caller allows, whatever it is worth."""
    record = candidate.record
    provider_id, key_id, label = record.provider_id, record.key_id, record.label
    allowed = objective.allowed_providers
    if allowed is not None and provider_id not in allowed:
        return Block("policy", f"provider {provider_id} is not among the allowed ones", None)
    if provider_id in objective.blocked_providers:
        return Block("policy", f"provider {provider_id} is blocked", None)
    allowed = objective.allowed_keys
    if allowed is not None and key_id not in allowed and label not in allowed:
        return Block("policy", "key is not among the allowed ones", None)
    if key_id in objective.blocked_keys or label in objective.blocked_keys:
        return Block("policy", "key is blocked", None)
    allowed = objective.allowed_regions
    if allowed is not None and candidate.region not in allowed:
        return Block("policy", f"region {candidate.region or 'unknown'} is not among the allowed ones", None)
    allowed = objective.allowed_tags
    if allowed is not None and allowed.isdisjoint(candidate.tags):
        return Block("policy", f"it has none of the tags {', '.join(sorted(allowed))}", None)
    if objective.blocked_tags and not objective.blocked_tags.isdisjoint(candidate.tags):
        return Block("policy", f"tag {min(objective.blocked_tags & candidate.tags)} is blocked", None)
    return None


def record_block(candidate: Candidate, objective: Objective, demand: Demand, now_s: float) -> Block | None:
    """What is asked of a candidate's success and price."""
    if objective.min_reliability is not None:
        success = 1.0 - candidate.stats.p_failure(now_s)
        if success < objective.min_reliability:
            return Block("min_reliability", f"success rate {success:.3f} < {objective.min_reliability:g}", None)
    if objective.max_cost_usd is not None:
        if candidate.price is None:
            return Block("price_unknown", "max_cost is set and the price is unknown", None)
        most = demand.most_nano_usd(candidate.price) / 1e9
        if most > objective.max_cost_usd:
            return Block("max_cost", f"may cost ${most:.6f} > ${objective.max_cost_usd:g}", None)
    return None


def headroom_block(view: PoolView, needs: Sequence[int], now_s: float, *, doubting: bool = False) -> Block | None:
    """Why a pool has no room for `needs` (by `KINDS`), and when it will have if nothing more is taken; None if it fits.

    Without a time when only other requests' ends make room (concurrency). `doubting`: what was learned of its bursts is
    put to the test (`domain.quota.doubts`).
    """
    short: Account | None = None
    free_then = need_then = 0
    until_s, open_end = now_s, False
    for window in view.windows:
        account, need = window.account, needs[window.kind]
        if now_s >= account.rolls_at_s:
            account.roll(now_s)
        limit = account.limit
        if limit is None:
            continue
        free = limit - account.used - account.held
        if need <= free or not need:
            continue
        if need > limit:
            guessed = doubtful(window, need)
            if guessed:
                told = f"{need} {account.unit} needed, more than {account.id} seems to allow at once: {account.limit}"
                doubted_s = doubt_burst(window, need, now_s) if doubting else math.inf
                if doubted_s > now_s:
                    return Block(HEADROOM, told, doubted_s) if doubting else Block(OVER_LIMIT, told, None)
            elif not window.make_room(need, now_s):
                told = f"{need} {account.unit} needed, more than {account.id} ever allows: {account.limit}"
                return Block(OVER_LIMIT, told, None)
            view.pool.moves += 1  # it may hold more than it seemed to
            account = window.account
            free = account.free(now_s) or 0
            if need <= free:
                continue
        at_s = account.free_at_s(need, now_s)
        if at_s is None:
            open_end = True
        elif at_s > until_s:
            until_s = at_s
        elif short is not None:
            continue
        short, free_then, need_then = account, free, need
    if short is None:
        return None
    if free_then < 0:
        free_then = 0
    told = f"{free_then} {short.unit} free < {need_then} needed ({short.id})"
    return Block(HEADROOM, told, None if open_end else until_s)


def _breaker_block(candidate: Candidate, now_s: float) -> Block | None:
    breaker = candidate.breaker
    if breaker.verdict(now_s, candidate.record.key_id) is not _REJECT:
        return None
    why, until_s = breaker.why(now_s)
    return Block("breaker_open", f"{candidate.provider.provider_id} {why}", until_s)
