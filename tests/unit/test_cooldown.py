"""How long a scope rests."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from apikeyrouter.domain.resilience.cooldown import (
    AUTH_SUSPECT_S,
    EJECT_AFTER,
    cooldown_s,
    hinted_s,
    later,
    rest_s,
)
from apikeyrouter.domain.resilience.failures import Billing, Failure, FailureClass, Scope

F = FailureClass


def failure(kind: FailureClass, hint_s: float | None = None) -> Failure:
    plain = Failure(kind, Scope.Key, Billing.No, True, None, None, "", None, None, False)
    return replace(plain, retry_after_s=hint_s)


def rests(kind: FailureClass, strikes: int, hint_s: float | None = None) -> tuple[float, float]:
    """The least and the greatest rest of many draws."""
    rng = random.Random(7)
    drawn = [rest_s(failure(kind, hint_s), strikes, rng) for _ in range(400)]
    return min(drawn), max(drawn)


HOUR = 3_600.0


@pytest.mark.parametrize(
    ("kind", "strikes", "hint_s", "least_s", "most_s"),
    [
        # no hint: 1 s doubling to a minute, +-50 %
        (F.Rate, 1, None, 0.5, 1.5),
        (F.Rate, 4, None, 4.0, 12.0),
        (F.Rate, 50, None, 60.0, 60.0),
        (F.Burst, 1, None, 0.5, 1.5),
        (F.InflightHold, 2, None, 1.0, 3.0),
        # a hint is obeyed, never undercut, and distrusted once it proved too short
        (F.Rate, 1, 20.0, 20.0, 22.0),
        (F.Rate, 1, 0.0, 0.5, 1.5),
        (F.Rate, 2, 20.0, 20.0, 22.0),
        (F.Rate, 7, 0.1, 32.0, 60.0),
        (F.Rate, 1, 1e9, 86_400.0, 95_040.0),
        # faults: the third in a row ejects
        (F.Server, 1, None, 0.0, 0.0),
        (F.Server, 2, None, 0.0, 0.0),
        (F.Server, EJECT_AFTER, None, 0.5, 1.5),
        (F.Server, EJECT_AFTER + 2, None, 2.0, 6.0),
        (F.Server, 1, 10.0, 10.0, 11.0),
        (F.NotSent, 3, None, 0.5, 1.5),
        (F.Timeout, 3, None, 0.5, 1.5),
        # the breaker's own; a hint counts
        (F.Capacity, 1, None, 0.0, 0.0),
        (F.Capacity, 1, 5.0, 5.0, 5.5),
        # a suspect first, quarantined when confirmed
        (F.Auth, 1, None, AUTH_SUSPECT_S, 5.5),
        (F.Auth, 2, None, 900.0, 990.0),
        (F.Auth, 3, None, 1_800.0, 1_980.0),
        (F.Auth, 60, None, 6 * HOUR, 6.6 * HOUR),
        (F.Balance, 1, None, 900.0, 990.0),
        (F.Balance, 1, 10.0, 900.0, 990.0),
        (F.Balance, 2, 10.0, 1_800.0, 1_980.0),
        (F.SpendCap, 1, 7_200.0, 7_200.0, 7_920.0),
        (F.SpendCap, 9, None, 6 * HOUR, 6.6 * HOUR),
        (F.Permission, 1, None, 900.0, 990.0),
        # a short hint with a day's quota buys one probe
        (F.DayQuota, 1, 36.0, 36.0, 39.6),
        (F.DayQuota, 1, None, HOUR, 1.1 * HOUR),
        (F.DayQuota, 2, 36.0, HOUR, 1.1 * HOUR),
        (F.DayQuota, 3, 36.0, 2 * HOUR, 2.2 * HOUR),
        (F.DayQuota, 2, 8 * HOUR, 8 * HOUR, 8.8 * HOUR),
        (F.DayQuota, 99, None, 6 * HOUR, 6.6 * HOUR),
        # what is the caller's own rests nobody
        (F.Client, 99, 60.0, 0.0, 0.0),
        (F.Policy, 99, 60.0, 0.0, 0.0),
        (F.TooLargeForLimit, 99, 60.0, 0.0, 0.0),
    ],
)
def test_each_class_rests_as_long_as_its_cause_lasts(
    kind: FailureClass, strikes: int, hint_s: float | None, least_s: float, most_s: float
) -> None:
    least, most = rests(kind, strikes, hint_s)
    slack_s = 0.05 * (most_s - least_s)
    assert least_s <= least <= least_s + slack_s
    assert most_s - slack_s <= most <= most_s


def test_every_class_has_a_rest() -> None:
    for kind in FailureClass:
        assert rest_s(failure(kind), 1, random.Random(1)) >= 0.0


def test_a_rest_can_be_replayed_from_its_seed() -> None:
    assert cooldown_s(3, random.Random(5)) == cooldown_s(3, random.Random(5))
    assert hinted_s(3.0, random.Random(5)) == hinted_s(3.0, random.Random(5))


def test_the_later_deadline_holds() -> None:
    assert later(10.0, 5.0) == 10.0
    assert later(5.0, 10.0) == 10.0
