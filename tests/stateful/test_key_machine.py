"""A key under arbitrary histories, judged by a model of a few lines.

The model knows what was promised (no request before the time that the provider named), what is open (attempts), and
what an operator said last. Everything else must follow from the laws.
"""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from apikeyrouter.domain.errors import InvalidStateTransitionError
from apikeyrouter.domain.keys import learning, operators, rotation
from apikeyrouter.domain.keys.eligibility import EJECTED, blocked
from apikeyrouter.domain.keys.record import Ticket, Transition
from apikeyrouter.domain.keys.rows import Moment, record_of, stored_key_of
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.keys.states import TRANSITIONS
from apikeyrouter.domain.models.api_key import KeyState
from apikeyrouter.domain.resilience.failures import FailureClass
from tests.support.keys import failure, record

MODELS = ["gpt-4", "gpt-3.5"]
HONEST = {FailureClass.Rate, FailureClass.Burst, FailureClass.InflightHold}
LISTENS = {KeyState.Available, KeyState.Throttled, KeyState.Recovering}
STOPPED = {KeyState.Disabled, KeyState.Retired}


class KeyMachine(RuleBasedStateMachine):
    tickets = Bundle("tickets")

    @initialize(seed=st.integers(0, 1000))
    def start(self, seed: int) -> None:
        self.now_s = 10.0
        self.rng = Random(seed)
        self.key = record(secret=Secret("s1"))
        self.open: list[Ticket] = []
        self.promised: dict[str | None, float] = {}
        self.rotations = 1

    def heard(self, moved: Transition | None, before: KeyState) -> None:
        """Every change of state is announced, and is an arrow of the table."""
        if moved is None:
            assert self.key.state is before
        else:
            assert (moved.from_state, moved.to_state) == (before, self.key.state)
            assert TRANSITIONS[before][moved.event] is self.key.state

    @rule(wait_s=st.sampled_from([0.0, 0.3, 1.0, 4.9, 5.6, 20.0, 70.0, 1000.0, 30_000.0]))
    def time_passes(self, wait_s: float) -> None:
        self.now_s += wait_s

    @rule(target=tickets, model=st.sampled_from(MODELS))
    def begin(self, model: str) -> Ticket:
        before, block = self.key.state, blocked(self.key, model, self.now_s)
        if block is not None and not (block.code == EJECTED and not self.key.probing):
            with pytest.raises(InvalidStateTransitionError):
                learning.begin(self.key, model, self.now_s)
            return Ticket(self.key, model, 0, Secret(""), 0.0, open=False)
        ticket, moved = learning.begin(self.key, model, self.now_s)
        self.heard(moved, before)
        assert before not in STOPPED
        assert ticket.secret == self.key.secret
        self.open.append(ticket)
        return ticket

    def close(self, ticket: Ticket) -> bool:
        if not ticket.open:
            return False
        self.open.remove(ticket)
        return True

    @rule(ticket=consumes(tickets))
    def succeed(self, ticket: Ticket) -> None:
        if self.close(ticket):
            before = self.key.state
            self.heard(learning.succeed(ticket, self.now_s), before)

    @rule(ticket=consumes(tickets))
    def release(self, ticket: Ticket) -> None:
        if self.close(ticket):
            before = self.key.state
            assert learning.release(ticket) == (ticket.probe or ticket.model_limit is not None)
            assert self.key.state is before

    @rule(
        ticket=consumes(tickets),
        kind=st.sampled_from(FailureClass),
        hint_s=st.sampled_from([None, 0.0, 0.5, 20.0, 3000.0]),
        whole=st.booleans(),
    )
    def fail(self, ticket: Ticket, kind: FailureClass, hint_s: float | None, whole: bool) -> None:
        if not self.close(ticket):
            return
        before, until_s, version = self.key.state, self.key.until_s, self.key.version
        limits = {model: limit.until_s for model, limit in self.key.limited_models.items()}
        moved, _ = learning.fail(ticket, failure(kind, hint_s=hint_s, whole_account=whole), self.now_s, self.rng)
        self.heard(moved, before)
        if kind in (FailureClass.Client, FailureClass.Policy, FailureClass.TooLargeForLimit):
            assert moved is None
        if kind is FailureClass.Auth and ticket.version != version:
            assert moved is None
        assert until_s <= self.now_s or self.key.until_s >= until_s, "a deadline moved earlier"
        for model, limit_s in limits.items():
            assert self.key.limited_models[model].until_s >= limit_s, "a deadline moved earlier"
        if kind in HONEST and hint_s and before in LISTENS:
            spot = None if whole else ticket.model
            self.promised[spot] = max(self.promised.get(spot, 0.0), self.now_s + hint_s)

    @precondition(lambda self: self.key.state is not KeyState.Retired)
    @rule(act=st.sampled_from([operators.disable, operators.enable]))
    def operate(self, act) -> None:  # type: ignore[no-untyped-def]
        before = self.key.state
        self.heard(act(self.key, self.now_s), before)
        self.promised.clear()

    @precondition(lambda self: self.key.state is not KeyState.Retired)
    @rule(overlap_s=st.sampled_from([0.0, 50.0]))
    def rotate(self, overlap_s: float) -> None:
        before, self.rotations = self.key.state, self.rotations + 1
        number = rotation.next_version(self.key)
        moved = rotation.replace_secret(
            self.key,
            Secret(f"s{number}"),
            sealed=f"sealed-{number}".encode(),
            fingerprint=b"",
            now_s=self.now_s,
            overlap_s=overlap_s,
        )
        self.heard(moved, before)
        assert self.key.version == self.rotations
        if before is not KeyState.Throttled:
            self.promised.clear()
        elif self.key.until_s == 0.0:
            self.promised.pop(None, None)

    @rule()
    def sweep(self) -> None:
        rotation.drop_previous(self.key, self.now_s)
        learning.forget_old_limits(self.key, self.now_s)

    @precondition(lambda self: self.key.state is not KeyState.Retired and self.now_s > 2000.0)
    @rule()
    def revoke(self) -> None:
        before = self.key.state
        self.heard(operators.revoke(self.key, self.now_s), before)

    @precondition(lambda self: not self.open)
    @rule(gap_s=st.sampled_from([0.0, 100.0]))
    def restart(self, gap_s: float) -> None:
        row = stored_key_of(self.key, Moment(self.now_s, 5_000_000.0 + self.now_s))
        self.now_s += gap_s
        again = record_of(row, self.key.secret, self.key.previous, Moment(self.now_s, 5_000_000.0 + self.now_s))
        for model in (*MODELS, None):
            before = blocked(self.key, model, self.now_s)
            after = blocked(again, model, self.now_s)
            assert (before and before.code) == (after and after.code)
        self.key = again

    @invariant()
    def promises_are_kept(self) -> None:
        for spot, until_s in self.promised.items():
            if self.now_s < until_s - 1e-6:
                for model in MODELS if spot is None else [spot]:
                    block = blocked(self.key, model, self.now_s)
                    assert block is not None
                    assert block.code != EJECTED

    @invariant()
    def attempts_are_counted_and_one_of_them_probes(self) -> None:
        assert self.key.in_flight == len(self.open)
        probes = [ticket for ticket in self.open if ticket.probe]
        assert len(probes) <= 1
        assert self.key.probing == bool(probes)
        for model in MODELS:
            limits = [t for t in self.open if t.model == model and t.model_limit is self.key.limited_models.get(model)]
            assert len([t for t in limits if t.model_limit is not None]) <= 1

    @invariant()
    def available_means_that_nothing_waits(self) -> None:
        if self.key.state is KeyState.Available:
            assert self.key.until_s == 0.0
            assert not self.key.limited_models
            assert blocked(self.key, "any", self.now_s) is None

    @invariant()
    def stopped_means_stopped(self) -> None:
        if self.key.state in STOPPED:
            block = blocked(self.key, MODELS[0], self.now_s + 1e9)
            assert block is not None
            assert block.code == self.key.state.value
            assert block.until_s is None

    @invariant()
    def asking_changes_nothing_and_tells_the_same_again(self) -> None:
        at = Moment(self.now_s, self.now_s)
        before = stored_key_of(self.key, at)
        first = [blocked(self.key, model, self.now_s) for model in (*MODELS, None)]
        assert [blocked(self.key, model, self.now_s) for model in (*MODELS, None)] == first
        assert stored_key_of(self.key, at) == before

    @invariant()
    def whoever_is_told_a_time_may_come_back_then(self) -> None:
        """No key waits without an end that somebody can know: a deadline, a probe in flight, or an operator."""
        for model in MODELS:
            block = blocked(self.key, model, self.now_s)
            if block is not None and block.until_s is not None:
                assert block.until_s > self.now_s
                later = blocked(self.key, model, block.until_s)
                assert later is None or later.code == "probing" or (later.until_s or 0.0) > block.until_s
            elif block is not None and block.code == "probing":
                assert any(t.probe or t.model_limit is not None for t in self.open)


TestKeyMachine = KeyMachine.TestCase
TestKeyMachine.settings = settings(
    max_examples=150, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
