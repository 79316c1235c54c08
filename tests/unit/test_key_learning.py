"""What outcomes do to a key, and when it may serve again."""

from __future__ import annotations

from random import Random

import pytest

from apikeyrouter.domain.errors import InvalidStateTransitionError
from apikeyrouter.domain.keys import learning, operators
from apikeyrouter.domain.keys.effects import LIMITED_MODELS_MAX
from apikeyrouter.domain.keys.eligibility import EJECTED, Block, blocked
from apikeyrouter.domain.keys.record import KeyRecord, Ticket, Transition
from apikeyrouter.domain.keys.states import KeyEvent
from apikeyrouter.domain.models.api_key import KeyState
from apikeyrouter.domain.resilience.cooldown import PROBE_BASE_S
from apikeyrouter.domain.resilience.failures import Failure, FailureClass, Scope
from tests.support.keys import failure, record

RATE = FailureClass.Rate


class Key:
    """A record with a clock: `key.at(t)` moves it, and returns the key."""

    def __init__(self, **fields: object) -> None:
        self.record: KeyRecord = record(**fields)
        self.now_s = 100.0
        self.rng = Random(3)

    def at(self, now_s: float) -> Key:
        self.now_s = now_s
        return self

    def block(self, model: str | None = "gpt-4") -> Block | None:
        return blocked(self.record, model, self.now_s)

    def code(self, model: str | None = "gpt-4") -> str | None:
        block = self.block(model)
        return block and block.code

    def begin(self, model: str | None = "gpt-4", *, ahead: bool = False) -> Ticket:
        return learning.begin(self.record, model, self.now_s, ahead=ahead)[0]

    def lose(self, ticket: Ticket, why: Failure, *, by_size: bool = False) -> Transition | None:
        return learning.fail(ticket, why, self.now_s, self.rng, by_size=by_size)[0]

    def win(self, ticket: Ticket) -> Transition | None:
        return learning.succeed(ticket, self.now_s)

    def fail(self, why: Failure, model: str | None = "gpt-4") -> Transition | None:
        return self.lose(self.begin(model), why)

    def succeed(self, model: str | None = "gpt-4") -> Transition | None:
        return self.win(self.begin(model))

    @property
    def state(self) -> KeyState:
        return self.record.state


def test_a_limit_of_one_model_leaves_the_other_models_in_service() -> None:
    key = Key()
    moved = key.fail(failure(RATE, hint_s=20.0))
    assert moved is not None
    assert (moved.from_state, moved.to_state, moved.event) == (
        KeyState.Available, KeyState.Throttled, KeyEvent.RateLimited,
    )  # fmt: skip
    assert moved.cause == "rate"
    assert moved.evidence["status"] == 429
    assert moved.evidence["provider_request_id"] == "req-77"
    assert key.code("gpt-4") == "rate_limited"
    assert key.code("gpt-3.5") is None
    assert key.code(None) is None


def test_a_limit_of_the_account_stops_every_model() -> None:
    key = Key()
    key.fail(failure(RATE, hint_s=20.0, whole_account=True))
    assert key.code("gpt-4") == key.code("gpt-3.5") == key.code(None) == "rate_limited"


def test_a_refusal_for_size_is_shown_and_closes_nothing() -> None:
    key = Key()
    moved = key.lose(key.begin(), failure(RATE, hint_s=20.0), by_size=True)
    assert moved is not None
    assert (moved.to_state, moved.until_s) == (KeyState.Throttled, key.record.limited_models["gpt-4"].until_s)
    assert "smaller ones are served" in key.record.state_reason
    assert key.code() is None
    smaller = [key.at(101.0).begin() for _ in range(3)]
    assert not any(ticket.probe or ticket.model_limit for ticket in smaller)
    assert key.win(smaller[0]) is None
    assert key.state is KeyState.Throttled, "until the wait is over"
    assert key.win(key.at(122.0).begin()) is not None
    assert key.state is KeyState.Available


def test_refusals_for_size_are_no_strikes() -> None:
    key = Key()
    for _ in range(5):
        key.lose(key.begin(), failure(RATE, hint_s=1.0), by_size=True)
        key.succeed()
    assert not key.record.strikes
    key.fail(failure(RATE, hint_s=3.0))
    limit = key.record.limited_models["gpt-4"]
    assert limit.trusted
    assert 103.0 <= limit.until_s <= 103.3, "its hint, and not a backoff after six"


def test_refusals_for_size_are_believed_only_while_something_is_served() -> None:
    key = Key()
    for _ in range(3):
        assert key.code() is None
        key.lose(key.begin(), failure(RATE, hint_s=5.0), by_size=True)
    late = key.begin()
    key.lose(key.begin(), failure(RATE, hint_s=5.0), by_size=True)
    assert key.code() == "rate_limited"
    assert key.record.strikes
    key.win(late)
    assert key.code() == "rate_limited", "what was sent before is no news"
    key.at(key.record.limited_models["gpt-4"].until_s).succeed()
    key.lose(key.begin(), failure(RATE, hint_s=5.0), by_size=True)
    assert key.code() is None


@pytest.mark.parametrize("size_first", [True, False])
def test_another_refusal_closes_what_one_for_size_had_left_open(*, size_first: bool) -> None:
    key = Key()
    tickets = [key.begin(), key.begin()]
    for ticket, by_size in zip(tickets, (size_first, not size_first), strict=True):
        key.lose(ticket, failure(RATE, hint_s=30.0 if by_size else 10.0), by_size=by_size)
    assert key.code() == "rate_limited"
    assert 110.0 <= ((key.block() or Block("", "", 0.0)).until_s or 0.0) <= 111.0
    assert key.at(112.0).code() is None
    assert key.record.limited_models["gpt-4"].until_s >= 130.0


def test_a_guessed_wait_that_is_over_is_known_by_a_refusal_for_size() -> None:
    key = Key()
    key.fail(failure(RATE))
    key.at(key.record.limited_models["gpt-4"].until_s)
    probe = key.begin()
    assert key.code() == "probing"
    key.lose(probe, failure(RATE, hint_s=5.0), by_size=True)
    assert key.code() is None
    assert key.begin().model_limit is None


def test_of_a_whole_account_a_refusal_for_size_is_kept_to() -> None:
    key = Key()
    key.lose(key.begin(), failure(RATE, hint_s=20.0, whole_account=True), by_size=True)
    assert key.code() == "rate_limited"


def test_a_hint_is_kept_to_the_second_and_then_full_traffic_returns() -> None:
    key = Key()
    key.fail(failure(RATE, hint_s=20.0, whole_account=True))
    assert key.at(119.99).code() == "rate_limited"
    assert key.block() is not None
    assert 120.0 <= (key.block() or Block("", "", 0.0)).until_s <= 122.0  # type: ignore[operator]
    key.at(122.0)
    tickets = [key.begin(), key.begin(), key.begin()]
    assert not any(ticket.probe for ticket in tickets)
    assert key.state is KeyState.Throttled
    moved = key.win(tickets[0])
    assert moved is not None
    assert moved.to_state is KeyState.Available


def test_after_a_backoff_of_our_own_one_probe_goes_first() -> None:
    key = Key()
    key.fail(failure(RATE, whole_account=True))
    key.at(key.record.until_s)
    probe = key.begin()
    assert probe.probe
    assert key.state is KeyState.Recovering
    assert key.code() == "probing"
    with pytest.raises(InvalidStateTransitionError, match="finding out"):
        key.begin()
    assert key.win(probe) is not None
    assert key.state is KeyState.Available
    assert key.code() is None
    assert key.record.strikes == {}


def test_after_a_models_backoff_one_probe_goes_first() -> None:
    key = Key()
    key.fail(failure(RATE))
    key.at(110.0)
    probe = key.begin()
    assert probe.model_limit is not None
    assert key.code("gpt-4") == "probing"
    assert key.code("gpt-3.5") is None
    key.win(probe)
    assert key.state is KeyState.Available


def test_a_hint_that_proved_false_earns_a_backoff_and_a_probe() -> None:
    key = Key()
    key.fail(failure(RATE, hint_s=1.0, whole_account=True))
    key.at(102.0).fail(failure(RATE, hint_s=1.0, whole_account=True))
    key.at(key.record.until_s)
    assert key.begin().probe


def test_a_probe_that_told_nothing_lets_the_next_one_try() -> None:
    key = Key()
    key.fail(failure(RATE, whole_account=True))
    key.at(110.0)
    assert learning.release(key.begin())
    assert key.state is KeyState.Recovering
    assert key.begin().probe


def test_requests_refused_together_count_as_one_refusal() -> None:
    key = Key()
    tickets = [key.begin() for _ in range(10)]
    for ticket in tickets:
        key.lose(ticket, failure(RATE, whole_account=True))
    (strike,) = key.record.strikes.values()
    assert strike.count == 1
    assert key.record.until_s <= 101.5


def test_repeated_refusals_wait_longer_and_longer() -> None:
    key, waits = Key(), []
    for _ in range(6):
        key.fail(failure(RATE, whole_account=True))
        waits.append(key.record.until_s - key.now_s)
        key.at(key.record.until_s)
    assert waits[5] > 8 * waits[0]


def test_a_late_hint_moves_the_deadline_later_and_never_earlier() -> None:
    key = Key()
    first, second, third = key.begin(), key.begin(), key.begin()
    key.lose(first, failure(RATE, hint_s=30.0, whole_account=True))
    until_s = key.record.until_s
    assert key.lose(second, failure(RATE, hint_s=5.0, whole_account=True)) is None
    assert key.record.until_s == until_s
    key.lose(third, failure(RATE, hint_s=90.0, whole_account=True))
    assert key.record.until_s >= 190.0


def test_a_success_sent_before_the_limit_does_not_end_it() -> None:
    key = Key()
    early = key.begin()
    key.fail(failure(RATE, hint_s=20.0))
    assert key.at(105.0).win(early) is None
    assert key.code() == "rate_limited"


def test_success_on_another_model_does_not_end_a_models_limit() -> None:
    key = Key()
    key.fail(failure(RATE, hint_s=20.0), model="gpt-4")
    assert key.at(110.0).succeed("gpt-3.5") is None
    assert key.state is KeyState.Throttled
    assert key.code("gpt-4") == "rate_limited"


def test_a_recovered_key_still_waits_for_its_limited_model() -> None:
    key = Key()
    key.fail(failure(RATE, hint_s=600.0), model="gpt-4")
    key.fail(failure(RATE, whole_account=True), model="other")
    moved = key.at(110.0).succeed("other")
    assert moved is not None
    assert (moved.from_state, moved.to_state) == (KeyState.Recovering, KeyState.Throttled)
    assert moved.evidence["limited_model"] == "gpt-4"
    assert key.code("other") is None
    assert key.code("gpt-4") == "rate_limited"
    assert (key.at(800.0).succeed("gpt-4") or pytest.fail("nothing happened")).to_state is KeyState.Available


@pytest.mark.parametrize("kind", [FailureClass.Balance, FailureClass.SpendCap])
def test_an_account_without_money_is_exhausted_and_probed_slowly(kind: FailureClass) -> None:
    key = Key()
    key.fail(failure(kind))
    assert key.state is KeyState.Exhausted
    assert key.at(100.0 + PROBE_BASE_S - 1).code() == "exhausted"
    key.at(key.record.until_s)
    assert key.begin().probe
    assert key.code() == "probing"


def test_a_late_rate_limit_does_not_end_exhaustion() -> None:
    key = Key()
    late = key.begin()
    key.fail(failure(FailureClass.Balance))
    until_s = key.record.until_s
    assert key.lose(late, failure(RATE, hint_s=1.0)) is None
    assert key.state is KeyState.Exhausted
    assert key.record.until_s == until_s


def test_one_refusal_of_the_secret_is_a_suspicion_and_a_second_makes_it_invalid() -> None:
    key = Key()
    assert (key.fail(failure(FailureClass.Auth)) or pytest.fail("nothing happened")).event is KeyEvent.AuthSuspected
    assert key.code() == key.code("any other") == "suspect"
    key.at(106.0)
    assert (key.fail(failure(FailureClass.Auth)) or pytest.fail("nothing happened")).event is KeyEvent.AuthRejected
    assert key.state is KeyState.Invalid
    assert key.code() == "invalid"
    assert key.record.until_s >= 106.0 + PROBE_BASE_S


def test_refusals_within_five_seconds_are_one_suspicion() -> None:
    key = Key()
    first, second = key.begin(), key.begin()
    key.lose(first, failure(FailureClass.Auth))
    key.at(104.0).lose(second, failure(FailureClass.Auth))
    assert key.state is KeyState.Throttled


def test_a_success_clears_the_suspicion() -> None:
    key = Key()
    key.fail(failure(FailureClass.Auth))
    key.at(106.0).succeed()
    assert key.state is KeyState.Available
    key.at(200.0).fail(failure(FailureClass.Auth))
    assert key.code() == "suspect"
    assert key.record.until_s <= 206.0


def test_an_invalid_key_is_probed_and_each_refusal_doubles_the_wait() -> None:
    key = Key()
    key.fail(failure(FailureClass.Auth))
    key.at(106.0).fail(failure(FailureClass.Auth))
    first_s = key.record.until_s - key.now_s
    key.at(key.record.until_s).fail(failure(FailureClass.Auth))
    assert key.state is KeyState.Invalid
    assert key.record.until_s - key.now_s > 1.7 * first_s
    key.at(key.record.until_s).succeed()
    assert key.state is KeyState.Available


def test_a_key_is_ejected_for_the_third_server_fault_in_a_row_only() -> None:
    key = Key()
    key.fail(failure(FailureClass.Server))
    key.fail(failure(FailureClass.Server))
    assert key.code() is None
    key.succeed()
    key.fail(failure(FailureClass.Server))
    key.fail(failure(FailureClass.Server))
    assert key.code() is None
    key.fail(failure(FailureClass.Server))
    assert key.code() == EJECTED


def test_an_ejected_key_may_be_taken_early_by_one_request() -> None:
    key = Key()
    for _ in range(3):
        key.fail(failure(FailureClass.Server))
    assert key.begin().probe
    with pytest.raises(InvalidStateTransitionError):
        key.begin()


def test_an_ejection_does_not_hide_a_longer_rate_limit() -> None:
    key = Key()
    tickets = [key.begin() for _ in range(4)]
    key.lose(tickets[0], failure(RATE, hint_s=300.0, whole_account=True))
    for ticket in tickets[1:]:
        key.lose(ticket, failure(FailureClass.Server))
    assert key.code() == "rate_limited"


def test_an_ejection_does_not_hide_the_limit_of_a_model() -> None:
    key = Key()
    tickets = [key.begin() for _ in range(4)]
    key.lose(tickets[0], failure(RATE, hint_s=300.0))
    for ticket in tickets[1:]:
        key.lose(ticket, failure(FailureClass.Server))
    assert key.code("gpt-4") == "rate_limited"
    assert key.code("gpt-3.5") == EJECTED
    with pytest.raises(InvalidStateTransitionError):
        key.begin("gpt-4")


@pytest.mark.parametrize("kind", [FailureClass.Client, FailureClass.Policy, FailureClass.TooLargeForLimit])
def test_the_callers_own_faults_teach_nothing(kind: FailureClass) -> None:
    key = Key()
    for _ in range(5):
        assert key.fail(failure(kind)) is None
    assert key.state is KeyState.Available
    assert key.record.failure_count == 0
    assert key.record.strikes == {}


@pytest.mark.parametrize("kind", [FailureClass.NotSent, FailureClass.Timeout, FailureClass.Capacity])
def test_faults_of_host_or_model_set_a_key_aside_only_when_they_repeat(kind: FailureClass) -> None:
    key = Key()
    for _ in range(5):
        assert key.fail(failure(kind)) is None
        assert key.fail(failure(kind)) is None
        key.succeed()
    for _ in range(3):
        key.fail(failure(kind))
    assert key.code() == EJECTED


def test_a_missing_permission_rests_one_model() -> None:
    key = Key()
    key.fail(failure(FailureClass.Permission, scope=Scope.Key, whole_account=False))
    assert key.code("gpt-4") == "permission"
    assert key.code("gpt-3.5") is None


@pytest.mark.parametrize("act", [operators.disable, operators.revoke])
def test_late_outcomes_do_not_move_a_key_that_an_operator_stopped(act: object) -> None:
    key = Key()
    tickets = [key.begin(), key.begin(), key.begin()]
    act(key.record, key.now_s)  # type: ignore[operator]
    stopped = key.state
    assert key.win(tickets[0]) is None
    assert key.lose(tickets[1], failure(RATE, hint_s=5.0)) is None
    assert key.lose(tickets[2], failure(FailureClass.Auth)) is None
    assert key.state is stopped
    assert key.record.in_flight == 0
    with pytest.raises(InvalidStateTransitionError):
        key.begin()


def test_enabling_clears_every_wait() -> None:
    key = Key()
    key.fail(failure(FailureClass.Balance))
    operators.enable(key.record, key.now_s)
    assert key.state is KeyState.Available
    assert key.code() is None
    assert key.record.strikes == {}


def test_an_attempt_ends_once() -> None:
    key = Key()
    ticket = key.begin()
    key.win(ticket)
    with pytest.raises(InvalidStateTransitionError, match="closed before"):
        learning.release(ticket)
    assert key.record.in_flight == 0


def test_models_are_matched_by_name_and_wildcard() -> None:
    key = Key(models=frozenset({"gpt-4", "claude-*"}))
    assert key.code("gpt-4") is None
    assert key.code("claude-haiku") is None
    assert key.code("gpt-4o") == "model_not_served"
    assert key.code(None) is None


def test_a_check_may_go_ahead_and_a_working_secret_ends_invalid() -> None:
    key = Key()
    key.fail(failure(FailureClass.Auth))
    key.at(106.0).fail(failure(FailureClass.Auth))
    key.win(key.begin(None, ahead=True))
    assert key.state is KeyState.Available


def test_listing_models_proves_nothing_about_limits() -> None:
    key = Key()
    key.fail(failure(FailureClass.Balance))
    assert key.win(key.begin(None, ahead=True)) is None
    assert key.state is KeyState.Exhausted
    key.at(key.record.until_s)
    assert key.win(key.begin(None)) is None
    assert key.state is KeyState.Exhausted


def test_a_check_of_a_disabled_key_leaves_it_disabled() -> None:
    key = Key()
    operators.disable(key.record, key.now_s)
    key.win(key.begin(None, ahead=True))
    key.lose(key.begin("gpt-4", ahead=True), failure(RATE, hint_s=9.0))
    assert key.state is KeyState.Disabled
    operators.revoke(key.record, key.now_s)
    with pytest.raises(InvalidStateTransitionError):
        key.begin(None, ahead=True)


def test_limits_of_ever_new_models_are_bounded() -> None:
    key = Key()
    for n in range(LIMITED_MODELS_MAX + 20):
        key.fail(failure(RATE, hint_s=60.0 + n), model=f"model-{n}")
    assert len(key.record.limited_models) == LIMITED_MODELS_MAX
    assert len(key.record.strikes) == LIMITED_MODELS_MAX
    assert key.code("model-0") is None
    assert key.code(f"model-{LIMITED_MODELS_MAX + 19}") == "rate_limited"


def test_old_limits_are_forgotten() -> None:
    key = Key()
    key.fail(failure(RATE, hint_s=20.0))
    assert not learning.forget_old_limits(key.record, 400.0)
    assert learning.forget_old_limits(key.record, 100.0 + 22.0 + learning.LIMIT_FORGOTTEN_AFTER_S + 1)
    assert key.record.limited_models == {}
    assert key.record.strikes == {}
    key.at(1000.0).succeed()
    assert key.state is KeyState.Available
