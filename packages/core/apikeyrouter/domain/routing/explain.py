"""A decision while it is made, and its reasons when somebody reads it.

The hot path fills a `DecisionRecord`: plain numbers copied at the moment of choice, nothing rendered. `render` turns it
into a `RoutingDecision` with a true sentence; `encode` and `decode` move it to and from the decision log. Terms are
shown as decimals of 1e-12 dollars, so that they add up to the score to the last digit.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from apikeyrouter.domain.cost.billing import CostSource
from apikeyrouter.domain.models.model_choice import ModelChoice
from apikeyrouter.domain.models.routing_decision import (
    AlternativeRoute,
    AttemptRecord,
    OutputLimit,
    PoolForecast,
    RejectedRoute,
    RoutingDecision,
    ScoredRoute,
    ShadowChoice,
)
from apikeyrouter.domain.quota.pools import PoolView
from apikeyrouter.domain.routing.objectives import Objective
from apikeyrouter.domain.routing.sentences import TERM_NAMES, Kept, flip_words, margins, sentence, why_not

if TYPE_CHECKING:
    from apikeyrouter.domain.routing.candidates import Candidate

__all__ = ["TERM_NAMES", "AttemptFact", "DecisionRecord", "Rejection", "Row", "Scored", "decode", "encode", "render"]

Row = tuple[int, int, float, int, "Candidate", float, float, tuple[float, ...]]
"""A ranked candidate as the hot path keeps it: (late, score in 1e-12 dollars, turn, registration order, candidate,
expected dollars, P(failure), terms in dollars in the order of TERM_NAMES). Rows sort best first."""


class Scored:
    """The candidate that was taken, with its numbers at the time."""

    __slots__ = ("expected_usd", "key_id", "label", "p_failure", "provider_id", "score", "terms", "turn")

    def __init__(self, row: Row) -> None:
        _, pico, self.turn, _, candidate, self.expected_usd, self.p_failure, self.terms = row
        record = candidate.record
        self.key_id = record.key_id
        self.label = record.label
        self.provider_id = record.provider_id
        self.score = pico / 1e12


class Rejection(Struct, eq=False, gc=False):
    """A candidate that a filter refused: a stable code, a reason for people, and until when (monotonic), if known.
    `model`: for which, "" where it does not matter."""

    key_id: str
    label: str
    provider_id: str
    code: str
    reason: str
    until_s: float | None = None
    model: str = ""

    @property
    def who(self) -> tuple[str, str]:
        """As `Candidate.who`."""
        return self.key_id, self.model


class AttemptFact(Struct, eq=False, gc=False):
    """One send of this decision. Times in seconds; `started_s`: of the router's clock."""

    key_id: str
    label: str
    provider_id: str
    started_s: float = 0.0
    outcome: str = "pending"
    status: int | None = None
    duration_s: float = 0.0
    ttft_s: float | None = None
    detail: str = ""


class DecisionRecord(Struct, eq=False):
    """Everything about one decision, as it grows. `kept` is in order of preference, the chosen one first.

    `cost_nano_usd`: what was settled. `billed_nano_usd`: the provider's own bill, None without one; then
    `listed_nano_usd` is what prices say.

    `policies`: names of those that applied. `fallbacks`: models that were given up before, in order. `hedges`: labels
    of keys that were asked beside the first one. `caller`: a virtual key, empty when nobody says.
    `pool`: what the chosen pool was like; `shadow`: what another objective would have chosen. `choice`: how the model
    was chosen (`model_choice.Chosen.note`), None for requests that name one.
    """

    decision_id: str
    request_id: str
    model: str
    objective: Objective
    at_utc_s: float
    stream: bool
    caller: str = ""
    chosen: Scored | None = None
    kept: Sequence[Row] = ()
    rejections: list[Rejection] = []
    attempts: list[AttemptFact] = []
    candidates: int = 0
    considered: int = 0
    outcome: str = "pending"
    priced: bool = True
    cost_nano_usd: int | None = None
    cost_source: str = CostSource.Prices
    billed_nano_usd: int | None = None
    listed_nano_usd: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    duration_s: float = 0.0
    waited_s: float = 0.0
    presumed_nano_usd: int = 0
    price_source: str = ""
    clamp: tuple[int | None, int, str] | None = None
    policies: Sequence[str] = ()
    fallbacks: Sequence[str] = ()
    hedges: Sequence[str] = ()
    pool: tuple[Any, ...] | None = None
    shadow: tuple[Any, ...] | None = None
    choice: dict[str, Any] | None = None

    @property
    def rehearsal(self) -> bool:
        """Whether nothing will be sent: such a decision must leave no trace."""
        return self.outcome == "dry_run"

    def choose(self, scored: Scored, view: PoolView) -> None:
        """`scored` was taken; its pool is as `view` says."""
        self.chosen = scored
        if view.exhaustion is not None or view.pressure:
            self.pool = (view.pool.pool_id, view.state, view.pressure, view.exhaustion)


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
        "kept": [
            (c.record.key_id, c.record.label, c.record.provider_id, turn, usd, p_failure, terms, pico, order, late)
            for late, pico, turn, order, c, usd, p_failure, terms in record.kept
        ],
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
        "bill": None
        if record.billed_nano_usd is None
        else (record.billed_nano_usd, record.listed_nano_usd, str(record.cost_source)),
        "in": record.input_tokens,
        "outtok": record.output_tokens,
        "dur": record.duration_s,
        "who": record.caller,
        "waited": record.waited_s,
        "clamp": record.clamp,
        "presumed": record.presumed_nano_usd,
        "psrc": record.price_source,
        "pool": None if record.pool is None else _pool_facts(*record.pool),
        "shadow": record.shadow,
        "pol": list(record.policies),
        "fall": list(record.fallbacks),
        "hedge": list(record.hedges),
        "choice": record.choice,
    }


def render(record: DecisionRecord, to_datetime: Any) -> RoutingDecision:
    """The decision as users read it. `to_datetime`: Unix seconds -> aware datetime."""
    return decode(encode(record), to_datetime)


def decode(stored: dict[str, Any], to_datetime: Any) -> RoutingDecision:
    """The inverse of `encode`, rendered. Reads what earlier versions stored, too."""
    kept = [Kept(*row) for row in stored["kept"]]
    chosen = next((k for k in kept if k.key_id == stored["chosen"]), None)
    at: datetime = to_datetime(stored["at"])
    turns = stored["turns"]
    found = margins(chosen, kept, turns=turns)
    clamp, pool, shadow = stored.get("clamp"), stored.get("pool"), stored.get("shadow")
    billed, listed, source = stored.get("bill") or (None, stored["cost"], CostSource.Prices.value)
    return RoutingDecision(
        id=stored["id"],
        request_id=stored["rid"],
        decision_timestamp=at,
        model=stored["model"],
        objective=stored["obj"],
        weights=stored["w"],
        selected_key_id=chosen.key_id if chosen else None,
        selected_provider_id=chosen.provider_id if chosen else None,
        selected=ScoredRoute(**_numbers(chosen)) if chosen else None,
        score_usd=chosen.score if chosen else None,
        terms_usd=chosen.named_terms if chosen else {},
        candidates=stored["n"],
        considered=stored["seen"],
        alternatives_considered=[
            AlternativeRoute(**_numbers(k), reason_not_selected=why_not(k, chosen, stored))
            for k in kept
            if k is not chosen
        ],
        rejections=[
            RejectedRoute(key_id=k, provider_id=p, code=c, reason=f"{label}: {why}")
            for k, label, p, c, why in stored["rej"]
        ],
        attempts=_attempts(stored),
        runner_up_key_id=found.runner.key_id if found else None,
        flip=flip_words(chosen, found, turns=turns),
        flip_margin_usd=found.usd if found else None,
        flip_weight=found.term if found else None,
        flip_weight_change=found.change if found else None,
        outcome=stored["out"],
        cost_usd=_usd(stored["cost"]),
        cost_source=source,
        billed_usd=_usd(billed),
        list_price_usd=_usd(listed),
        price_source=stored.get("psrc", ""),
        presumed_usd=Decimal(stored.get("presumed", 0)).scaleb(-9),
        input_tokens=stored["in"],
        output_tokens=stored["outtok"],
        waited_ms=round(stored.get("waited", 0.0) * 1000, 3),
        output_limit=None if clamp is None else OutputLimit(asked=clamp[0], given=clamp[1], budget_id=clamp[2]),
        quota=None if pool is None else PoolForecast(**pool),
        shadow=None if shadow is None else ShadowChoice.of(*shadow),
        policies=stored.get("pol", []),
        fallbacks=stored.get("fall", []),
        hedges=stored.get("hedge", []),
        model_choice=_choice(stored),
        explanation=sentence(stored, chosen, kept),
    )


def _choice(stored: dict[str, Any]) -> ModelChoice | None:
    note = stored.get("choice")
    if note is None:
        return None
    return ModelChoice.of(note, stored["in"], stored["outtok"], stored["cost"], stored.get("fall", []))


def _usd(nano: int | None) -> Decimal | None:
    return None if nano is None else Decimal(nano).scaleb(-9)


def _numbers(kept: Kept) -> dict[str, Any]:
    return {
        "key_id": kept.key_id,
        "provider_id": kept.provider_id,
        "score_usd": kept.score,
        "terms_usd": kept.named_terms,
        "expected_cost_usd": Decimal(kept.expected_usd).quantize(Decimal("1e-12")),
        "p_failure": kept.p_failure,
        "turn": kept.turn,
        "order": kept.order,
        "late": kept.late,
    }


def _attempts(stored: dict[str, Any]) -> list[AttemptRecord]:
    return [
        AttemptRecord(
            key_id=k,
            provider_id=p,
            outcome=outcome,
            status=status,
            duration_ms=round(duration * 1000, 3),
            ttft_ms=None if ttft is None else round(ttft * 1000, 3),
            detail=detail,
            hold_id=f"{stored['id']}.{number}",
        )
        for number, (k, _, p, outcome, status, duration, ttft, detail) in enumerate(stored["att"], 1)
    ]


def _pool_facts(pool_id: str, state: str, pressure: float, told: Any) -> dict[str, Any]:
    """What was foreseen for a pool, as `PoolForecast` reads it; `told`: an `Exhaustion` or None."""
    facts: dict[str, Any] = {"pool_id": pool_id, "state": str(state), "pressure": pressure}
    if told is not None:
        facts |= {
            "dry_p10_s": told.p10_s,
            "dry_p50_s": told.p50_s,
            "dry_p90_s": told.p90_s,
            "chance_60s": told.chance_60s,
            "reset_in_s": told.reset_in_s,
        }
    return facts
