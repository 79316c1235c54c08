"""What the quota story is judged by: what fits, what came through, and whether refusals told the truth.

Entry: `Calls` (what the client saw), `fits()` (what an all-knowing router would have served), `judge()`.
Laws: the provider's own meters judge, replayed with what it recorded, so nothing of the router is believed; a told wait
is held against the time until the first account would have let a request in, as it stood when the refusal was answered.
"""

from __future__ import annotations

import contextlib
import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from apikeyrouter.simulation.accounts import Account, Accounts
from apikeyrouter.simulation.api_errors import ApiError
from apikeyrouter.simulation.config import AccountConfig, Limits, SimConfig
from bench.client import percentile
from bench.story_targets import ACCOUNTS, key_of

_TOKENS = 30  # of a request, far from any token limit
_TRUE_RATIO = 0.2
_TRUE_S = 0.25
"""A told wait is true within 20 %, or within this where little is left: no client waits more finely."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request as its client saw it, Unix times. `told_s`: what Retry-After said; `whole`: in whole seconds only;
    `said`: the beginning of an error."""

    due_s: float
    ended_s: float
    status: int
    told_s: float | None = None
    whole: bool = False
    said: str = ""


@dataclass(slots=True)
class Verdict:
    """Figures of one run. `fits`: what an all-knowing router would have served; `upstream_429_s`: when, from the start;
    `refused_in_vain`: refusals while an account had room; `told_true`, `told`: refusals whose Retry-After was true, and
    that had one; `worst_told`: (told, true) of the worst; `said`: the first error of each status; `added_p50_ms`,
    `added_p99_ms`: of what was served, over a request without a gateway, waiting included."""

    offered: int
    fits: int
    served: int
    refused: int
    errors: dict[str, int]
    upstream_sent: int
    upstream_429_s: list[float]
    refused_in_vain: int
    told: int
    told_true: int
    worst_told: tuple[float, float] | None
    added_p50_ms: float
    added_p99_ms: float
    said: dict[str, str]
    notes: dict[str, Any] = field(default_factory=dict)


def fits(limits: dict[str, Any], due_s: Sequence[float]) -> int:
    """How many of the offered requests fit when each goes to an account that has room, at once or never."""
    accounts = _accounts(limits, due_s[0])
    served = 0
    for at_s in due_s:
        # the account with the most room, so that what flows in is never lost at a full one
        for account in sorted(accounts.values(), key=lambda one: -_room(one, at_s)):
            if account.wait_s(_TOKENS, at_s) <= 0:
                account.admit("", _TOKENS, at_s, count_refused=True)
                served += 1
                break
    return served


def judge(limits: dict[str, Any], calls: Sequence[Call], visits: Sequence[dict[str, Any]], direct_ms: float) -> Verdict:
    """Holds what clients saw against what the provider recorded. `direct_ms`: a request without a gateway, median."""
    began_s = min(call.due_s for call in calls)
    statuses = Counter(call.status for call in calls)
    served_ms = [(call.ended_s - call.due_s) * 1000 for call in calls if call.status == 200]
    in_vain, told = _refusals(limits, calls, visits, began_s)
    wrong = [(said, true) for said, true, right in told if not right]
    return Verdict(
        offered=len(calls),
        fits=fits(limits, sorted(call.due_s for call in calls)),
        served=statuses[200],
        refused=statuses[429],
        errors={str(status): count for status, count in statuses.items() if status not in (200, 429)},
        upstream_sent=len(visits),
        upstream_429_s=[round(v["at_utc_s"] - began_s, 2) for v in visits if v["status"] == "429"],
        refused_in_vain=in_vain,
        told=len(told),
        told_true=len(told) - len(wrong),
        worst_told=max(wrong, key=lambda one: abs(one[0] - one[1]), default=None),
        added_p50_ms=percentile(served_ms, 0.5) - direct_ms,
        added_p99_ms=percentile(served_ms, 0.99) - direct_ms,
        said={str(call.status): call.said for call in reversed(calls) if call.status != 200},
    )


def _refusals(
    limits: dict[str, Any], calls: Sequence[Call], visits: Sequence[dict[str, Any]], began_s: float
) -> tuple[int, list[tuple[float, float, bool]]]:
    """(refusals while an account had room, (told, true wait, right?) of those that told one)."""
    accounts = _accounts(limits, began_s - 1.0)
    refused = sorted((call for call in calls if call.status == 429), key=lambda call: call.ended_s)
    coming = [(visit["at_utc_s"], visit["key"]) for visit in visits]
    heapq.heapify(coming)
    in_vain, told = 0, []
    for call in refused:
        while coming and coming[0][0] <= call.ended_s:
            at_s, key = heapq.heappop(coming)
            with contextlib.suppress(ApiError):  # the provider refused it too, and the meters have counted that
                accounts[key].admit("", _TOKENS, at_s, count_refused=True)
        true_s = min(account.wait_s(_TOKENS, call.ended_s) for account in accounts.values())
        in_vain += true_s <= 0
        if call.told_s is not None:
            rounding_s = 1.0 if call.whole else 0.0
            slack_s = max(_TRUE_S, _TRUE_RATIO * true_s)
            right = -slack_s <= call.told_s - true_s <= slack_s + rounding_s
            told.append((round(call.told_s, 3), round(true_s, 3), right))
    return in_vain, told


def _accounts(limits: dict[str, Any], now_s: float) -> dict[str, Account]:
    """Full accounts by key, on Unix time: a day began at its multiples of 86,400."""
    config = SimConfig(
        accounts=tuple(
            AccountConfig(f"story-{n}", (key_of(n),), msgspec.convert(limits, Limits)) for n in range(1, ACCOUNTS + 1)
        ),
    )
    book = Accounts(config, now_s, midnight_s=now_s - now_s % 86_400.0)
    return {key_of(n): book.authenticate(key_of(n), now_s) for n in range(1, ACCOUNTS + 1)}


def _room(account: Account, now_s: float) -> float:
    """Requests left this minute, less what must be waited for."""
    left: Any = account.view(now_s)["remaining"]
    return float(left["rpm"]) - account.wait_s(_TOKENS, now_s) * 1e6
