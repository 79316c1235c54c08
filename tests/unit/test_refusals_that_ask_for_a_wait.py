"""What a provider teaches that tells no number: its refusals name a limit and ask for a wait."""

from __future__ import annotations

from apikeyrouter.domain.quota.facts import MINUTE_S, Dimension, LimitFact, Refill, Source
from apikeyrouter.domain.quota.limits import QuotaWindow
from apikeyrouter.domain.quota.pools import PoolView
from tests.unit.test_quota_bursts import a_view

RPM, TPM = (Dimension.Requests, MINUTE_S), (Dimension.Tokens, MINUTE_S)
NEEDS = (1, 1_000, 100, 1_100, 1, 0, 1_100, 100)


def used(view: PoolView, requests: int, now_s: float = 0.0) -> None:
    for spot, amount in ((RPM, requests), (TPM, 1_100 * requests)):
        view.pool.shared[spot].account.adjust_used(amount, now_s)


def refuse(view: PoolView, retry_s: float, now_s: float, named: Dimension | None = Dimension.Requests) -> None:
    facts = [] if named is None else [LimitFact(named, MINUTE_S, None, 0, retry_s, source=Source.ErrorBody)]
    view.refused(facts, [], NEEDS, sent_at_s=now_s - 0.1, now_s=now_s, retry_s=retry_s)


def searched(view: PoolView) -> dict[tuple[Dimension, float], QuotaWindow]:
    return view.learner.searched


def test_a_short_wait_after_few_requests_shows_a_bucket_that_holds_less_than_a_minute() -> None:
    view = a_view()
    used(view, 5)
    refuse(view, 1.5, 1.0)
    window = searched(view)[RPM]
    assert window.refill is Refill.Continuous
    assert window.limit == 30, "three quarters of a request each 1.5 s"
    assert window.capacity == 3, "less than the four that went before it"
    assert window.headroom(1.0) == 0, "it refused just now"
    assert window.headroom(1.0 + 2.1) == 1


def test_only_the_limit_that_it_names_is_searched() -> None:
    view = a_view()
    used(view, 5)
    refuse(view, 1.5, 1.0)
    assert set(searched(view)) == {RPM}
    other = a_view()
    used(other, 5)
    refuse(other, 1.5, 1.0, named=None)
    assert set(searched(other)) == {RPM, TPM}


def test_the_shortest_pace_is_believed_and_forgotten_slowly() -> None:
    view = a_view()
    used(view, 50)
    refuse(view, 0.1, 1.0)
    assert searched(view)[RPM].limit == 450
    refuse(view, 1.5, 10.0)
    assert searched(view)[RPM].limit == 30
    refuse(view, 0.1, 20.0)
    pace = searched(view)[RPM].limit
    assert pace == 31, "a wait that is short because much was there already does not undo it"


def test_a_wait_as_long_as_a_window_tells_no_pace() -> None:
    view = a_view()
    used(view, 5)
    refuse(view, 60.0, 1.0)
    window = searched(view)[RPM]
    assert (window.refill, window.limit, window.burst) == (Refill.Rolling, 3, None)


def test_what_a_bucket_holds_grows_while_requests_fit_and_falls_when_they_are_refused() -> None:
    view = a_view()
    used(view, 200)
    refuse(view, 0.1, 1.0)
    window = searched(view)[RPM]
    before = window.capacity or 0
    assert before == 169
    for _ in range(10):
        view.served(1.5)
    assert (window.capacity or 0) > before
    assert window.limit == 450
    refuse(view, 0.1, 3.0)
    assert (window.capacity or 0) < before
