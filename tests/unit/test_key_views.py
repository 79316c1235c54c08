"""The state of a key as whoever looks is told it: what a request would find now."""

from __future__ import annotations

from typing import Any

import pytest

from apikeyrouter.domain.keys.rows import view_of_stored
from apikeyrouter.domain.models.api_key import KeyState
from apikeyrouter.testing.store_rows import key_row

_END_S = 1_000.0


def limits(*trusted: bool) -> dict[str, Any]:
    return {
        f"model-{number}": {"until_s": _END_S - number, "code": "rate_limited", "reason": "429", "trusted": one}
        for number, one in enumerate(trusted)
    }


@pytest.mark.parametrize(
    ("state", "document", "shown"),
    [
        ("throttled", {"until_s": _END_S, "trusted": True}, "available"),
        ("throttled", {"until_s": _END_S, "trusted": False}, "recovering"),
        ("throttled", {"limited_models": limits(True, True)}, "available"),
        ("throttled", {"limited_models": limits(True, False)}, "recovering"),
        ("throttled", {"until_s": _END_S, "trusted": False, "limited_models": limits(True)}, "recovering"),
        ("exhausted", {"until_s": _END_S, "trusted": True}, "recovering"),
        ("invalid", {"until_s": _END_S}, "invalid"),
        ("disabled", {"until_s": _END_S}, "disabled"),
        ("throttled", {}, "throttled"),
        ("recovering", {}, "recovering"),
    ],
)
def test_a_rest_that_is_over_is_no_state_any_more(state: str, document: dict[str, Any], shown: str) -> None:
    row = key_row("k", state=state, document={"reason": "429", **document})
    before = view_of_stored(row, utc_s=_END_S - 1.5)
    assert (before.state, before.state_reason) == (state, "429")
    assert view_of_stored(row).state == state
    after = view_of_stored(row, utc_s=_END_S)
    assert after.state == shown
    assert after.cooldown_until is None
    if after.state is KeyState.Available:
        assert after.state_reason == ""
    if shown != state:
        assert after.state_updated_at.timestamp() == _END_S
