"""Whatever several processes do to one key, and however late they hear of each other: in the end they say the same.

Three key managers on one store, each with a monotonic clock of its own and UTC clocks that differ by some hundredths of
a second, act and refresh in any order. Then everybody refreshes until nobody writes any more.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apikeyrouter.domain.errors import InvalidStateTransitionError
from apikeyrouter.domain.keys.eligibility import blocked
from apikeyrouter.domain.models.api_key import KeyState
from apikeyrouter.domain.resilience.failures import FailureClass
from apikeyrouter.infrastructure.state_store.memory_store import MemoryStateStore
from apikeyrouter.testing.virtual_time import ManualClock
from tests.support.keys import Office, failure

OFFICES = 3
ROUNDS_MAX = 5
FAILURES = {
    "rate": failure(FailureClass.Rate, hint_s=30.0, whole_account=True),
    "rate of a model": failure(FailureClass.Rate, hint_s=45.0),
    "guess": failure(FailureClass.Rate, whole_account=True),
    "balance": failure(FailureClass.Balance),
    "auth": failure(FailureClass.Auth),
}
ACTS = ("succeed", *FAILURES, "disable", "enable", "rotate", "rename", "revoke", "refresh", "refresh", "refresh")
steps = st.lists(
    st.tuples(st.integers(0, OFFICES - 1), st.sampled_from(ACTS), st.sampled_from((0.0, 0.001, 0.3, 20.0))),
    min_size=1,
    max_size=25,
)


async def offices() -> tuple[list[Office], str]:
    first = await Office(MemoryStateStore()).open()
    key = await first.keys.register("material-" + "m" * 20, "openai")
    others = []
    for i in range(1, OFFICES):
        clock = ManualClock(1_000.0 * i, utc=first.clock.utc_now() + timedelta(seconds=0.03 * i))
        other = Office(first.store, clock=clock)
        other.sealer = first.sealer
        others.append(await other.open())
    return [first, *others], key.id


async def act(office: Office, what: str, key_id: str, number: int) -> None:
    keys = office.keys
    if what == "refresh":
        await keys.refresh({key_id})
        return
    try:
        if what in FAILURES:
            office.refuse(key_id, FAILURES[what])
        elif what == "succeed":
            office.serve(key_id)
        elif what == "rotate":
            await keys.rotate_key(key_id, f"material-{number}-" + "m" * 20)
        elif what == "rename":
            await keys.update(key_id, label=f"label {number}", metadata={"weight": number + 1})
        elif what == "revoke":
            await keys.revoke_key(key_id)
        else:
            await (keys.disable(key_id) if what == "disable" else keys.enable(key_id))
    except InvalidStateTransitionError:
        return


def said(office: Office, key_id: str) -> tuple[Any, ...]:
    """All that decides about traffic; waits that go on."""
    record, now_s = office.keys.get(key_id), office.now_s()
    waits = {model for model in ("gpt-4", "gpt-5") if (block := blocked(record, model, now_s)) and block.until_s}
    return (
        record.state,
        record.label,
        record.weight,
        0 if record.state is KeyState.Retired else record.version,
        record.secret.reveal(),
        record.in_flight,
        waits,
    )


def deadlines(office: Office, key_id: str) -> list[float]:
    """When they end by this office's idea of the time of day."""
    record, now_s = office.keys.get(key_id), office.now_s()
    blocks = [blocked(record, model, now_s) for model in ("gpt-4", "gpt-5")]
    utc_s = office.clock.utc_now().timestamp()
    return [utc_s + block.until_s - now_s for block in blocks if block is not None and block.until_s is not None]


@settings(max_examples=150, deadline=None)
@given(steps)
def test_processes_that_have_heard_of_everything_agree_and_fall_silent(script: list[tuple[int, str, float]]) -> None:
    async def run() -> None:
        team, key_id = await offices()
        revoked = False
        for number, (place, what, wait_s) in enumerate(script):
            await act(team[place], what, key_id, number)
            revoked = revoked or what == "revoke"
            for office in team:
                office.clock.advance(wait_s)
        for office in team:
            office.keys.flush_counters()
        for _ in range(ROUNDS_MAX):
            before = (await team[0].store.load_keys())[0].revision
            for office in team:
                await office.keys.refresh({key_id})
                office.keys.flush_counters()
            (row,) = await team[0].store.load_keys()
            if row.revision == before:
                break
        else:
            raise AssertionError("they go on answering each other")
        first, *others = [said(office, key_id) for office in team]
        assert all(other == first for other in others), [first, *others]
        for office in team:
            assert deadlines(office, key_id) == pytest.approx(deadlines(team[0], key_id), abs=0.1)
        assert (first[0] is KeyState.Retired) is revoked
        for office in team:
            heard = len(office.heard)
            await office.keys.refresh()
            assert len(office.heard) == heard
        later = await team[0].reopened()
        assert said(later, key_id)[:5] == first[:5]

    asyncio.run(run())
