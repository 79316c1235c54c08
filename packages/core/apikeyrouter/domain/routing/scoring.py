"""Ranking: what each kept candidate would cost in the objective's currency, best first.

Main entry: `rank`, one tight loop over plain numbers; its rows are what a decision record keeps. Laws: a score is the
sum of its terms, each of which depends on its own candidate alone (or, for `affinity` and `turn`, moves all others
alike), so that whoever comes or goes reverses nobody's order; the order is total: late, score in 1e-12 dollars, turn,
registration.
"""

from __future__ import annotations

from collections.abc import Sequence

from apikeyrouter.domain.models.quota_state import CapacityState
from apikeyrouter.domain.routing.affinity import Prefix, saved_usd, within_bound
from apikeyrouter.domain.routing.candidates import Candidate
from apikeyrouter.domain.routing.demand import Demand
from apikeyrouter.domain.routing.explain import Row
from apikeyrouter.domain.routing.objectives import OVERSIZE_USD, RELIABILITY_THRESHOLD, Objective, scarcity

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
    rows = (_by_turn if objective.turns_only else _by_score)(kept, rooms, demand, objective, now_s)
    if prefix is not None and prefix.pool is not None and objective.affinity:
        rows = _with_affinity(rows, prefix, objective)
    rows.sort()
    return rows


def _by_turn(
    kept: Sequence[Candidate], rooms: Sequence[float], demand: Demand, _objective: Objective, now_s: float
) -> list[Row]:
    tokens_in, tokens_out = demand.input_expected, demand.output_expected
    return [
        (
            LATE_SIZE if room < 0.0 else LATE_POOL if one.quota.state in _SCARCE else 0,
            0,
            one.turn,
            one.index,
            one,
            tokens_in * one.input_usd + tokens_out * one.output_usd + one.fixed_usd,
            one.stats.p_failure(now_s),
            _NO_TERMS,
        )
        for one, room in zip(kept, rooms, strict=True)
    ]


def _by_score(
    kept: Sequence[Candidate], rooms: Sequence[float], demand: Demand, objective: Objective, now_s: float
) -> list[Row]:
    rows: list[Row] = []
    tokens_in, tokens_out = demand.input_expected, demand.output_expected
    w_cost, w_failure, w_latency = objective.cost, objective.failure_usd, objective.latency_usd_per_s
    w_load, w_turn, floors = objective.load_usd, objective.turn_usd, objective.floor
    least_turn = min([one.turn for one in kept], default=0.0) if w_turn else 0.0
    for candidate, room in zip(kept, rooms, strict=True):
        stats, turn, quota = candidate.stats, candidate.turn, candidate.quota
        p_failure = stats.steady
        if p_failure < 0.0:
            p_failure = stats.p_failure(now_s)
        expected_usd = tokens_in * candidate.input_usd + tokens_out * candidate.output_usd + candidate.fixed_usd
        load = candidate.record.in_flight * candidate.stride
        floor = p_failure + RELIABILITY_THRESHOLD - 1.0 if floors and p_failure > 1.0 - RELIABILITY_THRESHOLD else 0.0
        pressure = quota.pressure
        if room == 1.0 and pressure <= 1.0:
            scarce = 0.0
        elif room >= 0.0:
            scarce = scarcity(objective, room, pressure)
        else:
            scarce = OVERSIZE_USD + scarcity(objective, room - OVERSIZE, pressure)
        cost, failure, latency = w_cost * expected_usd, w_failure * p_failure, w_latency * stats.ttft_s * (load + 1.0)
        burden, wait = w_load * load, w_turn * (turn - least_turn)
        score = cost + failure + latency + burden + wait + floor + scarce
        terms = (cost, failure, latency, burden, wait, floor, scarce, 0.0)
        rows.append((0, int(score * _PICO + 0.5), turn, candidate.index, candidate, expected_usd, p_failure, terms))
    return rows


def _with_affinity(rows: list[Row], prefix: Prefix, objective: Objective) -> list[Row]:
    """The rows with what leaving the prompt's pool would cost. The same for all others, so their order stays."""
    total = sum([row[4].record.in_flight * row[4].stride for row in rows])
    home = [
        row[4]
        for row in rows
        if row[4].quota.pool is prefix.pool and within_bound(row[4].record.in_flight * row[4].stride, total, len(rows))
    ]
    if not home:
        return rows
    lost = objective.affinity * saved_usd(home[0], prefix.tokens)
    if lost <= 0.0:
        return rows
    at_home = {one.index for one in home}
    pico = int(lost * _PICO + 0.5)
    return [
        row
        if row[3] in at_home
        else (row[0], row[1] + pico, row[2], row[3], row[4], row[5], row[6], (*row[7][:7], lost))
        for row in rows
    ]
