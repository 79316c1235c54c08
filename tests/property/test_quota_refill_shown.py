"""How capacity comes back is read off the resets, even where a provider's headers have OpenAI's names."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apikeyrouter.domain.quota.facts import Dimension, LimitFact, Refill, Source
from apikeyrouter.domain.quota.limits import QuotaWindow
from apikeyrouter.simulation import limits as provider

LIMIT = 60
PERIOD_S = 60.0
LATENCY_S = 0.02


def meter_of(refill: provider.Refill, epoch_s: float = 0.0) -> provider.Meter:
    return provider.meter_of(LIMIT, PERIOD_S, refill, None, now_s=0.0, epoch_s=epoch_s)


def told_by(meter: provider.Meter) -> LimitFact:
    """As OpenAI's dialect reads it: it knows OpenAI's buckets."""
    reset_s = int(meter.reset_s * 1000) / 1000
    return LimitFact(Dimension.Requests, PERIOD_S, LIMIT, meter.remaining, reset_s, refill=Refill.Continuous)


def play(meter: provider.Meter, gaps_s: list[float]) -> tuple[QuotaWindow, int]:
    """Requests that the window lets through reach the provider; (window, how many the provider refused)."""
    window = QuotaWindow(
        "w", Dimension.Requests, PERIOD_S, limit=LIMIT, source=Source.Configured, corrected=False, now_s=0.0
    )
    now_s, refused = 0.0, 0
    for gap_s in gaps_s:
        now_s += gap_s
        if (window.headroom(now_s) or 0) < 1:
            continue
        window.account.adjust_used(1, now_s)
        window.account.taken += 1
        mark = window.account.taken
        meter.refill(now_s + LATENCY_S / 2)
        refused += meter.lacks(1)
        meter.take(1)
        window.observe(told_by(meter), mark=mark, sent_at_s=now_s, now_s=now_s + LATENCY_S)
        now_s += LATENCY_S
    return window, refused


@pytest.mark.parametrize("gap_s", [0.1, 0.7])
def test_a_rolling_window_under_openais_names_is_found_out_and_never_overrun(gap_s: float) -> None:
    window, refused = play(meter_of(provider.Refill.Rolling), [gap_s] * 400)
    assert window.refill is Refill.Rolling
    assert refused == 0


def test_a_clock_minute_under_openais_names_is_found_out() -> None:
    window, refused = play(meter_of(provider.Refill.Fixed, epoch_s=-10.0), [0.3] * 600)
    assert window.refill is Refill.Fixed
    assert refused <= 1


def test_openais_own_buckets_are_taken_for_what_they_are() -> None:
    window, refused = play(meter_of(provider.Refill.Continuous), [0.3] * 600)
    assert window.refill is Refill.Continuous
    assert refused == 0


@given(st.sampled_from(list(provider.Refill)), st.lists(st.floats(0.01, 20.0), min_size=30, max_size=200))
@settings(max_examples=150, deadline=None)
def test_a_bucket_is_never_taken_for_a_window_nor_a_rolling_window_for_a_bucket(
    refill: provider.Refill, gaps_s: list[float]
) -> None:
    window, _ = play(meter_of(refill), gaps_s)
    if refill is provider.Refill.Continuous:
        assert window.refill is Refill.Continuous
    elif refill is provider.Refill.Rolling:
        assert window.refill is Refill.Rolling
