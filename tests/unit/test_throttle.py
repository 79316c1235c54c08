"""Adaptive throttling: how much stays at home when a provider takes only a part."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apikeyrouter.domain.resilience.throttle import FLOOR_S, SAMPLES_MIN, WINDOW_S, K, Throttle


def sent(throttle: Throttle, now_s: float, *, good: int, bad: int) -> None:
    for _ in range(good + bad):
        throttle.start(now_s)
    for _ in range(bad):
        throttle.refuse(now_s)


def test_without_refusals_everything_goes() -> None:
    throttle = Throttle()
    sent(throttle, 100.0, good=10_000, bad=0)
    assert throttle.share == 0.0
    assert not throttle.rejects(100.0)
    assert repr(throttle) == "<Throttle 0% stay at home>"


@pytest.mark.parametrize(("good", "bad", "share"), [(100, 50, 0.0), (100, 100, 0.25), (0, 200, 0.995)])
def test_the_share_is_that_of_the_formula(good: int, bad: int, share: float) -> None:
    throttle = Throttle()
    sent(throttle, 100.0, good=good, bad=bad)
    assert throttle.share == pytest.approx(share, abs=0.01)
    rejected = [throttle.rejects(100.0 + i / 997) for i in range(2_000)]
    assert sum(rejected) / len(rejected) == pytest.approx(share, abs=0.03)


def test_a_few_refusals_are_chance() -> None:
    throttle = Throttle()
    sent(throttle, 100.0, good=0, bad=SAMPLES_MIN - 1)
    assert throttle.share == 0.0


def test_slow_replies_are_no_refusals() -> None:
    throttle = Throttle()
    for i in range(1_000):
        throttle.start(100.0 + i / 100)  # none has come back yet
    throttle.refuse(110.0)
    assert throttle.share == 0.0


def test_one_send_in_five_seconds_passes_however_bad_it_is() -> None:
    throttle = Throttle()
    sent(throttle, 100.0, good=0, bad=10_000)
    assert all(throttle.rejects(100.0 + i / 10) for i in range(1, 40))
    assert not throttle.rejects(100.0 + FLOOR_S)


def test_what_left_the_window_is_forgotten_and_so_is_all_on_reset() -> None:
    throttle = Throttle()
    sent(throttle, 100.0, good=0, bad=100)
    throttle.start(100.0 + WINDOW_S + 3.1)
    assert throttle.share == 0.0
    sent(throttle, 200.0, good=0, bad=100)
    throttle.reset()
    assert not throttle.rejects(200.1)
    throttle.refuse(200.2)  # of a send from before: nothing to count it against
    assert throttle.share == 0.0


@given(st.lists(st.tuples(st.booleans(), st.floats(0.0, 8.0)), max_size=200))
def test_the_share_is_a_share_and_never_rejects_where_little_was_refused(history: list[tuple[bool, float]]) -> None:
    throttle, now_s, refusals = Throttle(), 1_000.0, 0
    for i, (refused, pause_s) in enumerate(history):
        now_s += pause_s
        throttle.start(now_s)
        if refused:
            throttle.refuse(now_s)
            refusals += 1
        assert 0.0 <= throttle.share < 1.0
        assert throttle.rejects(now_s) is throttle.rejects(now_s)
        if refusals == 0 or i < SAMPLES_MIN - 1:
            assert throttle.share == 0.0


def test_a_provider_that_takes_half_is_sent_little_more_than_k_times_what_it_takes() -> None:
    throttle, rng = Throttle(), random.Random(5)
    taken = sends = 0
    room = 0.0
    for i in range(60_000):
        now_s = 10.0 + i / 100
        room = min(30.0, room + 0.3)  # 30 a second, where 100 come
        if throttle.rejects(now_s + rng.random() * 1e-3):
            continue
        throttle.start(now_s)
        sends += 1
        if room >= 1.0:
            room -= 1.0
            taken += 1
        else:
            throttle.refuse(now_s)
    assert taken / (600 * 30) > 0.98
    assert sends / taken < K + 0.15
