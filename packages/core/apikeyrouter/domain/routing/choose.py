"""Sift, rank and hold: choosing a candidate and taking it are one synchronous step.

`Chooser.choose` runs the filters (`sift`), the scores (`scoring`) and the hold. Nothing here awaits, so between looking
at a key and reserving its turn, quota and money no other request can run: N concurrent fair calls over K equal keys
land N/K each (law L10), and no limit is passed (L1). Every candidate that was looked at is either kept or has a
rejection (L8).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from msgspec import Struct

from apikeyrouter.domain.components.cost_controller import CostController
from apikeyrouter.domain.errors import UnboundedCostError
from apikeyrouter.domain.interfaces.price_source import ModelPrice
from apikeyrouter.domain.keys.eligibility import EJECTED, Block
from apikeyrouter.domain.ledger.accounts import Account
from apikeyrouter.domain.ledger.holds import Hold, Refused
from apikeyrouter.domain.ledger.ledger import Ledger
from apikeyrouter.domain.quota.limits import QuotaWindow
from apikeyrouter.domain.quota.shared_limits import SharedLimit
from apikeyrouter.domain.resilience.ejection import panic
from apikeyrouter.domain.routing.affinity import Affinity, Prefix
from apikeyrouter.domain.routing.candidates import Candidate, Group
from apikeyrouter.domain.routing.demand import Demand
from apikeyrouter.domain.routing.explain import DecisionRecord, Rejection, Row, Scored
from apikeyrouter.domain.routing.objectives import Objective
from apikeyrouter.domain.routing.scoring import rank
from apikeyrouter.domain.routing.shadow import Shadow
from apikeyrouter.domain.routing.sift import HEADROOM, PARKED_S, Sieve

__all__ = ["Chooser", "MoneyRefusal", "Taken"]

_NO_TAGS: Mapping[str, object] = {}


class Taken(Struct, eq=False):
    """A candidate that is ours: its hold is open and its turn is counted. `quota`: what its pool has in the hold
    (`PoolView.held`), one line each, before those of budgets, of which there are `money_lines`. `ahead`: an ejected
    key, taken before its time since nobody else is left."""

    candidate: Candidate
    hold: Hold
    scored: Scored
    quota: tuple[QuotaWindow | SharedLimit, ...]
    money_lines: int
    ahead: bool = False

    @property
    def money(self) -> Sequence[tuple[Account, int]]:
        """The lines of budgets."""
        return self.hold.lines[len(self.quota) :]


@dataclass(frozen=True, slots=True)
class MoneyRefusal:
    """A candidate that only money kept out. `demand`: as its model would serve the request. `need`: nano-USD on each
    of `accounts`, its budgets."""

    demand: Demand
    price: ModelPrice
    need: int
    accounts: tuple[Account, ...]
    refused: Refused


class Chooser:
    """Picks and takes. `money`: the candidates that budgets refused, when nothing could be held. `shadow`: another
    objective that is asked and not obeyed, None for none."""

    def __init__(self, ledger: Ledger, costs: CostController, considered_max: int) -> None:
        self._ledger = ledger
        self._costs = costs
        self._considered_max = considered_max
        self._affinity = Affinity()
        self.money: list[MoneyRefusal] = []
        self.shadow: Shadow | None = None

    def choose(
        self,
        group: Group,
        demand: Demand,
        objective: Objective,
        record: DecisionRecord,
        *,
        tried: set[tuple[str, str]],
        now_s: float,
        tags: Mapping[str, object] = _NO_TAGS,
    ) -> Taken | None:
        """The best candidate that could be held, or None; `record` receives candidates, scores and rejections.

        `tried`: by `Candidate.who`. `tags`: of the call; budgets per virtual key, team and tag go by them.
        """
        self.money = []
        asked = demand.model
        if group.serving is not None and group.serving != asked:
            demand = demand.of(group.serving)
        prefix = self._affinity.find(demand, now_s) if objective.affinity else None
        sieve = Sieve(group, demand, objective, tried=tried, now_s=now_s)
        ahead = self._sift(group, objective, sieve, prefix, now_s)
        trial = record.rehearsal
        if not sieve.kept and not trial:
            sieve.doubt()
        rejections = record.rejections = sieve.rejections
        if objective.ruling is not None:
            record.policies = objective.ruling.policies
        record.candidates = len(group.candidates)
        record.considered = len(sieve.kept) + len(rejections)
        rows = rank(sieve.kept, sieve.rooms, demand, objective, prefix, now_s) if sieve.kept else []
        record.kept = rows
        if self.shadow is not None and not tried and rows:
            self.shadow.compare(record, sieve, demand, rows, now_s)
        for place, row in enumerate(rows):
            candidate = row[4]
            of_model = demand if candidate.model == demand.model else demand.of(candidate.model)
            taken = self._hold(candidate, row, of_model, asked, tags, now_s=now_s, trial=trial)
            if isinstance(taken, Taken):
                taken.ahead = ahead
                group.took(candidate)
                if place:
                    record.kept = rows = rows[place:]
                record.choose(taken.scored, candidate.quota)
                if not trial:
                    if objective.turns_only:
                        _pass_over(group, rows)
                    if prefix is not None:
                        self._affinity.sent(prefix, candidate, now_s)
                return taken
            rejections.append(self._refusal(candidate, taken))
            if rejections[-1].code == HEADROOM:  # a share of this worker: the filters do not know of them
                group.park(candidate, Block(HEADROOM, rejections[-1].reason, now_s + PARKED_S))
        record.kept = ()
        record.chosen = None
        return None

    def _sift(self, group: Group, objective: Objective, sieve: Sieve, prefix: Prefix | None, now_s: float) -> bool:
        """Fills the sieve; whether those it kept are ejected ones, taken before their time.

        When all that is left was merely ejected after failures, ejection is no longer a preference but an outage of
        our own making: the breaker alone decides. Who waits for quota counts as left.
        """
        if group.small:
            sieve.sift(group.candidates, self._considered_max)
            sieve.level()
        else:
            front = list(group.front(now_s, by_price=objective.cost > 0.0))
            home = _home(group, prefix)
            if home is not None:
                if home in front:
                    front.remove(home)
                front.insert(0, home)
            sieve.sift(front, self._considered_max)
            if not sieve.kept:
                sieve.rejections.clear()
                sieve.sift(group.candidates, self._considered_max)
        if sieve.kept:
            return False
        codes = [rejection.code for rejection in sieve.rejections]
        if EJECTED in codes and panic(kept=codes.count(HEADROOM), ejected=codes.count(EJECTED)):
            sieve.readmit(group.candidates, EJECTED)
        return bool(sieve.kept)

    def _hold(
        self,
        candidate: Candidate,
        row: Row,
        demand: Demand,
        asked: str,
        tags: Mapping[str, object],
        *,
        now_s: float,
        trial: bool,
    ) -> Taken | Refused:
        """`asked`: the model as the request names it: budgets go by that. `trial`: nothing will be sent."""
        quota = candidate.quota
        windows = quota.held
        lines = quota.lines(demand.needs(quota.dialect.charges))
        accounts: tuple[Account, ...] = ()
        book = self._costs.book
        if book.any and not demand.free:
            provider_id, key_id = candidate.record.provider_id, candidate.record.key_id
            accounts = book.accounts_for(provider_id, key_id, asked, tags, now_s=now_s)
            if accounts:
                price = candidate.price
                if price is None:
                    self._costs.require_price(provider_id, key_id, asked, tags)
                    lines += [(account, 0) for account in accounts]
                else:
                    lines += _needs(accounts, demand, price, provider_id)
        held = self._ledger.try_hold(lines)
        while trial and isinstance(held, Refused) and self._left(held) >= held.need:
            # A request asks the store for what this process's slice of the budget lacks; a rehearsal takes nothing.
            full = held.account
            lines = [line for line in lines if line[0] is not full]
            held = self._ledger.try_hold(lines)
        if isinstance(held, Refused):
            if held.account.unit == "nano_usd" and candidate.price is not None:
                self.money.append(MoneyRefusal(demand, candidate.price, held.need, accounts, held))
            return held
        return Taken(candidate, held, Scored(row), windows, len(accounts))

    def _left(self, refused: Refused) -> int:
        """What is free for whoever asks: of a budget all that is left, not only what this process holds of it."""
        lease = self._costs.book.lease_of(refused.account)
        return refused.free if lease is None else max(refused.free, lease.left)

    def _refusal(self, candidate: Candidate, refused: Refused) -> Rejection:
        record, account = candidate.record, refused.account
        code = "budget" if account.unit == "nano_usd" else HEADROOM
        if code == "budget":
            left, need = self._left(refused) / 1e9, refused.need / 1e9
            named = account.id if account.id.startswith("budget") else f"budget {account.id}"
            reason = f"{named} has ${left:.6f} left, ${need:.6f} needed"
        else:
            reason = f"{refused.free} {account.unit} free < {refused.need} needed ({account.id})"
        return Rejection(
            record.key_id, record.label, record.provider_id, code, reason, refused.available_at_s, candidate.model
        )


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


def _home(group: Group, prefix: Prefix | None) -> Candidate | None:
    """In a large group, the candidate that has the prompt's beginning, if it may serve: the front may not show it."""
    if prefix is None or prefix.pool is None or prefix.index >= len(group.candidates):
        return None
    candidate = group.candidates[prefix.index]
    return candidate if candidate.quota.pool is prefix.pool and not candidate.parked else None


def _pass_over(group: Group, rows: Sequence[Row]) -> None:
    """Late ones whose turn was first lose it: when their pool has recovered, they must not be flooded to catch up."""
    late, _, turn = rows[0][:3]
    if rows[-1][0] > late:
        for row in rows[1:]:
            if row[0] > late and row[2] <= turn:
                group.took(row[4])
