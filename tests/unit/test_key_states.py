"""The table of key states."""

from __future__ import annotations

import pytest

from apikeyrouter.domain.errors import InvalidStateTransitionError
from apikeyrouter.domain.keys.states import TRANSITIONS, KeyEvent, advance, diagram, legal
from apikeyrouter.domain.models.api_key import KeyState

ALL = [(state, event) for state in KeyState for event in KeyEvent]


@pytest.mark.parametrize(("state", "event"), ALL)
def test_an_event_leads_where_the_table_says_or_is_refused(state: KeyState, event: KeyEvent) -> None:
    if legal(state, event):
        assert advance(state, event) is TRANSITIONS[state][event]
    else:
        with pytest.raises(InvalidStateTransitionError, match=f"{state} knows no event {event}"):
            advance(state, event)


def test_every_state_has_a_row_and_can_be_reached() -> None:
    assert set(TRANSITIONS) == set(KeyState)
    reached = {KeyState.Available}
    for _ in KeyState:
        reached |= {target for state in reached for target in TRANSITIONS[state].values()}
    assert reached == set(KeyState)


def test_retired_is_final() -> None:
    assert TRANSITIONS[KeyState.Retired] == {}


def test_only_an_operator_and_success_lead_back_to_available() -> None:
    back = {
        event
        for state, row in TRANSITIONS.items()
        for event, target in row.items()
        if target is KeyState.Available and state is not KeyState.Available
    }
    assert back == {KeyEvent.Succeeded, KeyEvent.OperatorEnabled, KeyEvent.SecretReplaced}


def test_only_an_operator_ends_disabled() -> None:
    outcomes = set(KeyEvent) - {
        KeyEvent.OperatorDisabled, KeyEvent.OperatorEnabled, KeyEvent.Revoked, KeyEvent.SecretReplaced,
    }  # fmt: skip
    assert not [event for event in outcomes if legal(KeyState.Disabled, event)]


def test_the_diagram_shows_every_arrow_of_the_table() -> None:
    text = diagram()
    assert text.startswith("stateDiagram-v2\n")
    for state, row in TRANSITIONS.items():
        for event, target in row.items():
            if target is not state:
                arrow = next(
                    line for line in text.splitlines() if line.strip().startswith(f"{state.name} --> {target.name}:")
                )
                assert event.name in arrow
    assert "Retired --> [*]" in text
