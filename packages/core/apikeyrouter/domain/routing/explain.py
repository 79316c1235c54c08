"""A decision while it is made, and its reasons when somebody reads it.

The hot path fills a `DecisionRecord`: plain numbers copied at the moment of choice, nothing rendered. `render` turns it
into a `RoutingDecision` with a true sentence; `encode` and `decode` move it to and from the decision log. Terms are
shown as decimals of 1e-12 dollars, so that they add up to the score to the last digit.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from apikeyrouter.domain.models.routing_decision import (
    AlternativeRoute,
    AttemptRecord,
    OutputLimit,
    RejectedRoute,
    RoutingDecision,
)
from apikeyrouter.domain.routing.objectives import RELIABILITY_THRESHOLD, Objective

__all__ = ["TERM_NAMES", "AttemptFact", "DecisionRecord", "Rejection", "Scored", "decode", "encode", "render"]

TERM_NAMES = ("cost", "failure", "latency", "load", "turn", "floor")
_PICO = Decimal("1e-12")
_FLIP_TERMS = {"cost": "its expected cost", "failure": "its failure rate", "latency": "its time to first token"}


class Scored:
    """A kept candidate with its numbers at the time: `terms` in US dollars (order of TERM_NAMES), `turn` served."""

    __slots__ = ("expected_usd", "key_id", "label", "p_failure", "provider_id", "score", "terms", "turn")

    def __init__(
        self, key_id: str, label: str, provider_id: str, *, turn: float, expected_usd: float, p_failure: float
    ) -> None:
        self.key_id = key_id
        self.label = label
        self.provider_id = provider_id
        self.turn = turn
        self.expected_usd = expected_usd
        self.p_failure = p_failure
        self.terms: tuple[float, ...] = ()
        self.score = 0.0


class Rejection:
    """A candidate that a filter refused: a stable code, a reason for people, and until when (monotonic), if known."""

    __slots__ = ("code", "key_id", "label", "provider_id", "reason", "until_s")

    def __init__(
        self, key_id: str, label: str, provider_id: str, code: str, reason: str, until_s: float | None = None
    ) -> None:
        self.key_id = key_id
        self.label = label
        self.provider_id = provider_id
        self.code = code
        self.reason = reason
        self.until_s = until_s


class AttemptFact:
    """One send of this decision. Times in seconds."""

    __slots__ = ("detail", "duration_s", "key_id", "label", "outcome", "provider_id", "status", "ttft_s")

    def __init__(self, key_id: str, label: str, provider_id: str) -> None:
        self.key_id = key_id
        self.label = label
        self.provider_id = provider_id
        self.outcome = "pending"
        self.status: int | None = None
        self.duration_s = 0.0
        self.ttft_s: float | None = None
        self.detail = ""


class DecisionRecord:
    """Everything about one decision, as it grows. `kept` is in order of preference, the chosen one first."""

    __slots__ = (
        "at_utc_s", "attempts", "candidates", "chosen", "clamp", "considered", "cost_nano_usd", "decision_id",
        "duration_s", "input_tokens", "kept", "model", "objective", "outcome", "output_tokens", "presumed_nano_usd",
        "price_source", "priced", "rejections", "request_id", "stream", "waited_s",
    )  # fmt: skip

    def __init__(
        self, decision_id: str, request_id: str, model: str, objective: Objective, *, at_utc_s: float, stream: bool
    ) -> None:
        self.decision_id = decision_id
        self.request_id = request_id
        self.at_utc_s = at_utc_s
        self.model = model
        self.objective = objective
        self.stream = stream
        self.chosen: Scored | None = None
        self.kept: Sequence[Scored] = ()
        self.rejections: list[Rejection] = []
        self.attempts: list[AttemptFact] = []
        self.candidates = 0
        self.considered = 0
        self.outcome = "pending"
        self.priced = True
        self.cost_nano_usd: int | None = None
        self.input_tokens: int | None = None
        self.output_tokens: int | None = None
        self.duration_s = 0.0
        self.waited_s = 0.0
        self.presumed_nano_usd = 0
        self.price_source = ""
        self.clamp: tuple[int | None, int, str] | None = None


def encode(record: DecisionRecord) -> dict[str, Any]:
    """A JSON-able copy with short names: what the decision log stores."""
    return {
        "id": record.decision_id,
        "rid": record.request_id,
        "at": record.at_utc_s,
        "model": record.model,
        "obj": record.objective.name,
        "w": dict(record.objective.weights),
        "turns": record.objective.turns_only,
        "minrel": record.objective.min_reliability,
        "stream": record.stream,
        "chosen": record.chosen.key_id if record.chosen else None,
        "kept": [(s.key_id, s.label, s.provider_id, s.turn, s.expected_usd, s.p_failure, s.terms) for s in record.kept],
        "rej": [(r.key_id, r.label, r.provider_id, r.code, r.reason) for r in record.rejections],
        "att": [
            (a.key_id, a.label, a.provider_id, a.outcome, a.status, a.duration_s, a.ttft_s, a.detail)
            for a in record.attempts
        ],
        "n": record.candidates,
        "seen": record.considered,
        "out": record.outcome,
        "priced": record.priced,
        "cost": record.cost_nano_usd,
        "in": record.input_tokens,
        "outtok": record.output_tokens,
        "dur": record.duration_s,
        "waited": record.waited_s,
        "clamp": record.clamp,
        "presumed": record.presumed_nano_usd,
        "psrc": record.price_source,
    }


def render(record: DecisionRecord, to_datetime: Any) -> RoutingDecision:
    """The decision as users read it. `to_datetime`: Unix seconds -> aware datetime."""
    return decode(encode(record), to_datetime)


def decode(stored: dict[str, Any], to_datetime: Any) -> RoutingDecision:
    """The inverse of `encode`, rendered."""
    kept = [_Kept(*row) for row in stored["kept"]]
    chosen = next((k for k in kept if k.key_id == stored["chosen"]), None)
    at: datetime = to_datetime(stored["at"])
    clamp = stored.get("clamp")
    return RoutingDecision(
        id=stored["id"],
        request_id=stored["rid"],
        decision_timestamp=at,
        model=stored["model"],
        objective=stored["obj"],
        weights=stored["w"],
        selected_key_id=chosen.key_id if chosen else None,
        selected_provider_id=chosen.provider_id if chosen else None,
        score_usd=chosen.score if chosen else None,
        terms_usd=chosen.named_terms if chosen else {},
        candidates=stored["n"],
        considered=stored["seen"],
        alternatives_considered=[_alternative(k, chosen, stored) for k in kept if k is not chosen],
        rejections=[
            RejectedRoute(key_id=k, provider_id=p, code=c, reason=f"{label}: {why}")
            for k, label, p, c, why in stored["rej"]
        ],
        attempts=[
            AttemptRecord(
                key_id=k,
                provider_id=p,
                outcome=outcome,
                status=status,
                duration_ms=round(duration * 1000, 3),
                ttft_ms=None if ttft is None else round(ttft * 1000, 3),
                detail=detail,
            )
            for k, _, p, outcome, status, duration, ttft, detail in stored["att"]
        ],
        flip=_flip(chosen, kept, turns=stored["turns"]),
        outcome=stored["out"],
        cost_usd=None if stored["cost"] is None else Decimal(stored["cost"]).scaleb(-9),
        price_source=stored.get("psrc", ""),
        presumed_usd=Decimal(stored.get("presumed", 0)).scaleb(-9),
        input_tokens=stored["in"],
        output_tokens=stored["outtok"],
        waited_ms=round(stored.get("waited", 0.0) * 1000, 3),
        output_limit=None if clamp is None else OutputLimit(asked=clamp[0], given=clamp[1], budget_id=clamp[2]),
        explanation=_sentence(stored, chosen, kept),
    )


class _Kept:
    """One stored candidate with exact decimals."""

    def __init__(
        self,
        key_id: str,
        label: str,
        provider_id: str,
        turn: float,
        expected_usd: float,
        p_failure: float,
        terms: Sequence[float],
    ) -> None:
        self.key_id, self.label, self.provider_id, self.turn = key_id, label, provider_id, turn
        self.expected_usd, self.p_failure = expected_usd, p_failure
        self.named_terms = {
            name: Decimal(term).quantize(_PICO) for name, term in zip(TERM_NAMES, terms, strict=False) if term
        }
        self.score = sum(self.named_terms.values(), Decimal(0))


def _alternative(kept: _Kept, chosen: _Kept | None, stored: dict[str, Any]) -> AlternativeRoute:
    if chosen is None:
        why = "not chosen: nothing could be reserved for it"
    elif stored["turns"]:
        why = f"its turn comes later: {kept.turn:g} served against {chosen.turn:g}"
    else:
        better = "its turn comes later" if kept.score == chosen.score else "lower is better"
        why = f"scores ${kept.score:.9f} against ${chosen.score:.9f}; {better}"
    return AlternativeRoute(
        key_id=kept.key_id,
        provider_id=kept.provider_id,
        score_usd=kept.score,
        terms_usd=kept.named_terms,
        reason_not_selected=f"{kept.label}: {why}",
    )


def _flip(chosen: _Kept | None, kept: Sequence[_Kept], *, turns: bool) -> str | None:
    """The smallest change that would have chosen the runner-up, in words."""
    others = [k for k in kept if k is not chosen]
    if chosen is None or not others:
        return None
    if turns:
        runner = min(others, key=lambda k: k.turn)
        return (
            f"{runner.label} would be next after {max(0.0, runner.turn - chosen.turn):g} more turns of {chosen.label}"
        )
    runner = min(others, key=lambda k: k.score)
    gap = runner.score - chosen.score
    if gap <= 0:
        return f"{runner.label} scores the same; turn and registration order decided"
    shrinkable = [(t, n) for n, t in runner.named_terms.items() if n in _FLIP_TERMS and t > gap]
    if not shrinkable:
        return f"{runner.label} would need ${gap:.9f} less in score"
    term, name = max(shrinkable)
    return f"{runner.label} would be chosen if {_FLIP_TERMS[name]} fell by more than {gap / term:.0%} (${gap:.9f})"


def _sentence(stored: dict[str, Any], chosen: _Kept | None, kept: Sequence[_Kept]) -> str:
    """One true sentence with its numbers."""
    if chosen is None:
        return f"No key could serve {stored['model']}: {_refusals(stored)}."
    reason = _turn_reason(chosen, kept) if stored["turns"] else _score_reason(stored, chosen, kept)
    tail = f"; {_considered(stored, kept)}" if stored["n"] > 1 else ""
    failed = [f"{a[1]} ({a[3]})" for a in stored["att"] if a[3] not in ("ok", "pending")]
    if failed:
        tail += f"; tried before and failed: {', '.join(failed)}"
    tail += _about_money(stored)
    return f"Selected {chosen.label} because {reason}, {_reliability(stored, chosen)}{tail}."


def _about_money(stored: dict[str, Any]) -> str:
    """What budgets did to the request: a shorter reply, a wait."""
    said = ""
    if stored.get("clamp"):
        asked, given, budget_id = stored["clamp"]
        was = "no limit" if asked is None else str(asked)
        said += f"; the output limit was lowered from {was} to {given} tokens to fit budget {budget_id}"
    if stored.get("waited", 0.0) >= 0.001:
        said += f"; it waited {stored['waited']:.3f} s for budget that running requests held"
    return said


def _money(usd: float, *, priced: bool) -> str:
    return f"${usd:.6f}" if priced else "price unknown"


def _turn_reason(chosen: _Kept, kept: Sequence[_Kept]) -> str:
    cost = f"expected cost ${chosen.expected_usd:.6f}"
    if len(kept) == 1:
        return f"it is the only key that can serve ({cost})"
    return f"its turn comes first (fairness: {chosen.turn:g} served; {cost})"


def _score_reason(stored: dict[str, Any], chosen: _Kept, kept: Sequence[_Kept]) -> str:
    money = _money(chosen.expected_usd, priced=stored["priced"])
    if len(kept) == 1:
        return f"it is the only key that can serve ({money})"
    weights = stored["w"]
    others = [k for k in kept if k is not chosen]
    if set(weights) == {"cost"}:
        cheapest = min(k.expected_usd for k in others)
        if chosen.expected_usd < cheapest:
            return f"lowest cost ({money}, next ${cheapest:.6f})"
        if chosen.expected_usd == cheapest:
            ties = sum(k.expected_usd == cheapest for k in others)
            others_named = "1 other" if ties == 1 else f"{ties} others"
            return f"lowest cost ({money}, the same as {others_named}; among equals its turn comes first)"
        return f"lowest cost ({money}) among keys above the reliability threshold"
    if set(weights) <= {"reliability", "quality"}:
        return f"most reliable and least loaded ({1 - chosen.p_failure:.1%} expected success; expected cost {money})"
    runner = min(k.score for k in others)
    return f"best score for {stored['obj']} (${chosen.score:.9f}, next ${runner:.9f}; expected cost {money})"


def _reliability(stored: dict[str, Any], chosen: _Kept) -> str:
    threshold = stored["minrel"] if stored["minrel"] is not None else RELIABILITY_THRESHOLD
    success = 1 - chosen.p_failure
    if success > threshold:
        return f"while maintaining reliability threshold ({success:.3f} > {threshold:g})"
    return f"although its reliability is below the threshold ({success:.3f} <= {threshold:g})"


def _considered(stored: dict[str, Any], kept: Sequence[_Kept]) -> str:
    seen = f"{len(kept)} of {stored['n']} keys could serve"
    if stored["seen"] < stored["n"]:
        seen = f"{len(kept)} keys could serve of {stored['seen']} looked at, out of {stored['n']}"
    return f"{seen}; {_refusals(stored)}" if stored["rej"] else seen


def _refusals(stored: dict[str, Any]) -> str:
    shown = [f"{label}: {why}" for _, label, _, _, why in stored["rej"][:5]]
    more = len(stored["rej"]) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more > 0 else "") if shown else "no key is registered for it"
