"""Sift, rank and hold: choosing a candidate and taking it are one synchronous step.

Nothing here awaits, so between looking at a key and reserving its turn, quota and money no other request can run: N
concurrent fair calls over K equal keys land N/K each (law L10), and no limit is passed (L1). Every candidate that was
looked at is either kept or has a rejection (L8).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from apikeyrouter.domain.components.cost_controller import CostController
from apikeyrouter.domain.errors import UnboundedCostError
from apikeyrouter.domain.interfaces.price_source import ModelPrice
from apikeyrouter.domain.keys.eligibility import EJECTED, Block, blocked
from apikeyrouter.domain.ledger.accounts import Account
from apikeyrouter.domain.ledger.holds import Hold, Refused
from apikeyrouter.domain.ledger.ledger import Ledger
from apikeyrouter.domain.quota.limits import QuotaWindow
from apikeyrouter.domain.resilience.breaker import Verdict
from apikeyrouter.domain.routing.candidates import Candidate, Group
from apikeyrouter.domain.routing.demand import Demand
from apikeyrouter.domain.routing.explain import DecisionRecord, Rejection, Scored
from apikeyrouter.domain.routing.objectives import RELIABILITY_THRESHOLD, Objective

__all__ = ["Chooser", "MoneyRefusal", "Taken"]

_NO_TAGS: Mapping[str, object] = {}


@dataclass(slots=True)
class Taken:
    """A candidate that is ours: its hold is open and its turn is counted. `quota`: the windows of its pool in the hold,
    one line each, before those of budgets, of which there are `money_lines`. `ahead`: an ejected key, taken before its
    time since nobody else is left."""

    candidate: Candidate
    hold: Hold
    scored: Scored
    quota: tuple[QuotaWindow, ...]
    money_lines: int
    ahead: bool = False

    @property
    def money(self) -> Sequence[tuple[Account, int]]:
        """The lines of budgets."""
        return self.hold.lines[len(self.quota) :]


@dataclass(frozen=True, slots=True)
class MoneyRefusal:
    """A candidate that only money kept out. `need`: nano-USD on each of `accounts`, its budgets."""

    price: ModelPrice
    need: int
    accounts: tuple[Account, ...]
    refused: Refused


class Chooser:
    """Picks and takes. `money`: the candidates that budgets refused, when nothing could be held."""

    def __init__(self, ledger: Ledger, costs: CostController, considered_max: int) -> None:
        self._ledger = ledger
        self._costs = costs
        self._considered_max = considered_max
        self.money: list[MoneyRefusal] = []

    def choose(
        self,
        group: Group,
        demand: Demand,
        objective: Objective,
        record: DecisionRecord,
        *,
        tried: set[str],
        now_s: float,
        tags: Mapping[str, object] = _NO_TAGS,
    ) -> Taken | None:
        """The best candidate that could be held, or None; `record` receives candidates, scores and rejections.

        `tags`: of the call; budgets per virtual key, team and tag go by them.
        """
        self.money = []
        rejections: list[Rejection] = []
        record.rejections = rejections
        kept = self._sift(group, objective, demand, rejections, tried=tried, now_s=now_s)
        if not kept and not group.small:
            kept = self._sift(group, objective, demand, rejections, tried=tried, now_s=now_s, everyone=True)
        ahead = not kept
        if ahead:
            kept = self._readmit(group, objective, demand, rejections, tried=tried, now_s=now_s)
        record.candidates = len(group.candidates)
        record.considered = len(kept) + len(rejections)
        scored = self._rank(kept, demand, objective, now_s)
        record.kept = [s for s, _ in scored]
        for place, (facts, candidate) in enumerate(scored):
            taken = self._hold(candidate, facts, demand, tags, now_s=now_s)
            if isinstance(taken, Taken):
                taken.ahead = ahead
                group.took(candidate)
                record.chosen = facts
                if place:
                    record.kept = [s for s, _ in scored[place:]]
                return taken
            rejections.append(_refusal(candidate, taken))
        record.kept = ()
        record.chosen = None
        return None

    def _sift(
        self,
        group: Group,
        objective: Objective,
        demand: Demand,
        rejections: list[Rejection],
        *,
        tried: set[str],
        now_s: float,
        everyone: bool = False,
    ) -> list[Candidate]:
        kept: list[Candidate] = []
        model = group.model
        constrained = objective.constrained
        pool: Iterable[Candidate] = group.candidates if everyone else group.front(now_s, by_price=objective.cost > 0.0)
        if everyone:
            rejections.clear()
        for candidate in pool:
            if candidate.record.key_id in tried:
                continue
            block = (
                _capability_block(candidate, demand)
                or blocked(candidate.record, model, now_s)
                or _breaker_block(candidate, now_s)
            )
            if block is None and constrained:
                block = _constraint_block(candidate, objective, demand, now_s)
            if block is None:
                kept.append(candidate)
                if len(kept) >= self._considered_max:
                    break
                continue
            rejections.append(_rejection(candidate, block))
            group.park(candidate, block)
        if kept and rejections and group.small:
            _keep_level(kept, rejections, group)
        return kept

    def _readmit(
        self,
        group: Group,
        objective: Objective,
        demand: Demand,
        rejections: list[Rejection],
        *,
        tried: set[str],
        now_s: float,
    ) -> list[Candidate]:
        """When all that is left was merely ejected after failures, ejection is no longer a preference but an outage of
        our own making: the breaker alone decides (compare Envoy's panic threshold)."""
        ejected = {r.key_id for r in rejections if r.code == EJECTED}
        back = [
            c
            for c in group.candidates
            if c.record.key_id in ejected
            and c.record.key_id not in tried
            and not c.record.probing
            and _breaker_block(c, now_s) is None
            and (not objective.constrained or _constraint_block(c, objective, demand, now_s) is None)
        ]
        if back:
            ids = {c.record.key_id for c in back}
            rejections[:] = [r for r in rejections if r.key_id not in ids]
        return back

    def _rank(
        self, kept: list[Candidate], demand: Demand, objective: Objective, now_s: float
    ) -> list[tuple[Scored, Candidate]]:
        """Best first. The order is total: score, turn, registration order."""
        ranked: list[tuple[float, float, int, Scored, Candidate]] = []
        tokens_in, tokens_out = demand.input_expected, demand.output_expected
        turns_only = objective.turns_only
        least_turn = min([c.turn for c in kept], default=0.0)
        for candidate in kept:
            record = candidate.record
            p_failure = candidate.stats.p_failure(now_s)
            expected_usd = tokens_in * candidate.input_usd + tokens_out * candidate.output_usd + candidate.fixed_usd
            facts = Scored(
                record.key_id,
                record.label,
                record.provider_id,
                turn=candidate.turn,
                expected_usd=expected_usd,
                p_failure=p_failure,
            )
            if not turns_only:
                facts.terms = terms = (
                    objective.cost * expected_usd,
                    objective.failure_usd * p_failure,
                    objective.latency_usd_per_s * candidate.stats.ttft_s,
                    objective.load_usd * record.in_flight * candidate.stride,
                    objective.turn_usd * (candidate.turn - least_turn),
                    _floor(objective, p_failure),
                )
                facts.score = sum(terms)
            ranked.append((facts.score, candidate.turn, candidate.index, facts, candidate))
        ranked.sort()
        return [(facts, candidate) for _, _, _, facts, candidate in ranked]

    def _hold(
        self, candidate: Candidate, facts: Scored, demand: Demand, tags: Mapping[str, object], *, now_s: float
    ) -> Taken | Refused:
        quota = candidate.quota
        windows = quota.windows
        lines = quota.lines(demand.needs(quota.dialect.charges))
        accounts: tuple[Account, ...] = ()
        book = self._costs.book
        if book.any:
            model = demand.model
            accounts = book.accounts_for(facts.provider_id, facts.key_id, model, tags, now_s=now_s)
            if accounts:
                price = candidate.price
                if price is None:
                    self._costs.require_price(facts.provider_id, facts.key_id, model, tags)
                    lines += [(account, 0) for account in accounts]
                else:
                    lines += _needs(accounts, demand, price, facts.provider_id)
        held = self._ledger.try_hold(lines)
        if isinstance(held, Refused):
            if held.account.unit == "nano_usd" and candidate.price is not None:
                self.money.append(MoneyRefusal(candidate.price, held.need, accounts, held))
            return held
        return Taken(candidate, held, facts, windows, len(accounts))


def _needs(
    accounts: Iterable[Account], demand: Demand, price: ModelPrice, provider_id: str
) -> list[tuple[Account, int]]:
    """What to hold: the provable most on a hard budget, on a soft one what nineteen of twenty requests stay below."""
    most = likely = -1
    lines: list[tuple[Account, int]] = []
    for account in accounts:
        if account.hard:
            if most < 0:
                most = _bounded(demand, price)
            lines.append((account, most))
        else:
            if likely < 0:
                likely = demand.q95_nano_usd(price, provider_id)
            lines.append((account, likely))
    return lines


def _bounded(demand: Demand, price: ModelPrice) -> int:
    """The provable most. Raises UnboundedCostError when there is none."""
    ends = demand.open_ends(price)
    if ends:
        raise UnboundedCostError(
            f"What this request may cost cannot be bounded ({', '.join(ends)}), and a hard budget covers it. Send the "
            "content itself instead of a reference to it, leave that part out, or make the budget soft.",
            model=demand.model,
            parts=ends,
        )
    return demand.most_nano_usd(price)


def _floor(objective: Objective, p_failure: float) -> float:
    shortfall = RELIABILITY_THRESHOLD - (1.0 - p_failure)
    return shortfall if objective.floor and shortfall > 0 else 0.0


def _capability_block(candidate: Candidate, demand: Demand) -> Block | None:
    can = candidate.provider.capabilities
    if demand.operation in can.operations and (can.supports_streaming or not demand.streams):
        return None
    what = "streaming" if demand.operation in can.operations else demand.operation.value
    return Block("capability", f"provider {candidate.provider.provider_id} does not offer {what}", None)


def _breaker_block(candidate: Candidate, now_s: float) -> Block | None:
    breaker = candidate.breaker
    if breaker.verdict(now_s) is not Verdict.Reject:
        return None
    model = candidate.provider.provider_id
    return Block("breaker_open", f"{model} keeps failing for this model; the breaker is open", breaker.open_until_s)


def _constraint_block(candidate: Candidate, objective: Objective, demand: Demand, now_s: float) -> Block | None:
    record = candidate.record
    if objective.allowed_providers is not None and record.provider_id not in objective.allowed_providers:
        return Block("policy", f"provider {record.provider_id} is not among the allowed ones", None)
    if record.provider_id in objective.blocked_providers:
        return Block("policy", f"provider {record.provider_id} is blocked", None)
    if objective.allowed_keys is not None and not {record.key_id, record.label} & objective.allowed_keys:
        return Block("policy", "key is not among the allowed ones", None)
    if {record.key_id, record.label} & objective.blocked_keys:
        return Block("policy", "key is blocked", None)
    success = 1.0 - candidate.stats.p_failure(now_s)
    if objective.min_reliability is not None and success < objective.min_reliability:
        return Block("min_reliability", f"success rate {success:.3f} < {objective.min_reliability:g}", None)
    if objective.max_cost_usd is not None:
        if candidate.price is None:
            return Block("price_unknown", "max_cost is set and the price is unknown", None)
        most = demand.most_nano_usd(candidate.price) / 1e9
        if most > objective.max_cost_usd:
            return Block("max_cost", f"may cost ${most:.6f} > ${objective.max_cost_usd:g}", None)
    return None


def _keep_level(kept: list[Candidate], rejections: list[Rejection], group: Group) -> None:
    """Whoever rests now must not be flooded to catch up when it returns."""
    least = min(c.turn for c in kept)
    resting = {r.key_id for r in rejections}
    for candidate in group.candidates:
        if candidate.turn < least and candidate.record.key_id in resting:
            candidate.turn = least


def _rejection(candidate: Candidate, block: Block) -> Rejection:
    record = candidate.record
    return Rejection(record.key_id, record.label, record.provider_id, block.code, block.reason, block.until_s)


def _refusal(candidate: Candidate, refused: Refused) -> Rejection:
    record = candidate.record
    code = "budget" if refused.account.unit == "nano_usd" else "headroom"
    if code == "budget":
        reason = f"budget {refused.account.id} has ${refused.free / 1e9:.6f} left, ${refused.need / 1e9:.6f} needed"
    else:
        reason = f"{refused.free} {refused.account.unit} free < {refused.need} needed ({refused.account.id})"
    return Rejection(record.key_id, record.label, record.provider_id, code, reason, refused.available_at_s)
