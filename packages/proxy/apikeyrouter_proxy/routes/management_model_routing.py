"""Management API: model routing. What `auto` did and saved, and what users think of its answers.

Feedback is durable when it is answered; it moves the odds of its group, in every process on the store.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel, Field, model_validator

from apikeyrouter.domain.cost.prices import to_decimal_usd
from apikeyrouter.domain.models.model_choice import ModelChoice
from apikeyrouter.domain.routing.explain import DecisionRecord
from apikeyrouter.muxer.groups import DEFAULT, ModelGroup, Role
from apikeyrouter.muxer.guard import BASELINE, DRIFT_ALERT, DRIFT_OVER, LEAST_MARKS
from apikeyrouter.muxer.options import Standing
from apikeyrouter_proxy.bootstrap import live_gauges
from apikeyrouter_proxy.budget_forms import Dollars
from apikeyrouter_proxy.metrics_model_routing import Counted, counted
from apikeyrouter_proxy.recent_use import newest_records
from apikeyrouter_proxy.routes.common import Body, Page, RunningProxy, page_of
from apikeyrouter_proxy.routes.late import late_router

__all__ = ["router"]

router = late_router(prefix="/api/v1", tags=["model routing"])


class FeedbackBody(Body):
    """What somebody thinks of one answer: a thumb or a score."""

    request_id: str = Field(min_length=1, max_length=128, description="Of the request, or the id of its decision.")
    thumb: Literal["up", "down"] | None = Field(None, description="Good or bad.")
    score: float | None = Field(None, ge=0.0, le=1.0, description="0 bad to 1 good, in place of a thumb.")

    @model_validator(mode="after")
    def _says_one_thing(self) -> FeedbackBody:
        if (self.thumb is None) == (self.score is None):
            raise ValueError("give a thumb (up or down) or a score (0 to 1)")
        return self


class FeedbackView(BaseModel):
    """What was learned."""

    request_id: str
    group: str
    model: str
    score: float
    replaced: bool = Field(description="Whether it took the place of an earlier mark of this request.")


class CandidateView(BaseModel):
    """A model of a group as it stands, whatever is asked. Prices: US dollars for 1,000,000 tokens."""

    model: str
    role: Role | None = Field(description="As configured.")
    quality: float | None = Field(
        description="In its group, 0 the weakest to 1 the strongest; None: no registered provider serves it."
    )
    input: Dollars | None
    output: Dollars | None
    reference: bool = Field(description="Savings are told against it.")


class RouteView(BaseModel):
    """What became of one group's requests since the proxy started, over all workers of this machine; other workers tell
    once a second."""

    group: str
    strategy: str | None = Field(description="None: the router's default.")
    strategy_in_force: str
    models: list[str]
    candidates: list[CandidateView]
    reference: str | None = Field(description="The model that savings are told against; None without a price.")
    max_cost: float | None = Field(description="US dollars for one request.")
    shadow: bool
    routed: int = Field(description="Requests that left their model to the group.")
    strong_share: float | None = Field(description="Share of requests that went to the stronger half; None before any.")
    strong_share_target: float | None
    tolerance: float | None = Field(description="The loss that is put up with now, 0 to 1.")
    expected_saved_usd: float = Field(
        description="Against the reference model, by what was expected, after what discarded answers cost."
    )
    discarded_usd: float = Field(description="Charged for answers of cascades that no caller got.")
    shadowed: int = Field(description="Requests that were only looked at, in shadow mode.")
    shadow_strong_share: float | None = Field(description="Of those, the share that would have gone to the stronger.")
    shadow_saved_usd: float = Field(description="What they would have saved, by what was expected.")
    feedback: float = Field(description="Marks taken in, over all processes.")
    mean_mark: float | None = Field(description="Of all of them, 0 bad to 1 good; None before any.")
    mean_score: float | None = Field(
        description="Of the last marks, as this worker took them; None while there are too few."
    )
    mean_score_from: int = Field(description="So many marks are needed for it.")
    target_quality: float | None
    drift: float = Field(
        description="How much prompts have changed, as this worker saw them: above `drift_alert` they are others."
    )
    drift_alert: float = Field(description="Where the alert begins.")
    drift_over: float = Field(description="Where it ends.")
    prompts: int = Field(description="The last prompts of this worker that thresholds and drift look at.")
    prompts_from: int = Field(description="So many are needed before drift is told.")
    alerts: list[str] = Field(description='That began and are not over: "drift", "quality".')


class ChoiceView(BaseModel):
    """A request whose model was chosen, or would have been. `saved_usd`: against the reference model, of what was
    charged; None until it is known. `answers`: how many models were asked."""

    decision_id: str
    request_id: str
    at: datetime
    group: str
    strategy: str
    mode: str = Field(description='"auto", or "shadow": served as asked.')
    asked: str
    model: str
    would: str | None
    why: str
    answers: int
    outcome: str
    cost_usd: Dollars | None
    saved_usd: Dollars | None
    score: float | None = Field(description="The mark that its answer got, 0 to 1.")


@router.post("/feedback", summary="Say what an answer was worth")
async def give_feedback(proxy: RunningProxy, body: FeedbackBody) -> FeedbackView:
    """Takes a mark for a request that left its model to the router. A second mark replaces the first."""
    score = body.score if body.score is not None else float(body.thumb == "up")
    taken = await proxy.router.muxer.take_feedback(body.request_id, score)
    return FeedbackView(
        request_id=body.request_id, group=taken.group, model=taken.model, score=score, replaced=taken.replaced
    )


class MarkView(BaseModel):
    """A mark with what was decided then."""

    request_id: str
    decision_id: str
    at: datetime
    group: str
    model: str
    quality: float = Field(description="Of the model that answered, in its group: 0 the weakest, 1 the strongest.")
    gain: float | None = Field(description="What a strong model was expected to win, before feedback.")
    score: float


@router.get("/feedback", summary="List what answers were worth")
async def list_feedback(proxy: RunningProxy, limit: Annotated[int, Query(ge=1, le=1_000)] = 100) -> Page[MarkView]:
    """The last marks, newest first, of those whose decisions are still kept. Prompts are not: your program has them, by
    the same request id."""
    return page_of([MarkView(**asdict(mark)) for mark in await proxy.router.muxer.marks(limit)])


@router.get("/model-routing", summary="What auto did and saved")
async def show_routing(proxy: RunningProxy) -> Page[RouteView]:
    """One row for each group of models; "default" is there as soon as there are models to choose from."""
    muxer = proxy.router.muxer
    await muxer.feedback.opened()
    groups: dict[str, ModelGroup | None] = dict.fromkeys(muxer.books) | dict(muxer.groups)
    if muxer.served().members:
        groups.setdefault(DEFAULT, None)
    sums = counted(proxy.metrics.together(live_gauges(proxy)))
    return page_of([_row(proxy, name, group, sums.get(name, Counted())) for name, group in sorted(groups.items())])


@router.get("/model-routing/choices", summary="List choices of models")
async def list_choices(
    proxy: RunningProxy, limit: Annotated[int, Query(ge=1, le=500)] = 50, group: str = ""
) -> Page[ChoiceView]:
    """The newest requests whose model was chosen, newest first, as far as this process remembers. Answers of a cascade
    that nobody got are left out: the decision whose answer was given tells of them."""
    scores = await proxy.router.muxer.feedback.marks()
    found = []
    for record in reversed(list(newest_records(proxy.router.journal, 0.0))):
        note = record.choice
        if note is None or note.get("instead") is not None or group not in ("", note["group"]):
            continue
        if record.outcome == "pending":
            continue
        found.append(_choice(record, note, scores.get(record.request_id)))
        if len(found) == limit:
            break
    return page_of(found)


def _choice(record: DecisionRecord, note: dict[str, Any], score: float | None) -> ChoiceView:
    choice = ModelChoice.of(
        note, record.input_tokens, record.output_tokens, record.cost_nano_usd, list(record.fallbacks)
    )
    return ChoiceView(
        decision_id=record.decision_id,
        request_id=record.request_id,
        at=datetime.fromtimestamp(record.at_utc_s, UTC),
        group=choice.group,
        strategy=choice.strategy,
        mode=choice.mode,
        asked=choice.asked,
        model=choice.model,
        would=choice.would,
        why=choice.why,
        answers=len(choice.legs) + (not any(leg.accepted for leg in choice.legs)),
        outcome=record.outcome,
        cost_usd=None if record.cost_nano_usd is None else to_decimal_usd(record.cost_nano_usd),
        saved_usd=choice.saved_usd,
        score=score,
    )


def _row(proxy: RunningProxy, name: str, group: ModelGroup | None, sums: Counted) -> RouteView:
    muxer = proxy.router.muxer
    group = group or muxer.served()
    book = muxer.books.get(name) or muxer.book(group)
    routed, shadowed = int(sums.weak + sums.strong), int(sums.shadow_weak + sums.shadow_strong)
    standings = muxer.standings(group)
    return RouteView(
        group=name,
        strategy=group.strategy.value if group.strategy is not None else None,
        strategy_in_force=(group.strategy or proxy.router.settings.default_routing_strategy).value,
        models=[one.model for one in group.members],
        candidates=[_candidate(one) for one in standings],
        reference=next((one.member.model for one in standings if one.reference), None),
        max_cost=group.max_cost_usd,
        shadow=group.shadow,
        routed=routed,
        strong_share=sums.strong / routed if routed else None,
        strong_share_target=group.strong_share,
        tolerance=muxer.tolerance(group),
        expected_saved_usd=sums.reference_usd - sums.chosen_usd,
        discarded_usd=sums.discarded_usd,
        shadowed=shadowed,
        shadow_strong_share=sums.shadow_strong / shadowed if shadowed else None,
        shadow_saved_usd=sums.shadow_reference_usd - sums.shadow_chosen_usd,
        feedback=book.marks,
        mean_mark=book.mean_mark,
        mean_score=book.mean_score,
        mean_score_from=LEAST_MARKS,
        target_quality=group.target_quality,
        drift=book.drift,
        drift_alert=DRIFT_ALERT,
        drift_over=DRIFT_OVER,
        prompts=book.prompts,
        prompts_from=BASELINE,
        alerts=book.alerting,
    )


def _candidate(one: Standing) -> CandidateView:
    price = one.price if one.price is not None and one.price.by_tokens else None
    return CandidateView(
        model=one.member.model,
        role=one.member.role,
        quality=one.quality,
        input=None if price is None else to_decimal_usd(price.input),
        output=None if price is None else to_decimal_usd(price.output),
        reference=one.reference,
    )
