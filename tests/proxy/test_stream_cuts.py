"""Streams that break off at any byte, by their client or their provider: nothing is left open, replayed or unpaid.

The small size of `python -m bench cuts`, whose module says what is judged and how.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import cuts
from bench.cut_upstream import DIALECTS


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> cuts.Figures:
    folder: Path = tmp_path_factory.mktemp("cuts")
    return cuts.run(200, seed=20, folder=folder)


def test_every_dialect_took_part(figures: cuts.Figures) -> None:
    assert figures.cut == 200
    assert set(figures.spend) == set(DIALECTS)
    assert figures.answers["hung up"] > 80
    assert figures.answers["in-band error"] > 80
    assert figures.answers["complete"] >= figures.whole


def test_clients_see_whole_events_and_an_end_or_an_error_and_never_other_text(figures: cuts.Figures) -> None:
    assert figures.faults == {}


def test_everything_is_settled_within_two_seconds(figures: cuts.Figures) -> None:
    assert figures.unsettled == 0
    assert max(figures.settle_s) <= cuts.SETTLED_WITHIN_S


def test_no_task_and_no_socket_is_left(figures: cuts.Figures) -> None:
    assert all(grown <= 0 for grown in figures.left.values()), figures.left


def test_nothing_is_replayed_after_the_first_event(figures: cuts.Figures) -> None:
    assert figures.replayed == 0


def test_a_client_that_hangs_up_stops_its_provider(figures: cuts.Figures) -> None:
    assert figures.unstopped == 0
    assert len(figures.stop_s) > 50
    assert max(figures.stop_s) <= cuts.SETTLED_WITHIN_S


def test_what_interrupted_streams_are_charged_is_near_to_what_was_generated(figures: cuts.Figures) -> None:
    assert sum(spend.interrupted for spend in figures.spend.values()) > 150
    assert abs(figures.off) <= cuts.SPEND_WITHIN
