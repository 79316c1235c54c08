"""Which key is an outlier among its peers, and how many may be set aside."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from apikeyrouter.domain.resilience.ejection import (
    Outlier,
    Track,
    beta_below,
    judge,
    may_eject,
    panic,
    peers_failure_rate,
)


def tracked(good: int, bad: int, now_s: float = 10.0) -> Track:
    """Failures spread evenly among the successes."""
    track = Track()
    track.succeed(now_s)
    track.good = track.bad = 0.0
    for i in range(good + bad):
        if (i + 1) * bad // (good + bad) > i * bad // (good + bad):
            track.fail(now_s)
        else:
            track.succeed(now_s)
    return track


def attempts_until_judged(p_failure: float, seed: int, before: int = 200) -> int:
    rng, track = random.Random(seed), tracked(before, 0)
    for i in range(2_000):
        if rng.random() < p_failure:
            track.fail(10.0)
            if judge(track, 0.0, 10.0) is not None:
                return i + 1
        else:
            track.succeed(10.0)
    return 2_000


def test_one_failure_ejects_nobody() -> None:
    assert judge(tracked(0, 1), 0.0, 10.0) is None
    assert judge(tracked(10, 1), 0.0, 10.0) is None


def test_a_key_that_only_fails_is_dead_after_four() -> None:
    assert judge(tracked(0, 4), 0.0, 10.0) is Outlier.Dead


def test_a_key_that_fails_three_times_in_ten_is_gray_within_forty_attempts_whatever_its_past() -> None:
    needed = sorted(attempts_until_judged(0.3, seed) for seed in range(60))
    assert needed[30] <= 30
    assert needed[54] <= 60


def test_a_key_that_fails_once_in_fifty_is_left_alone() -> None:
    assert sum(attempts_until_judged(0.02, seed) < 2_000 for seed in range(20)) <= 2, "per 40,000 attempts"


def test_what_its_peers_do_too_ejects_nobody() -> None:
    assert judge(tracked(20, 9), 0.0, 10.0) is Outlier.Gray
    assert judge(tracked(20, 9), 0.3, 10.0) is None


def test_half_of_the_peers_being_gray_does_not_hide_a_gray_one() -> None:
    healthy, gray = [tracked(30, 0) for _ in range(4)], [tracked(20, 9) for _ in range(3)]
    assert peers_failure_rate([*healthy, *gray]) == 0.0
    assert peers_failure_rate([tracked(20, 9) for _ in range(7)]) > 0.1
    assert peers_failure_rate([]) == 0.0


def test_a_key_ejected_of_late_is_judged_sooner() -> None:
    track = tracked(25, 5)
    assert judge(track, 0.0, 10.0) is None
    track.eject(10.0, 15.0)
    assert judge(track, 0.0, 15.0) is Outlier.Gray


def test_ejections_are_forgiven_one_a_minute_in_service_and_memory_stands_still_meanwhile() -> None:
    track = tracked(20, 9)
    for until_s in (15.0, 25.0, 45.0):
        track.eject(until_s - 5.0, until_s)
    assert track.ejections_now(45.0) == pytest.approx(2.667, abs=0.001)
    assert track.ejections_now(105.0) == pytest.approx(1.667, abs=0.001)
    assert track.ejections_now(1e6) == 0.0
    resting = tracked(20, 9)
    resting.eject(10.0, 70.0)
    resting.fail(71.0)
    assert resting.bad >= 9


def test_counts_are_halved_each_minute_and_with_each_32_attempts() -> None:
    track = tracked(20, 0)
    track.succeed(75.0)
    assert track.good == pytest.approx(11.0)
    track.succeed(1e6)
    assert track.good == pytest.approx(1.0, abs=1e-3)
    assert tracked(1_000, 0).good <= 33


@pytest.mark.parametrize(
    ("outlier", "ejected", "in_service", "may"),
    [
        (Outlier.Gray, 3, 5, True),
        (Outlier.Gray, 4, 4, False),
        (Outlier.Dead, 4, 4, True),
        (Outlier.Dead, 7, 1, False),
        (Outlier.Gray, 0, 1, False),
        (Outlier.Gray, 0, 2, True),
        (Outlier.Gray, 0, 0, False),
    ],
)
def test_the_cap(outlier: Outlier, ejected: int, in_service: int, may: bool) -> None:
    assert may_eject(outlier, ejected=ejected, in_service=in_service) is may


@given(st.lists(st.sampled_from([Outlier.Dead, Outlier.Gray]), max_size=60), st.integers(1, 40))
def test_however_many_fail_somebody_stays_and_gray_keys_leave_half(who: list[Outlier], keys: int) -> None:
    ejected = 0
    for outlier in who:
        if may_eject(outlier, ejected=ejected, in_service=keys - ejected):
            ejected += 1
            assert outlier is Outlier.Dead or ejected <= keys / 2
    assert ejected < keys


def test_panic_is_when_nobody_else_is_left() -> None:
    assert panic(kept=0, ejected=3)
    assert not panic(kept=1, ejected=3)
    assert not panic(kept=0, ejected=0)


@given(st.integers(1, 30), st.integers(1, 30), st.floats(0.01, 0.99))
def test_the_incomplete_beta_function_is_the_binomial_tail(a: int, b: int, x: float) -> None:
    n = a + b - 1
    tail = sum(math.comb(n, k) * x**k * (1 - x) ** (n - k) for k in range(a, n + 1))
    assert beta_below(x, a, b) == pytest.approx(tail, abs=1e-9)


@given(st.floats(0.5, 200.0), st.floats(0.5, 200.0), st.lists(st.floats(0.0, 1.0), min_size=2, max_size=8))
def test_it_grows_from_0_to_1(a: float, b: float, xs: list[float]) -> None:
    assume(len(set(xs)) > 1)
    values = [beta_below(x, a, b) for x in sorted(xs)]
    assert all(0.0 <= low <= high + 1e-9 <= 1.0 + 2e-9 for low, high in pairwise(values))
    assert beta_below(0.0, a, b) == 0.0
    assert beta_below(1.0, a, b) == 1.0
