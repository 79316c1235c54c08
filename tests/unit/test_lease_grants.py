"""The rules of the shared ledger by example: one ask, one answer, to the nano-dollar."""

from __future__ import annotations

from typing import Any

import pytest

from apikeyrouter.domain.interfaces.shared_ledger import LeaseAsk, LeaseGrant, LeaseRow, WindowTotals
from apikeyrouter.domain.ledger.lease_rules import grant

WINDOW = 7200


class Books:
    """One window of one budget, and its rows."""

    def __init__(self, limit: int = 100, *, hard: bool = True, counted: tuple[int, int] = (0, 0)) -> None:
        self.limit = limit
        self.hard = hard
        self.counted = counted
        self.totals = WindowTotals("b", WINDOW)
        self.rows: dict[str, LeaseRow] = {}

    def ask(self, granted: int, worker_id: str = "w", *, oldest: int = WINDOW, **fields: Any) -> LeaseGrant:
        row = self.rows.get(worker_id)
        ask = LeaseAsk("b", WINDOW, oldest, row.seq + 1 if row else 1, granted=granted, **fields)
        self.rows[worker_id], self.totals, answer = grant(
            ask, row, self.totals, worker_id=worker_id, limit=self.limit, hard=self.hard, counted=self.counted
        )
        return answer


def test_a_soft_budget_grants_what_is_wanted_and_names_no_limit() -> None:
    answer = Books(hard=False).ask(700, spent=300)
    assert (answer.granted, answer.limit) == (700, None)


def test_other_windows_that_count_leave_less() -> None:
    assert Books(counted=(10, 30)).ask(100).granted == 70


@pytest.mark.parametrize(
    ("spent", "crossed"),
    [
        (499, ()),
        (500, (50,)),
        (799, (50,)),
        (800, (50, 80)),
        (949, (50, 80)),
        (950, (50, 80, 95)),
        (999, (50, 80, 95)),
        (1000, (50, 80, 95, 100)),
    ],
)
def test_percentages_are_reached_exactly(spent: int, crossed: tuple[int, ...]) -> None:
    assert Books(1000).ask(1000, spent=spent).crossed == crossed


def test_alerts_speak_of_spend_and_not_of_grants() -> None:
    books = Books(1000, counted=(400, 800))
    assert books.ask(0, oldest=WINDOW - 100).crossed == ()
    assert books.ask(100, oldest=WINDOW - 100, spent=100).crossed == (50,)
    books = Books(1000, counted=(500, 800))
    assert books.ask(0, oldest=WINDOW - 100).crossed == (), "told in the window that reached it"


def test_overruns_add_up_over_time_and_workers() -> None:
    books = Books()
    books.ask(20, spent=15, overrun=5)
    books.ask(20, spent=18, overrun=8)
    books.ask(20, "o", spent=3, overrun=1)
    assert books.totals.overrun == 9
    assert books.totals.spent == 21


def test_an_overrun_is_granted_because_it_happened() -> None:
    books = Books()
    books.ask(100)
    answer = books.ask(150, spent=150, overrun=50, have=100, least=150)
    assert (answer.granted, books.totals.granted) == (150, 150)


def test_a_slice_that_is_too_small_for_its_request_goes_back() -> None:
    books = Books()
    books.ask(50)
    books.ask(40, "o")
    answer = books.ask(90, spent=12, held=8, have=50, least=70)
    assert answer.granted == 20
    assert books.ask(60, spent=12, held=8, have=20, least=60).granted == 60, "and comes when there is enough"


def test_a_call_is_made_for_the_last_nano_dollar_that_idles_elsewhere() -> None:
    books = Books()
    books.ask(50, spent=20, held=10)  # 20 idle, its own
    books.ask(30, "o", spent=20, held=10)  # none idle
    assert books.ask(100, spent=20, held=10, have=50).totals.calls == 0
    books.ask(30, "o", spent=20, held=9)
    assert books.ask(100, spent=20, held=10, have=70).totals.calls == 1
    books = Books()
    books.ask(20, spent=10, held=10)
    books.ask(80, "o", spent=70, held=9)
    assert books.ask(21, spent=10, held=10, have=20).totals.calls == 1


def test_no_call_is_made_by_who_gets_what_it_wants() -> None:
    books = Books()
    books.ask(50, "o")
    assert books.ask(50).totals.calls == 0
