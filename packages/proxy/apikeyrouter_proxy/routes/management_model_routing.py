"""Management API: model routing. What `auto` did and saved, and what users think of its answers.

Feedback is durable when it is answered; it moves the odds of its group, in every process on the store.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Literal

from fastapi import Query
from pydantic import BaseModel, Field, model_validator

from apikeyrouter.muxer.groups import ModelGroup
from apikeyrouter_proxy.bootstrap import live_gauges
from apikeyrouter_proxy.metrics_model_routing import Counted, counted
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


class RouteView(BaseModel):
    """What became of one group's requests since the proxy started, over all workers of this machine; other workers tell
    once a second."""

    group: str
    strategy: str | None = Field(description="None: the router's default.")
    models: list[str]
    shadow: bool
    routed: int
    strong_share: float | None = Field(description="Share of requests that went to the stronger half; None before any.")
    tolerance: float | None = Field(description="The loss that is put up with now, 0 to 1.")
    expected_saved_usd: float = Field(description="Against the reference model, by what was expected.")
    feedback: float = Field(description="Marks taken in, over all processes.")
    mean_score: float | None = Field(description="Of the last marks; None while there are too few.")
    drift: float = Field(
        description="How much prompts have changed, as this worker saw them: above 0.25 they are others."
    )


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
    """One row for each group of models."""
    muxer = proxy.router.muxer
    await muxer.feedback.opened()
    groups: dict[str, ModelGroup | None] = dict.fromkeys(muxer.books) | dict(muxer.groups)
    sums = counted(proxy.metrics.together(live_gauges(proxy)))
    return page_of([_row(proxy, name, group, sums.get(name, Counted())) for name, group in sorted(groups.items())])


def _row(proxy: RunningProxy, name: str, group: ModelGroup | None, sums: Counted) -> RouteView:
    muxer = proxy.router.muxer
    book = muxer.books.get(name) or (muxer.book(group) if group is not None else None)
    if book is None:
        raise RuntimeError("a group without a book was listed")
    group = group or muxer.served()
    strategy, routed = group.strategy, sums.weak + sums.strong
    return RouteView(
        group=name,
        strategy=strategy.value if strategy is not None else None,
        models=[one.model for one in group.members],
        shadow=group.shadow,
        routed=routed,
        strong_share=sums.strong / routed if routed else None,
        tolerance=muxer.tolerance(group),
        expected_saved_usd=sums.reference_usd - sums.chosen_usd,
        feedback=book.marks,
        mean_score=book.mean_score,
        drift=book.drift,
    )
