"""Rotation with overlap: the new secret at once, the old one as a way back."""

from __future__ import annotations

from random import Random

import pytest

from apikeyrouter.domain.errors import InvalidStateTransitionError
from apikeyrouter.domain.keys import learning, operators, rotation
from apikeyrouter.domain.keys.eligibility import blocked
from apikeyrouter.domain.keys.record import KeyRecord, Ticket, Transition
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.keys.states import KeyEvent
from apikeyrouter.domain.models.api_key import KeyState
from apikeyrouter.domain.resilience.failures import FailureClass
from tests.support.keys import failure, record

AUTH = failure(FailureClass.Auth)


def rotate(key: KeyRecord, material: str = "new", now_s: float = 100.0, overlap_s: float = 60.0) -> Transition:
    return rotation.replace_secret(
        key, Secret(material), sealed=b"sealed-2", fingerprint=b"two", now_s=now_s, overlap_s=overlap_s
    )


def begin(key: KeyRecord, now_s: float) -> Ticket:
    return learning.begin(key, "gpt-4", now_s)[0]


def refuse(ticket: Ticket, now_s: float) -> Transition | None:
    return learning.fail(ticket, AUTH, now_s, Random(1))[0]


def test_new_attempts_use_the_new_secret_and_running_ones_keep_theirs() -> None:
    key = record(secret=Secret("old"))
    running = begin(key, 99.0)
    moved = rotate(key)
    assert running.secret.reveal() == "old"
    assert begin(key, 100.0).secret.reveal() == "new"
    assert (key.version, key.previous_version) == (2, 1)
    assert moved.event is KeyEvent.SecretReplaced
    assert moved.evidence == {"version": 2, "draining_version": 1, "overlap_s": 60.0}


def test_a_late_refusal_of_the_old_secret_does_not_condemn_the_new_one() -> None:
    key = record(secret=Secret("old"))
    running = begin(key, 99.0)
    rotate(key)
    assert refuse(running, 120.0) is None
    assert key.state is KeyState.Available
    assert key.secret.reveal() == "new"
    assert key.suspected_s == 0.0


def test_a_refused_new_secret_makes_room_for_the_old_one() -> None:
    key = record(secret=Secret("old"))
    rotate(key)
    moved = refuse(begin(key, 101.0), 102.0)
    assert moved is not None
    assert moved.event is KeyEvent.RotationUndone
    assert moved.evidence["refused_version"] == 2
    assert moved.evidence["status"] == AUTH.status
    assert key.state is KeyState.Available
    assert blocked(key, "gpt-4", 102.0) is None
    assert (begin(key, 102.0).secret.reveal(), key.version, key.sealed) == ("old", 1, b"sealed-1")


def test_when_the_old_secret_is_revoked_after_all_the_new_one_gets_its_second_chance() -> None:
    key = record(secret=Secret("old"))
    rotate(key)
    refuse(begin(key, 101.0), 102.0)
    moved = refuse(begin(key, 110.0), 111.0)
    assert moved is not None
    assert moved.event is KeyEvent.RotationUndone
    assert key.secret.reveal() == "new"


def test_two_dead_secrets_end_as_an_invalid_key() -> None:
    key = record(secret=Secret("old"))
    rotate(key, overlap_s=3600.0)
    for now_s in (101.0, 110.0, 120.0, 130.0):
        refuse(begin(key, now_s), now_s)
    assert key.state is KeyState.Invalid


def test_simultaneous_refusals_of_the_new_secret_swap_once() -> None:
    key = record(secret=Secret("old"))
    rotate(key)
    tickets = [begin(key, 101.0) for _ in range(5)]
    moves = [refuse(ticket, 102.0) for ticket in tickets]
    assert [move is not None for move in moves] == [True, False, False, False, False]
    assert key.secret.reveal() == "old"


def test_after_the_overlap_the_old_secret_is_gone() -> None:
    key = record(secret=Secret("old"))
    rotate(key, overlap_s=60.0)
    assert not rotation.drop_previous(key, 159.0)
    refused = refuse(begin(key, 159.0), 160.0)
    assert refused is not None
    assert refused.event is KeyEvent.AuthSuspected
    assert rotation.drop_previous(key, 160.0)
    assert (key.previous, key.sealed_previous, key.draining_until_s) == (None, None, 0.0)


def test_without_overlap_nothing_of_the_old_secret_is_kept() -> None:
    key = record(secret=Secret("old"))
    rotate(key, overlap_s=0.0)
    assert key.previous is None
    assert key.sealed_previous is None


def test_a_version_number_is_never_used_twice() -> None:
    key = record(secret=Secret("old"))
    rotate(key)
    refuse(begin(key, 101.0), 102.0)
    assert (key.version, rotation.next_version(key)) == (1, 3)


def test_a_new_secret_revives_an_invalid_key_and_the_dead_one_is_not_kept() -> None:
    key = record(secret=Secret("old"), state=KeyState.Invalid, until_s=5000.0, suspected_s=1.0)
    rotate(key)
    assert key.state is KeyState.Available
    assert blocked(key, "gpt-4", 100.0) is None
    assert key.previous is None


def test_a_new_secret_lifts_suspicion_and_keeps_limits() -> None:
    suspect = record()
    refuse(begin(suspect, 100.0), 100.0)
    rotate(suspect, now_s=101.0)
    assert blocked(suspect, "gpt-4", 101.0) is None

    limited = record()
    learning.fail(begin(limited, 100.0), failure(FailureClass.Rate, hint_s=50.0, whole_account=True), 100.0, Random(1))
    rotate(limited, now_s=101.0)
    assert (blocked(limited, "gpt-4", 140.0) or pytest.fail("not blocked")).code == "rate_limited"


def test_a_new_secret_of_an_exhausted_key_is_tried_at_once_by_one_request() -> None:
    key = record()
    learning.fail(begin(key, 100.0), failure(FailureClass.Balance), 100.0, Random(1))
    rotate(key, now_s=101.0)
    assert begin(key, 101.0).probe
    assert (blocked(key, "gpt-4", 101.0) or pytest.fail("not blocked")).code == "probing"


def test_a_disabled_key_can_be_rotated_and_stays_disabled() -> None:
    key = record(secret=Secret("old"))
    running = begin(key, 99.0)
    operators.disable(key, 99.0)
    rotate(key)
    assert key.state is KeyState.Disabled
    running.version = key.version
    assert refuse(running, 101.0) is None
    assert key.secret.reveal() == "new"


def test_a_retired_key_cannot_be_rotated_and_has_no_secret() -> None:
    key = record(secret=Secret("old"))
    rotate(key)
    operators.revoke(key, 101.0)
    assert (key.secret.reveal(), key.previous, key.sealed, key.sealed_previous) == ("", None, b"", None)
    with pytest.raises(InvalidStateTransitionError):
        rotate(key)
    assert key.version == 2
