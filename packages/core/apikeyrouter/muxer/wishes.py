"""What a request for `auto` wishes, and what its decision keeps of the choice.

Main entries: `wish_of` (header and body), `note_of`, and the errors `refused` and `no_lesson`. Law: a wish that cannot
be read is refused; nothing of it travels upstream.
"""

from __future__ import annotations

from typing import Any

import msgspec

from apikeyrouter.domain.errors import ErrorCategory, SystemError
from apikeyrouter.domain.models.call import Call
from apikeyrouter.domain.models.model_choice import ModelWish
from apikeyrouter.muxer.groups import ModelGroup, Strategy
from apikeyrouter.muxer.options import Able, Seen
from apikeyrouter.muxer.strategies import Pick, Signals

__all__ = ["MEMBER", "no_lesson", "note_of", "refused", "wish_of"]

MEMBER = "routing"
"""A member of the body that is ours: `{"strategy": "cost", "max_cost": 0.01}`. It never travels upstream."""

_NO_WISH = ModelWish()


def note_of(
    call: Call,
    group: ModelGroup,
    strategy: Strategy,
    pick: Pick,
    ordered: tuple[Able, ...],
    seen: Seen,
    signals: Signals,
    raw: float | None,
    tolerance: float,
) -> dict[str, Any]:
    """See `ModelChoice`: what the decision keeps."""
    first = ordered[0].option
    reference = seen.reference
    expected = None
    if reference is not None:
        expected = next((one.option.expected_usd for one in ordered if one.option.name == reference[0]), None)
        if expected is None:
            expected = ordered[0].demand.expected_nano_usd(reference[1]) / 1e9
    return {
        "asked": call.model,
        "mode": "auto",
        "group": group.name,
        "strategy": strategy.value,
        "model": first.name,
        "why": pick.why if first is pick.option else "it is the next best of those that fit",
        "task": signals.task.value,
        "gain": round(signals.gain, 4),
        "raw_gain": raw,
        "complexity": round(signals.complexity, 4),
        "tolerance": round(tolerance, 4),
        "expected_usd": first.expected_usd,
        "quality": first.quality,
        "reference": None if reference is None else reference[0],
        "reference_expected_usd": expected,
        "rates": None if reference is None else (reference[1].input, reference[1].output),
        "options": [
            {
                "model": one.option.name,
                "expected_usd": one.option.expected_usd,
                "quality": round(one.option.quality, 4),
                "loss": round(one.option.loss(signals.gain), 4),
            }
            for one in ordered
        ],
        "rejected": dict(seen.reasons),
        "order": [one.option.name for one in ordered],
    }


def wish_of(call: Call) -> ModelWish:
    """Headers (already in `call.wish`) go before the body's member."""
    given = call.wish or _NO_WISH
    if b'"routing"' not in call.body:
        return given
    try:
        members = msgspec.json.decode(call.body, type=dict[str, msgspec.Raw])
        written = msgspec.json.decode(members[MEMBER], type=_Routing) if MEMBER in members else _Routing()
    except msgspec.MsgspecError as fault:
        raise refused(
            f'The member \'routing\' is not usable ({fault}); write {{"strategy": "cost", "max_cost": 0.01}}.', MEMBER
        ) from None
    most = given.max_cost_usd if given.max_cost_usd is not None else written.max_cost
    if most is not None and not 0.0 <= most < float("inf"):
        raise refused("max_cost must be a number of US dollars from 0 on.", MEMBER)
    return ModelWish(given.strategy or written.strategy, most, given.models)


class _Routing(msgspec.Struct, forbid_unknown_fields=True):
    strategy: str | None = None
    max_cost: float | None = None


def refused(message: str, param: str) -> SystemError:
    """The caller's fault, with the member or header that it is about."""
    return SystemError(
        ErrorCategory.ValidationError,
        message,
        status=400,
        provider_code="invalid_model_routing",
        details={"param": param},
    )


def no_lesson(request_id: str, *, known: bool) -> SystemError:
    """Feedback that nothing can be learned from."""
    why = "named its model, so it teaches nothing about choosing one" if known else "is unknown or forgotten"
    return SystemError(
        ErrorCategory.ValidationError,
        f"No feedback can be taken for {request_id!r}: the request {why}.",
        status=409 if known else 404,
        provider_code="not_routed" if known else "not_found",
        details={"param": "request_id"},
    )
