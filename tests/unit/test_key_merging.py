"""What one process wrote, merged into another one's record: which part of it wins, and why."""

from __future__ import annotations

from typing import Any

import pytest

from apikeyrouter.domain.keys.merging import carries_secret, merge, twins
from apikeyrouter.domain.keys.record import KeyRecord, ModelLimit
from apikeyrouter.domain.keys.saving import next_revision
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.models.api_key import KeyState
from tests.support.keys import record

NOW_S = 100.0


def throttled(until_s: float, revision: int, **fields: Any) -> KeyRecord:
    return record(
        state=KeyState.Throttled, until_s=until_s, code="rate_limited", revision=revision, **{"trusted": True, **fields}
    )


def test_the_newer_state_wins_and_brings_its_deadline() -> None:
    mine = record(revision=1)
    done = merge(mine, throttled(130.0, 2), NOW_S)
    assert (mine.state, mine.until_s, mine.code, mine.revision) == (KeyState.Throttled, 130.0, "rate_limited", 2)
    assert (done.took, done.gave, done.rewrite) == (True, False, False)


def test_an_older_row_changes_nothing_and_is_not_answered() -> None:
    mine = record(revision=3)
    done = merge(mine, throttled(130.0, 2), NOW_S)
    assert mine.state is KeyState.Available
    assert (done.took, done.rewrite) == (False, False)


def test_merging_the_same_row_again_changes_nothing() -> None:
    mine = record(revision=1)
    merge(mine, throttled(130.0, 2), NOW_S)
    again = merge(mine, throttled(500.0, 2), NOW_S)
    assert (again.took, again.gave, mine.until_s) == (False, False, 130.0)


@pytest.mark.parametrize(("mine_newer", "rewrite"), [(True, True), (False, False)])
def test_of_two_waits_the_later_deadline_holds_whoever_is_newer(mine_newer: bool, rewrite: bool) -> None:
    mine = throttled(120.0, 5 if mine_newer else 2)
    done = merge(mine, throttled(180.0, 3), NOW_S)
    assert mine.until_s == 180.0
    assert done.took
    assert done.rewrite is rewrite  # only where no row holds all of it


def test_my_later_deadline_is_told_to_the_others() -> None:
    mine = throttled(180.0, 2)
    done = merge(mine, throttled(120.0, 3), NOW_S)
    assert (mine.until_s, mine.revision, done.rewrite) == (180.0, 3, True)


def test_deadlines_that_differ_by_clock_readings_alone_are_the_same() -> None:
    mine = throttled(180.02, 2)
    assert merge(mine, throttled(180.0, 3), NOW_S).rewrite is False


def test_waits_that_are_over_are_not_brought_back() -> None:
    mine = throttled(NOW_S - 1.0, 2, limited_models={"gpt-4": ModelLimit(NOW_S - 1.0, "rate_limited", "", False)})
    theirs = throttled(0.0, 3, limited_models={"gpt-5": ModelLimit(150.0, "rate_limited", "", True)})
    done = merge(mine, theirs, NOW_S)
    assert (mine.until_s, set(mine.limited_models), done.rewrite) == (0.0, {"gpt-5"}, False)


def test_limits_of_models_are_united_and_keep_their_objects() -> None:
    limit = ModelLimit(120.0, "rate_limited", "", False, probing=True)
    mine = throttled(0.0, 2, limited_models={"gpt-4": limit, "gpt-3": ModelLimit(150.0, "rate_limited", "", True)})
    theirs = throttled(0.0, 3, limited_models={"gpt-4": ModelLimit(140.0, "rate_limited", "", True)})
    done = merge(mine, theirs, NOW_S)
    assert mine.limited_models["gpt-4"] is limit  # a probe that is under way gives it back
    assert (limit.until_s, limit.probing) == (140.0, True)
    assert set(mine.limited_models) == {"gpt-4", "gpt-3"}
    assert done.rewrite


@pytest.mark.parametrize(
    ("theirs_until_s", "closed_until_s"), [(150.0, 90.0), (150.04, 90.0), (110.0, 90.0), (170.0, 170.0)]
)
@pytest.mark.parametrize("mine_newer", [True, False])
def test_what_was_left_stays_known_to_who_was_told_and_no_longer(
    theirs_until_s: float, closed_until_s: float, *, mine_newer: bool
) -> None:
    limit = ModelLimit(150.0, "rate_limited", "", True, open_from_s=90.0)
    mine = throttled(0.0, 5 if mine_newer else 2, limited_models={"gpt-4": limit})
    theirs = throttled(0.0, 3, limited_models={"gpt-4": ModelLimit(theirs_until_s, "rate_limited", "", True)})
    merge(mine, theirs, NOW_S)
    assert mine.limited_models["gpt-4"].until_s == pytest.approx(max(150.0, theirs_until_s), abs=0.05)
    assert mine.limited_models["gpt-4"].closed_until_s == closed_until_s


def test_a_limit_that_comes_back_waits_for_no_probe_of_its_former_self() -> None:
    mine = throttled(0.0, 2, limited_models={"gpt-4": ModelLimit(150.0, "rate_limited", "", False, probing=True)})
    merge(mine, throttled(120.0, 3), NOW_S)
    assert mine.limited_models["gpt-4"].probing is False


def test_retired_wins_always_and_destroys_the_secret_here() -> None:
    mine = record(revision=9, previous=Secret("older"), sealed_previous=b"sealed-0")
    done = merge(mine, record(state=KeyState.Retired, revision=2), NOW_S)
    assert (mine.state, mine.secret.reveal(), mine.sealed, mine.fingerprint) == (KeyState.Retired, "", b"", b"")
    assert mine.previous is None
    assert (done.took, done.moved_in_groups, done.rewrite) == (True, True, True)
    back = merge(mine, record(revision=10), NOW_S)
    assert (mine.state, back.rewrite) == (KeyState.Retired, True)


def test_an_operators_order_beats_what_was_learned_without_knowing_of_it() -> None:
    mine = record(state=KeyState.Disabled, revision=5, order_revision=5)
    done = merge(mine, throttled(180.0, 6, order_revision=1), NOW_S)
    assert (mine.state, done.rewrite) == (KeyState.Disabled, True)
    theirs = record(state=KeyState.Disabled, revision=5, order_revision=5)
    other = throttled(180.0, 6, order_revision=1)
    assert merge(other, theirs, NOW_S).took
    assert (other.state, other.until_s) == (KeyState.Disabled, 0.0)


def test_what_was_learned_after_an_order_counts() -> None:
    mine = record(revision=5, order_revision=5)
    merge(mine, throttled(180.0, 6, order_revision=5), NOW_S)
    assert mine.state is KeyState.Throttled


def test_terms_changed_here_survive_a_state_learned_there() -> None:
    mine = record(label="renamed", revision=5, terms_revision=5, weight=2.0)
    done = merge(mine, throttled(180.0, 6, terms_revision=1), NOW_S)
    assert (mine.label, mine.weight, mine.state, done.rewrite) == ("renamed", 2.0, KeyState.Throttled, True)
    assert not done.moved_in_groups


def test_newer_terms_are_taken_and_regroup_the_key() -> None:
    mine = throttled(180.0, 6, terms_revision=1)
    theirs = record(label="renamed", revision=5, terms_revision=5, weight=2.0, models=frozenset({"gpt-*"}))
    done = merge(mine, theirs, NOW_S)
    assert (mine.label, mine.weight, mine.models, mine.state) == (
        "renamed",
        2.0,
        frozenset({"gpt-*"}),
        KeyState.Throttled,
    )
    assert (done.moved_in_groups, done.rewrite) == (True, True)


def test_a_higher_secret_wins_whatever_else_is_newer() -> None:
    mine = record(revision=9)
    theirs = record(
        secret=Secret("new"),
        sealed=b"sealed-2",
        fingerprint=b"other",
        version=2,
        newest_version=2,
        revision=3,
        order_revision=3,
    )
    assert carries_secret(mine, theirs)
    assert merge(mine, theirs, NOW_S).took
    assert (mine.secret.reveal(), mine.version, mine.newest_version) == ("new", 2, 2)
    assert not carries_secret(theirs, record(revision=9))


def test_of_two_rotations_at_once_both_processes_choose_the_same() -> None:
    def rotated(text: str, revision: int) -> KeyRecord:
        fields: dict[str, Any] = {"version": 2, "newest_version": 2, "revision": revision, "secret_revision": revision}
        return record(secret=Secret(text), fingerprint=text.encode(), **fields)

    first, second = rotated("a", 5), rotated("b", 6)
    merge(first, rotated("b", 6), NOW_S)
    merge(second, rotated("a", 5), NOW_S)
    assert first.secret.reveal() == second.secret.reveal() == "b"


def test_the_way_back_to_the_secret_before_is_taken_when_it_is_newer() -> None:
    mine = record(secret=Secret("new"), fingerprint=b"new", version=2, newest_version=2, revision=5, order_revision=5)
    theirs = record(secret=Secret("old"), fingerprint=b"old", version=1, newest_version=2, revision=6, order_revision=5)
    assert carries_secret(mine, theirs)
    merge(mine, theirs, NOW_S)
    assert (mine.secret.reveal(), mine.version, mine.newest_version) == ("old", 1, 2)


def test_a_secret_sealed_anew_is_not_opened_again() -> None:
    assert not carries_secret(record(revision=1), record(sealed=b"anew", fingerprint=b"anew", revision=2))


def test_what_is_local_stays_local() -> None:
    mine = record(revision=1, in_flight=3, probing=True, usage_count=7)
    merge(mine, throttled(180.0, 2, usage_count=1), NOW_S)
    assert (mine.in_flight, mine.probing, mine.usage_count) == (3, True, 7)


def test_the_older_of_two_keys_with_one_secret_stays() -> None:
    older = record("key_b", created_at_utc_s=1.0)
    newer = record("key_a", created_at_utc_s=2.0)
    elsewhere = record("key_c", provider_id="azure")
    gone = record("key_d", created_at_utc_s=0.0, state=KeyState.Retired)
    assert twins([newer, elsewhere, older, gone]) == [(newer, older)]
    tied = record("key_z", created_at_utc_s=1.0)
    assert twins([tied, older]) == [(tied, older)]


def test_revisions_grow_follow_the_clock_and_differ_between_processes() -> None:
    first = next_revision(0, 1_700_000_000.0, 3)
    assert 1_700_000_000_000_000 <= first < 1_700_000_000_001_024
    assert next_revision(first, 1_600_000_000.0, 3) == first + 1024  # a clock that was set back
    behind = {next_revision(first, 0.0, place) for place in range(1024)}
    assert len(behind) == 1024
    assert min(behind) > first
