"""The breaker of one model at one provider."""

from __future__ import annotations

import random

import pytest

from apikeyrouter.domain.resilience.breaker import Breaker, Phase, Verdict

RNG = random.Random


def attempt(breaker: Breaker, now_s: float, *, ok: bool, rng: random.Random | None = None) -> None:
    ticket = breaker.begin(now_s)
    if ok:
        breaker.succeed(now_s, ticket)
    else:
        breaker.fail(now_s, ticket, rng or RNG(1))


def tripped(now_s: float = 100.0) -> Breaker:
    breaker = Breaker()
    for _ in range(3):
        attempt(breaker, now_s, ok=False)
    return breaker


def ramping(now_s: float = 200.0) -> Breaker:
    breaker = tripped()
    attempt(breaker, now_s, ok=True)
    attempt(breaker, now_s, ok=True)
    return breaker


def test_a_new_breaker_admits() -> None:
    assert Breaker().verdict(0.0) is Verdict.Admit
    assert repr(Breaker()) == "<Breaker closed, 0 failures in a row, 0 trips>"


def test_three_failures_in_a_row_trip_it() -> None:
    breaker = Breaker()
    for outcome in (False, False, True, False, False):
        attempt(breaker, 100.0, ok=outcome)
    assert breaker.phase is Phase.Closed
    attempt(breaker, 100.0, ok=False)
    assert breaker.phase is Phase.Open
    assert 100.5 <= breaker.open_until_s <= 101.5
    assert breaker.verdict(100.4) is Verdict.Reject
    assert breaker.verdict(breaker.open_until_s) is Verdict.Probe


def test_half_of_ten_trips_it_without_three_in_a_row() -> None:
    breaker = Breaker()
    for _ in range(4):
        attempt(breaker, 100.0, ok=True)
        attempt(breaker, 100.0, ok=False)
    attempt(breaker, 101.0, ok=True)
    assert breaker.phase is Phase.Closed
    attempt(breaker, 101.0, ok=False)
    assert breaker.phase is Phase.Open


@pytest.mark.parametrize("gap_s", [30.0, 31.0, 3_000.0])
def test_what_is_older_than_the_window_is_forgotten(gap_s: float) -> None:
    breaker = Breaker()
    for _ in range(4):
        attempt(breaker, 100.0, ok=False)
        breaker.succeed(100.0, breaker.begin(100.0))
    for outcome in (False, True, True, False, True, True, False):
        attempt(breaker, 100.0 + gap_s, ok=outcome)
    assert breaker.phase is Phase.Closed


def test_while_half_open_one_probe_is_out_and_no_other() -> None:
    breaker = tripped()
    first = breaker.begin(200.0)
    assert breaker.phase is Phase.HalfOpen
    assert breaker.verdict(1e9) is Verdict.Reject
    breaker.succeed(201.0, first)
    assert breaker.verdict(201.0) is Verdict.Probe
    breaker.succeed(201.0, breaker.begin(201.0))
    assert breaker.phase is Phase.Ramping


def test_a_bad_probe_opens_it_for_longer_each_time_up_to_a_minute() -> None:
    breaker = tripped()
    lengths = []
    for _ in range(10):
        now_s = breaker.open_until_s
        breaker.fail(now_s, breaker.begin(now_s), RNG(3))
        lengths.append(breaker.open_until_s - now_s)
        assert breaker.verdict(now_s) is Verdict.Reject
    assert lengths[:5] == pytest.approx([lengths[0] * 2**n for n in range(5)])
    assert lengths[-1] == 60.0


def test_a_bad_probe_undoes_the_good_one_before_it() -> None:
    breaker = tripped()
    attempt(breaker, 200.0, ok=True)
    attempt(breaker, 200.0, ok=False)
    attempt(breaker, 300.0, ok=True)
    assert breaker.phase is Phase.HalfOpen


def test_a_probe_that_told_nothing_gives_its_place_back() -> None:
    breaker = tripped()
    ticket = breaker.begin(200.0)
    breaker.release(200.0, ticket)
    assert breaker.verdict(200.0) is Verdict.Probe
    assert breaker.begin(200.0) != ticket
    assert breaker.verdict(200.0) is Verdict.Reject
    # given back twice, it must not free the place of another
    breaker.release(200.0, ticket)
    assert breaker.verdict(200.0) is Verdict.Reject


def test_a_slow_reply_from_before_the_trip_decides_nothing() -> None:
    breaker = Breaker()
    slow = [breaker.begin(99.0) for _ in range(4)]
    for _ in range(3):
        attempt(breaker, 100.0, ok=False)
    until_s = breaker.open_until_s
    breaker.fail(100.2, slow[0], RNG(1))
    breaker.succeed(100.2, slow[1])
    assert (breaker.phase, breaker.open_until_s) == (Phase.Open, until_s)
    probe = breaker.begin(until_s)
    breaker.succeed(until_s, slow[2])
    breaker.fail(until_s, slow[3], RNG(1))
    assert breaker.phase is Phase.HalfOpen
    breaker.fail(until_s, probe, RNG(1))
    assert breaker.phase is Phase.Open


def test_an_attempt_in_spite_of_a_reject_does_not_count() -> None:
    breaker = tripped()
    forced = breaker.begin(100.1)
    breaker.succeed(100.1, forced)
    breaker.release(100.1, forced)
    assert breaker.phase is Phase.Open
    probe = breaker.begin(200.0)
    forced = breaker.begin(200.0)
    breaker.fail(200.0, forced, RNG(1))
    assert breaker.phase is Phase.HalfOpen
    breaker.succeed(200.0, probe)
    assert breaker.verdict(200.0) is Verdict.Probe


def test_the_ramp_admits_a_tenth_a_quarter_a_half_and_then_all() -> None:
    breaker = ramping(200.0)
    rng = RNG(11)

    def admitted(from_s: float, to_s: float) -> float:
        times_s = [rng.uniform(from_s, to_s) for _ in range(4_000)]
        return sum(breaker.verdict(t) is Verdict.Admit for t in times_s) / len(times_s)

    assert admitted(200.0, 203.3) == pytest.approx(0.10, abs=0.03)
    assert admitted(203.4, 206.6) == pytest.approx(0.25, abs=0.03)
    assert admitted(206.7, 209.9) == pytest.approx(0.50, abs=0.03)
    assert admitted(210.0, 220.0) == 1.0


def test_after_the_ramp_it_is_closed_and_has_forgotten_its_trips() -> None:
    breaker = ramping(200.0)
    assert breaker.trips == 1
    attempt(breaker, 209.0, ok=True)
    assert breaker.phase is Phase.Ramping
    attempt(breaker, 210.0, ok=True)
    assert (breaker.phase, breaker.trips) == (Phase.Closed, 0)


def test_failures_on_the_ramp_open_it_again_for_longer() -> None:
    breaker = ramping(200.0)
    for _ in range(3):
        attempt(breaker, 201.0, ok=False, rng=RNG(2))
    assert (breaker.phase, breaker.trips) == (Phase.Open, 2)
    # failures from before the pause do not count on the ramp
    breaker = ramping(102.0)
    attempt(breaker, 102.0, ok=False)
    attempt(breaker, 102.0, ok=False)
    assert breaker.phase is Phase.Ramping
    breaker.release(113.0, breaker.begin(112.0))
    assert breaker.phase is Phase.Closed


def test_old_successes_do_not_hide_new_failures() -> None:
    breaker = Breaker()
    for _ in range(20):
        attempt(breaker, 100.0, ok=True)
    for _ in range(5):
        attempt(breaker, 131.0, ok=True)
        attempt(breaker, 131.0, ok=False)
    assert breaker.phase is Phase.Open
