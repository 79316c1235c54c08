"""The breaker of one model at one provider."""

from __future__ import annotations

import random

import pytest

from apikeyrouter.domain.resilience.breaker import Breaker, Phase, Verdict
from apikeyrouter.domain.resilience.ejection import Blame

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
    for _ in range(2):
        attempt(breaker, 100.0, ok=False)
    assert breaker.phase is Phase.Closed
    attempt(breaker, 100.0, ok=False)
    assert breaker.phase is Phase.Open
    assert 100.5 <= breaker.open_until_s <= 101.5
    assert breaker.verdict(100.4) is Verdict.Reject
    assert breaker.verdict(breaker.open_until_s) is Verdict.Probe


def test_where_failures_are_usual_a_streak_must_be_longer_than_chance_would_make_it() -> None:
    breaker = Breaker()
    for _ in range(30):
        for outcome in (True, True, True, False):
            attempt(breaker, 100.0, ok=outcome)
    attempt(breaker, 100.0, ok=True)
    streak = 0
    while breaker.phase is Phase.Closed:
        attempt(breaker, 100.0, ok=False)
        streak += 1
    assert 9 <= streak <= 12


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
    assert breaker.verdict(202.9) is Verdict.Reject
    breaker.succeed(201.0, first)
    assert breaker.verdict(201.0) is Verdict.Probe
    breaker.succeed(201.0, breaker.begin(201.0))
    assert breaker.phase is Phase.Ramping


def test_a_probe_that_hangs_is_joined_by_another_one_and_either_may_prove() -> None:
    breaker = tripped()
    hanging = breaker.begin(200.0)
    assert breaker.verdict(203.0) is Verdict.Probe
    second = breaker.begin(203.0)
    assert breaker.verdict(205.9) is Verdict.Reject
    breaker.succeed(204.0, second)
    breaker.succeed(204.5, hanging)
    assert breaker.phase is Phase.Ramping
    breaker = tripped()
    hanging = breaker.begin(200.0)
    for i in range(1, 12):
        breaker.begin(200.0 + 3.0 * i)
    breaker.fail(240.0, hanging, RNG(1))  # forgotten long ago: newer ones decide
    assert breaker.phase is Phase.HalfOpen


def test_a_bad_probe_opens_it_for_longer_each_time_up_to_three_seconds() -> None:
    breaker = tripped()
    lengths = []
    for _ in range(10):
        now_s = breaker.open_until_s
        breaker.fail(now_s, breaker.begin(now_s), RNG(3))
        lengths.append(breaker.open_until_s - now_s)
        assert breaker.verdict(now_s) is Verdict.Reject
    assert all(0.0 < length <= 3.0 for length in lengths)
    assert lengths[0] < lengths[-1] == 3.0


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

    assert admitted(200.0, 200.99) == pytest.approx(0.10, abs=0.03)
    assert admitted(201.01, 201.99) == pytest.approx(0.25, abs=0.03)
    assert admitted(202.01, 202.99) == pytest.approx(0.50, abs=0.03)
    assert admitted(203.01, 220.0) == 1.0


def test_after_the_ramp_it_is_closed_and_has_forgotten_its_trips() -> None:
    breaker = ramping(200.0)
    assert breaker.trips == 1
    attempt(breaker, 202.9, ok=True)
    assert breaker.phase is Phase.Ramping
    attempt(breaker, 203.0, ok=True)
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


def keyed(breaker: Breaker, key: str, now_s: float, *, ok: bool) -> None:
    ticket = breaker.begin(now_s, key)
    if ok:
        breaker.succeed(now_s, ticket, key)
    else:
        breaker.fail(now_s, ticket, RNG(1), key)


def test_half_of_the_keys_failing_is_not_the_providers_fault() -> None:
    breaker = Breaker()
    for i in range(8):
        keyed(breaker, f"k{i}", 100.0, ok=True)
    for _ in range(5):
        for i in range(4):
            keyed(breaker, f"k{i}", 101.0, ok=False)
        for i in range(4, 8):
            keyed(breaker, f"k{i}", 101.0, ok=True)
    assert (breaker.phase, breaker.blame) == (Phase.Closed, Blame.Usual)
    assert breaker.verdict(101.0) is Verdict.Admit, "the throttle is for the provider's fullness"


def test_a_key_under_way_counts_as_one_that_does_not_fail() -> None:
    breaker = Breaker()
    for i in range(4, 8):
        breaker.begin(100.0, f"k{i}")  # good but slow
    for _ in range(3):
        for i in range(4):
            keyed(breaker, f"k{i}", 100.0, ok=False)
    assert breaker.phase is Phase.Closed


def test_an_outage_trips_it_once_more_than_half_of_the_keys_have_failed() -> None:
    breaker = Breaker()
    for i in range(8):
        keyed(breaker, f"k{i}", 100.0, ok=True)
    for i in range(4):
        keyed(breaker, f"k{i}", 101.0, ok=False)
    assert breaker.phase is Phase.Closed
    keyed(breaker, "k4", 101.0, ok=False)
    assert breaker.phase is Phase.Open
    while (now_s := breaker.open_until_s + 1.0) and breaker.blame is not Blame.Shared:
        key = min({f"k{i}" for i in range(8)}, key=lambda k: breaker.verdict(now_s - 1.0, k) is Verdict.Reject)
        keyed(breaker, key, now_s - 1.0, ok=False)
    assert breaker.trips == 4, "three keys had not failed yet, and were asked first"


def test_keys_that_failed_last_do_not_probe_while_others_may() -> None:
    breaker = Breaker()
    keyed(breaker, "good", 99.0, ok=True)
    for _ in range(2):
        for i in range(4):
            keyed(breaker, f"dead{i}", 100.0, ok=False)
    now_s = breaker.open_until_s
    assert breaker.verdict(now_s, "dead1") is Verdict.Reject
    assert breaker.verdict(now_s + 1.1, "dead1") is Verdict.Probe, "but not for ever: the good one may be busy"
    for _ in range(2):
        assert breaker.verdict(now_s, "good") is Verdict.Probe
        keyed(breaker, "good", now_s, ok=True)
    assert (breaker.phase, breaker.blame) == (Phase.Ramping, Blame.Own)
    for i in range(4):
        for _ in range(4):
            keyed(breaker, f"dead{i}", now_s + 1.0, ok=False)
    assert breaker.phase is Phase.Ramping, "that they still fail is no news"
    for _ in range(3):
        keyed(breaker, "good", now_s + 1.0, ok=False)
    assert breaker.phase is Phase.Open


def test_why_says_what_holds_and_when_to_look_again() -> None:
    breaker = tripped()
    words, until_s = breaker.why(100.1)
    assert "open" in words
    assert until_s == breaker.open_until_s
    assert "part of the traffic" in ramping(200.0).why(200.5)[0]
