"""The rules of the shared ledger in Lua are those in Python: thousands of random sequences, on a real server.

Amounts are of every size, also where doubles have long stopped telling neighbours apart.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from apikeyrouter.domain.interfaces.shared_ledger import (
    LeaseAsk,
    LeaseReply,
    LeaseRow,
    LeaseWorker,
    LedgerEntry,
    Legacy,
    WindowTotals,
)
from apikeyrouter.domain.interfaces.state_store import StateStore, StoreBatch
from apikeyrouter.domain.ledger.lease_rules import ALERT_PERCENTS, grant, recover, recover_share
from apikeyrouter.infrastructure.state_store.memory_store import MemoryStateStore
from apikeyrouter.infrastructure.state_store.redis_link import RedisLink, Word
from apikeyrouter.infrastructure.state_store.redis_scripts import script_of
from apikeyrouter.infrastructure.state_store.redis_store import RedisStateStore
from apikeyrouter.infrastructure.state_store.redis_url import RedisPlace
from apikeyrouter.testing.store_rows import budget_row

RATES = ("rate:0:a", "rate:60:a", "rate:60:b")
SEQUENCES, STEPS = 3_000, 10
SIZES = (3, 100, 10**12, 2**53, 10**15 + 7, 2**62, 10**22)

_DRIVER = """
local row, answers = nil, {}
local totals = totals_of(nil)
local first = 1
while first <= #ARGV do
  if ARGV[first] == 'ask' then
    local a = {}
    for place = 1, 16 do a[place] = ARGV[first + place] end
    local ask = {
      window = a[1], oldest = a[2], seq = amount(a[3]), spent = amount(a[4]), held = amount(a[5]),
      granted = amount(a[6]), have = amount(a[7]), overrun = amount(a[8]), least = amount(a[9]),
      is_rate = a[14] ~= '', is_slots = rate_period_s(a[16]) == 0, since = tonumber(a[15]),
    }
    local counted = {spent = amount(a[12]), granted = amount(a[13])}
    local told
    row, totals, told = grant(ask, row, totals, amount(a[10]), a[11] == 'hard', counted)
    answers[#answers + 1] = text_of_slice(row) .. ' ' .. text_of_totals(totals) .. ' ' .. told
    first = first + 17
  elseif ARGV[first] == 'share' then
    local left
    totals, left = recover_share(row, totals)
    answers[#answers + 1] = text_of_totals(totals) .. ' ' .. text_of(left)
    row = nil
    first = first + 1
  else
    local legacy = ARGV[first] == 'journal' and {spent = amount(ARGV[first + 1]), sent = amount(ARGV[first + 2])} or nil
    local settled, presumed
    totals, settled, presumed = recover(row, totals, legacy)
    answers[#answers + 1] = text_of_totals(totals) .. ' ' .. text_of(settled) .. ' ' .. text_of(presumed)
    row = nil
    first = first + 3
  end
end
return answers
"""


def _totals(totals: WindowTotals) -> list[int]:
    fields = (totals.spent, totals.held, totals.granted, totals.overrun, totals.presumed)
    return [*fields, totals.alerted, totals.calls, totals.since]


def _sequence(chance: random.Random) -> tuple[list[Word], list[list[int]]]:
    """The words of one random sequence on one slice, and what Python makes of it."""
    size = chance.choice(SIZES)
    words: list[Word] = []
    expected: list[list[int]] = []
    row: LeaseRow | None = None
    totals = WindowTotals("b", 10)
    seq = 0
    is_rate = chance.random() < 0.4
    line_id = chance.choice(("rate:0:b", "rate:60:b")) if is_rate else "b"

    def some(most: int = size) -> int:
        return chance.choice((0, 1, most, most - 1, chance.randrange(most + 1), chance.randrange(most + 1)))

    for _ in range(STEPS):
        if row is not None and chance.random() < 0.03:
            words.append("share")
            totals, left = recover_share(row, totals)
            expected.append([*_totals(totals), left])
            row = None
            continue
        if row is not None and chance.random() < 0.1:
            legacy = Legacy(some(), some()) if chance.random() < 0.6 else None
            words += ["journal", legacy.spent, legacy.sent] if legacy else ["presume", 0, 0]
            totals, settled, presumed = recover(row, totals, legacy)
            expected.append([*_totals(totals), settled, presumed])
            row = None
            continue
        seq = max(1, seq + chance.choice((-1, 0, 1, 1, 1, 2)))
        oldest = chance.choice((10, 10, 7))
        ask = LeaseAsk(line_id, 10, oldest, seq, some(), some(), some(2 * size), some(), some(), some(2 * size))
        limit, hard = some(4 * size), is_rate or chance.random() < 0.8
        if is_rate:
            ask.limit, ask.since = limit, chance.choice((0, 5, 7, 8, 9))
        counted = (some(), some()) if oldest < 10 else (0, 0)
        words += ["ask", 10, oldest, seq, ask.spent, ask.held, ask.granted, ask.have, ask.overrun, ask.least]
        words += [limit, "hard" if hard else "soft", *counted]
        words += ["" if ask.limit is None else ask.limit, ask.since, line_id]
        row, totals, answer = grant(ask, row, totals, worker_id="w", limit=limit, hard=hard, counted=counted)
        told = ALERT_PERCENTS.index(answer.crossed[0]) if answer.crossed else totals.alerted
        expected.append([row.seq, row.spent, row.held, row.granted, row.overrun, *_totals(totals), told])
    return words, expected


async def test_lua_and_python_agree_on_thousands_of_sequences(redis_url: str) -> None:
    link = RedisLink(RedisPlace.parse(redis_url), timeout_s=30)
    script = script_of("common", "amounts", "rules", "books", text=_DRIVER)
    chance = random.Random(3)
    try:
        for number in range(SEQUENCES):
            words, expected = _sequence(chance)
            answers = await link.run(script, words)
            assert [list(map(int, one.split())) for one in answers] == expected, f"sequence {number}: {words}"
    finally:
        await link.close()


@pytest.mark.parametrize("size", [1, 10**11, 10**12 - 1, 10**12, 2**53 + 1, 10**24])
async def test_sums_differences_and_order_are_exact(redis_url: str, size: int) -> None:
    link = RedisLink(RedisPlace.parse(redis_url), timeout_s=30)
    text = """
local a, b = amount(ARGV[1]), amount(ARGV[2])
return {text_of(a), text_of(plus(a, b)), text_of(minus(a, b)), text_of(times(a, 100)), text_of(larger(a, b)),
  text_of(smaller(a, b)), below(a, b) and 1 or 0}
"""
    chance = random.Random(size)
    numbers = [0, 1, -1, size, -size, size - 1, size + 1, *(chance.randrange(-size, size + 1) for _ in range(6))]
    try:
        for a in numbers:
            for b in numbers:
                *texts, below = await link.run(script_of("amounts", text=text), [a, b])
                assert [one.decode() for one in texts] == [
                    str(one) for one in (a, a + b, a - b, a * 100, max(a, b), min(a, b))
                ]
                assert below == (a < b)
    finally:
        await link.close()


class _Twins:
    """The same calls to two stores; their answers must be equal but for times."""

    def __init__(self, *stores: StateStore) -> None:
        self.stores = stores

    async def apply(self, batch: StoreBatch) -> None:
        for store in self.stores:
            await store.apply(batch)

    async def agree(self, name: str, *arguments: Any) -> Any:
        first, second = [_timeless(await getattr(store, name)(*arguments)) for store in self.stores]
        assert first == second, f"{name}{arguments}"
        return first


def _timeless(answer: Any) -> Any:
    if isinstance(answer, LeaseReply):
        return replace(answer, now_utc_s=0.0)
    if isinstance(answer, list) and answer and isinstance(answer[0], LedgerEntry):
        return sorted([replace(one, at_s=0.0) for one in answer], key=repr)  # a recovery may take windows in any order
    if isinstance(answer, list) and answer and isinstance(answer[0], WindowTotals):
        return sorted(answer, key=lambda one: (one.budget_id, one.window))
    return answer


@pytest.mark.parametrize("seed", range(40))
async def test_the_whole_store_answers_as_the_one_that_runs_the_rules_in_python(redis_url: str, seed: int) -> None:
    chance = random.Random(seed)
    redis, memory = RedisStateStore(redis_url, max_events=10_000), MemoryStateStore(max_events=10_000)
    twins = _Twins(memory, redis)
    size = chance.choice((60, 2**62))
    seqs: dict[tuple[str, str, int], int] = {}
    try:
        for _ in range(80):
            action = chance.random()
            if action < 0.08:
                mode, status = chance.choice(("hard", "hard", "soft")), chance.choice(("active", "active", "deleted"))
                limit = chance.randrange(4 * size)
                row = budget_row(chance.choice("abc"), limit_nano_usd=limit, mode=mode, status=status)
                await twins.apply(StoreBatch(budgets=[row]))
            elif action < 0.16:
                journal = {(b, w): Legacy(chance.randrange(size), chance.randrange(9)) for b in "ax" for w in (10, 11)}
                await twins.agree("recover_worker", f"w{chance.randrange(6)}", journal)
            elif action < 0.2:
                await twins.agree("recover_worker", f"w{chance.randrange(6)}", None)
            else:
                worker = LeaseWorker(f"w{chance.randrange(6)}", "host", chance.choice((600.0, 600.0, 0.0)))
                asks = [_ask(chance, worker.worker_id, seqs, size) for _ in range(chance.randrange(4))]
                await twins.agree("lease", worker, asks)
        for budget in "abcx":
            await twins.agree("query_entries", budget)
            await twins.agree("query_entries", budget, 11)
        await twins.agree("load_windows", [(budget, 0, 20) for budget in (*"abcx", *RATES)])
        workers = [[row.worker_id for row in await store.list_workers()] for store in (memory, redis)]
        assert workers[0] == workers[1]
    finally:
        await redis.close()


def _ask(chance: random.Random, worker_id: str, seqs: dict[tuple[str, str, int], int], size: int) -> LeaseAsk:
    budget, window = chance.choice("aabc"), chance.randrange(10, 14)
    limit = None
    if chance.random() < 0.3:
        budget, window, limit = chance.choice((*RATES, "rate:7")), 0, chance.randrange(4 * size)
    place = (worker_id, budget, window)
    seqs[place] = seq = max(1, seqs.get(place, 0) + chance.choice((0, 1, 1, 1)))
    some = [chance.randrange(size) for _ in range(6)]
    oldest = chance.choice((window, window - 2)) if limit is None else 7
    return LeaseAsk(budget, window, oldest, seq, *some, limit, chance.choice((0, 5, 7, 8, 9)))
