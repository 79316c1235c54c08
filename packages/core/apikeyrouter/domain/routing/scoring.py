"""Ranking: what each kept candidate would cost in the objective's currency, best first.

Main entry: `rank`, one tight loop over plain numbers; its rows are what a decision record keeps. Laws: a score is the
sum of its terms, each of which depends on its own candidate alone (or, for `affinity` and `turn`, moves all others
alike), so that whoever comes or goes reverses nobody's order; the order is total: late, score in 1e-12 dollars, turn,
registration.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Sequence

from apikeyrouter.domain.models.quota_state import CapacityState
from apikeyrouter.domain.routing.affinity import Prefix, saved_usd, within_bound
from apikeyrouter.domain.routing.candidates import Candidate
from apikeyrouter.domain.routing.demand import Demand
from apikeyrouter.domain.routing.explain import Row
from apikeyrouter.domain.routing.objectives import EDGE, OVERSIZE_USD, RELIABILITY_THRESHOLD, Objective, scarcity

__all__ = ["LATE_POOL", "LATE_SIZE", "OVERSIZE", "rank"]

LATE_POOL, LATE_SIZE = 1, 2
"""Why a candidate comes after the others although its turn is first: its pool runs dry; the request is more than half
of its pool."""

OVERSIZE = -2.0
"""Added to a room (0..1) to say that the request takes more than half of the pool's tokens."""

_SCARCE = frozenset({CapacityState.Critical, CapacityState.Exhausted})
_PICO = 1e12
_NO_TERMS: tuple[float, ...] = ()


def rank(
    kept: Sequence[Candidate],
    rooms: Sequence[float],
    demand: Demand,
    objective: Objective,
    prefix: Prefix | None,
    now_s: float,
) -> list[Row]:
    """Best first. `rooms`: per candidate the least share of a limit that is left after the request, see `OVERSIZE`."""
    if objective.turns_only:
        rows = _by_turn(kept, rooms, demand, now_s)
    else:
        home, lost = _home_of(kept, prefix, objective)
        rows = _by_score(kept, rooms, demand, objective, home, lost, now_s)
    rows.sort()
    return rows


def _by_turn(kept: Sequence[Candidate], rooms: Sequence[float], demand: Demand, now_s: float) -> list[Row]:
    tokens_in, tokens_out = demand.input_expected, demand.output_expected
    mixed = demand.sizes is not None
    return [
        (
            LATE_SIZE if rooms[place] < 0.0 else LATE_POOL if one.quota.state in _SCARCE else 0,
            0,
            one.turn,
            one.index,
            one,
            _likely_usd(one, demand)
            if mixed
            else tokens_in * one.input_usd + tokens_out * one.output_usd + one.fixed_usd,
            one.stats.steady if one.stats.steady >= 0.0 else one.stats.p_failure(now_s),
            _NO_TERMS,
        )
        for place, one in enumerate(kept)
    ]


def _by_score(
    kept: Sequence[Candidate],
    rooms: Sequence[float],
    demand: Demand,
    objective: Objective,
    home: Container[int],
    lost: float,
    now_s: float,
) -> list[Row]:
    """`home`: registration numbers of those who lose nothing of a cached prompt; `lost`: dollars for the others."""
    rows: list[Row] = []
    tokens_in, tokens_out = demand.input_expected, demand.output_expected
    mixed = demand.sizes is not None
    w_cost, w_failure, w_latency = objective.cost, objective.failure_usd, objective.latency_usd_per_s
    w_load, w_turn, w_spread, floors = objective.load_usd, objective.turn_usd, objective.spread_usd, objective.floor
    least_turn = min([one.turn for one in kept], default=0.0) if w_turn else 0.0
    wait = floor = away = 0.0
    for candidate, room in zip(kept, rooms, strict=True):
        stats, turn, quota = candidate.stats, candidate.turn, candidate.quota
        p_failure = stats.steady
        if p_failure < 0.0:
            p_failure = stats.p_failure(now_s)
        if mixed:
            expected_usd = _likely_usd(candidate, demand)
        else:
            expected_usd = tokens_in * candidate.input_usd + tokens_out * candidate.output_usd + candidate.fixed_usd
        in_flight = candidate.record.in_flight
        load = in_flight * candidate.stride if in_flight else 0.0
        if floors:
            floor = p_failure + RELIABILITY_THRESHOLD - 1.0 if p_failure > 1.0 - RELIABILITY_THRESHOLD else 0.0
        pressure = quota.pressure
        if room >= EDGE and pressure <= 1.0:
            # as `scarcity` has it, without the call: most pools are neither near their end nor used up too fast
            scarce = w_spread * (1.0 - room) * (1.0 - room)
        elif room >= 0.0:
            scarce = scarcity(objective, room, pressure)
        else:
            scarce = OVERSIZE_USD + scarcity(objective, room - OVERSIZE, pressure)
        cost, failure, latency = w_cost * expected_usd, w_failure * p_failure, w_latency * stats.ttft_s * (load + 1.0)
        burden = w_load * load
        if w_turn:
            wait = w_turn * (turn - least_turn)
        index = candidate.index
        if lost:
            away = 0.0 if index in home else lost
        score = cost + failure + latency + burden + wait + floor + scarce + away
        terms = (cost, failure, latency, burden, wait, floor, scarce, away)
        rows.append((0, int(score * _PICO + 0.5), turn, index, candidate, expected_usd, p_failure, terms))
    return rows


def _likely_usd(candidate: Candidate, demand: Demand) -> float:
    """What the call will probably cost, in dollars, by the sizes that it has for the candidate's own model."""
    own = demand.of(candidate.model)
    return own.input_expected * candidate.input_usd + own.output_expected * candidate.output_usd + candidate.fixed_usd


def _home_of(kept: Sequence[Candidate], prefix: Prefix | None, objective: Objective) -> tuple[Collection[int], float]:
    """Who has the beginning of the prompt and is not too loaded to get more of it, by registration number; and what
    leaving them loses. That is the same for all others, so their order stays."""
    if prefix is None or prefix.pool is None or not objective.affinity:
        return (), 0.0
    pool = prefix.pool
    those = [one for one in kept if one.quota.pool is pool]
    if not those:
        return (), 0.0
    home = those
    if any(one.record.in_flight for one in those):  # an idle one is always within the bound
        total = sum([one.record.in_flight * one.stride for one in kept])
        home = [one for one in those if within_bound(one.record.in_flight * one.stride, total, len(kept))]
        if not home:
            return (), 0.0
    return [one.index for one in home], objective.affinity * saved_usd(home[0], prefix.tokens)
