"""Management API: webhooks: where they go, what was delivered, and a test."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Query, Request
from pydantic import BaseModel, Field

from apikeyrouter_proxy.routes.common import Page, RunningProxy, page_of
from apikeyrouter_proxy.routes.defined import Defined, Definitions
from apikeyrouter_proxy.routes.errors import NotFoundError
from apikeyrouter_proxy.routes.late import late_router
from apikeyrouter_proxy.webhooks import Message, Webhooks

__all__ = ["router"]

router = late_router(prefix="/api/v1/webhooks", tags=["webhooks"])


class WebhookView(BaseModel):
    """One webhook. `body` is the JSON text that is signed."""

    id: str = Field(description="`webhook-id`: the same for every attempt.")
    type: str
    state: str = Field(description="queued, retrying, delivered or failed.")
    attempts: int
    detail: str = Field(description="How the last attempt ended.")
    created_at: datetime
    changed_at: datetime
    next_attempt_at: datetime | None = Field(description="None when there will be none.")
    body: str


class WebhookPage(Page[WebhookView]):
    """The newest webhooks of two days, of every process on the store."""

    target: str | None = Field(description="Scheme and host that they go to; None: no webhook is configured.")
    defined: Defined | None = Field(description="Where that is said; None: nowhere.")
    pending: int = Field(description="How many this process still has to deliver.")
    dropped: int = Field(description="How many this process gave up because its queue was full.")


@router.get("", summary="List webhooks")
async def list_webhooks(proxy: RunningProxy, limit: Annotated[int, Query(ge=1, le=500)] = 50) -> WebhookPage:
    """What was sent and what waits, newest first."""
    webhooks = proxy.webhooks
    if webhooks is None:
        return WebhookPage(data=[], total=0, target=None, defined=None, pending=0, dropped=0)
    page = page_of([_view(one) for one in await webhooks.newest(10_000)], limit=limit)
    return WebhookPage(
        **page.model_dump(),
        target=webhooks.target.origin,
        defined=Definitions(proxy).webhook(),
        pending=webhooks.pending,
        dropped=webhooks.dropped,
    )


@router.post("/test", status_code=202, summary="Send a test")
async def send_test(proxy: RunningProxy, request: Request) -> WebhookView:
    """Queues an event of type `webhook.test`; the list tells what became of it."""
    webhooks: Webhooks | None = proxy.webhooks
    if webhooks is None:
        raise NotFoundError("No webhook is configured: set APIKEYROUTER_WEBHOOK_URL and APIKEYROUTER_WEBHOOK_SECRET.")
    message = webhooks.queue("webhook.test", {"message": "This is a test."})
    proxy.audit.write(request, "webhook.tested", message.id)
    return _view(message)


def _view(message: Message) -> WebhookView:
    return WebhookView(
        id=message.id,
        type=message.type,
        state=message.state,
        attempts=message.attempts,
        detail=message.detail,
        created_at=datetime.fromtimestamp(message.created_at_s, UTC),
        changed_at=datetime.fromtimestamp(message.at_s, UTC),
        next_attempt_at=datetime.fromtimestamp(message.next_at_s, UTC) if message.open else None,
        body=message.body,
    )
