"""A rate limit that is over is over at once: when the provider lets the next request in, not when its reply has ended;
and a `Retry-After` is not proved false by what others took meanwhile."""

from __future__ import annotations

import random

from apikeyrouter.domain.keys.eligibility import blocked
from apikeyrouter.domain.keys.learning import accepted, begin, fail, release, succeed
from apikeyrouter.domain.keys.record import KeyRecord
from apikeyrouter.domain.models.api_key import KeyState
from apikeyrouter.domain.resilience.failures import FailureClass
from tests.support.keys import failure, record

RNG = random.Random(1)
HINTED = failure(FailureClass.Rate, hint_s=0.5)
SILENT = failure(FailureClass.Rate)
FAULT = failure(FailureClass.Server)


def refuse(key: KeyRecord, now_s: float, *, silent: bool = False) -> None:
    ticket, _ = begin(key, "m", now_s)
    fail(ticket, SILENT if silent else HINTED, now_s, RNG)


def wait_over(key: KeyRecord) -> float:
    """When the key's wait for the model ends."""
    return max([key.until_s, *[limit.until_s for limit in key.limited_models.values()]])


def code_of(key: KeyRecord, now_s: float) -> str | None:
    block = blocked(key, "m", now_s)
    return None if block is None else block.code


def test_others_may_go_as_soon_as_the_probe_is_let_in() -> None:
    key = record()
    refuse(key, 10.0, silent=True)
    back_s = wait_over(key) + 0.1
    probe, _ = begin(key, "m", back_s)
    assert code_of(key, back_s + 0.1) == "probing"
    moved = accepted(probe, back_s + 0.4)
    assert moved is not None
    assert moved.to_state is KeyState.Available
    assert code_of(key, back_s + 0.4) is None
    assert succeed(probe, back_s + 9.0) is None
    assert (key.state, key.in_flight, key.probing) == (KeyState.Available, 0, False)


def test_a_probe_that_breaks_off_after_it_was_let_in_closes_no_later_probe() -> None:
    key = record()
    refuse(key, 10.0, silent=True)
    first, _ = begin(key, "m", wait_over(key) + 0.1)
    accepted(first, wait_over(key) + 0.5)
    refuse(key, 20.0, silent=True)
    second, _ = begin(key, "m", wait_over(key) + 0.1)
    release(first)
    assert code_of(key, second.started_s + 0.1) == "probing"


def test_an_ejected_key_has_to_finish_what_it_begins() -> None:
    key = record()
    for at_s in (1.0, 2.0, 3.0):
        ticket, _ = begin(key, "m", at_s)
        fail(ticket, FAULT, at_s, RNG)
    probe, _ = begin(key, "m", key.until_s + 0.1)
    assert accepted(probe, key.until_s + 0.2) is None
    assert code_of(key, probe.started_s + 0.3) == "probing"


def test_what_was_sent_before_a_wait_ends_none_by_being_let_in() -> None:
    key = record()
    early, _ = begin(key, "m", 9.0)
    refuse(key, 10.0)
    assert accepted(early, 10.1) is None
    assert code_of(key, 10.2) == "rate_limited"


def test_a_promise_is_kept_when_another_request_took_the_room_first() -> None:
    key = record()
    refuse(key, 10.0)
    back_s = wait_over(key)
    taker, _ = begin(key, "m", back_s + 0.01)
    late, _ = begin(key, "m", back_s + 0.02)
    fail(late, HINTED, back_s + 0.03, RNG)
    assert wait_over(key) <= back_s + 0.03 + 0.5 * 1.1
    assert code_of(key, wait_over(key) + 0.01) is None
    assert begin(key, "m", wait_over(key) + 0.01)[0].model_limit is None  # no probe: many may go
    succeed(taker, back_s + 5.0)


def test_a_promise_is_false_when_whoever_came_first_was_refused() -> None:
    key = record()
    refuse(key, 10.0)
    back_s = wait_over(key)
    refuse(key, back_s + 0.01)
    assert wait_over(key) > back_s + 0.9  # at least the own backoff of two strikes
    probe, _ = begin(key, "m", wait_over(key) + 0.01)
    assert code_of(key, wait_over(key) + 0.02) == "probing"
    release(probe)
