"""From a provider's bytes to what a library user reads: `SystemResponse` and `StreamChunk`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from apikeyrouter.domain.cost.billing import CostSource
from apikeyrouter.domain.cost.prices import cost_breakdown, cost_nano_usd, to_decimal_usd
from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.errors import ErrorCategory, SystemError
from apikeyrouter.domain.interfaces.price_source import ModelPrice
from apikeyrouter.domain.models.call import Call
from apikeyrouter.domain.models.cost_estimate import CostEstimate
from apikeyrouter.domain.models.routing_decision import RoutingDecision
from apikeyrouter.domain.models.system_response import ResponseMetadata, SystemResponse, TokenUsage
from apikeyrouter.sending import Reply

__all__ = ["StreamChunk", "build_response", "cost_of", "stream_events"]

_REQUEST_IDS = (b"x-request-id", b"request-id")  # OpenAI's and most others', Anthropic's


class StreamChunk(str):
    """A piece of a streamed reply. As a string it is the text delta ("" for chunks that carry none).

    `raw`: the provider's chunk as a JSON object. `finish_reason`: set on the chunk that ends a choice. `response`: on
    the last chunk only: the whole reply with its usage, cost and decision.
    """

    __slots__ = ("finish_reason", "raw", "response")

    raw: dict[str, Any]
    finish_reason: str | None
    response: SystemResponse | None

    def __new__(cls, text: str, raw: dict[str, Any], response: SystemResponse | None = None) -> StreamChunk:
        """`text`: the delta."""
        chunk = super().__new__(cls, text)
        chunk.raw = raw
        choices = raw.get("choices") or [{}]
        chunk.finish_reason = choices[0].get("finish_reason")
        chunk.response = response
        return chunk


def cost_of(usage: Usage | None, price: ModelPrice | None, billed_nano_usd: int | None = None) -> CostEstimate:
    """What the usage costs; amount 0 with method "unpriced" when no price is known. `billed_nano_usd`: what was
    settled by the provider's own bill."""
    if billed_nano_usd is not None:
        return CostEstimate(
            amount=to_decimal_usd(billed_nano_usd),
            estimation_method="bill",
            input_tokens_estimate=usage.input_tokens if usage else 0,
            output_tokens_estimate=usage.output_tokens if usage else 0,
        )
    if usage is None or price is None:
        return CostEstimate(
            amount=Decimal(0),
            confidence=0.0,
            estimation_method="unpriced",
            input_tokens_estimate=usage.input_tokens if usage else 0,
            output_tokens_estimate=usage.output_tokens if usage else 0,
        )
    return CostEstimate(
        amount=to_decimal_usd(cost_nano_usd(price, usage)),
        input_tokens_estimate=usage.input_tokens,
        output_tokens_estimate=usage.output_tokens,
        breakdown=cost_breakdown(price, usage),
    )


def build_response(
    call: Call, reply: Reply, raw: dict[str, Any], usage: Usage | None, *, decision: RoutingDecision, now: datetime
) -> SystemResponse:
    """The finished reply as users read it."""
    taken = reply.taken
    choice = (raw.get("choices") or [{}])[0]
    message = choice.get("message") or {}
    text = message.get("content")
    if text is None:
        text = choice.get("text") or ""
    record = reply.record
    billed = record.cost_nano_usd if record.cost_source == CostSource.Bill else None
    cost = cost_of(usage, taken.candidate.price, billed)
    last = record.attempts[-1]
    provider_request_id = next((v.decode("latin-1") for k, v in reply.headers if k in _REQUEST_IDS), None)
    metadata = ResponseMetadata(
        model_used=raw.get("model") or call.model,
        provider_id=taken.scored.provider_id,
        key_used=taken.scored.key_id,
        request_id=call.request_id,
        decision_id=record.decision_id,
        tokens_used=_tokens(usage),
        response_time_ms=round(record.duration_s * 1000, 3),
        ttft_ms=None if last.ttft_s is None else round(last.ttft_s * 1000, 3),
        timestamp=now,
        finish_reason=choice.get("finish_reason"),
        attempts=len(record.attempts),
        cost_actual=cost.amount,
        provider_request_id=provider_request_id,
    )
    content = text if isinstance(text, str) else msgspec.json.encode(text).decode()
    return SystemResponse(content=content, metadata=metadata, cost=cost, raw=raw, decision=decision)


def _tokens(usage: Usage | None) -> TokenUsage:
    if usage is None:
        return TokenUsage()
    return TokenUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_input_tokens=usage.cached_input_tokens,
        reasoning_tokens=usage.reasoning_tokens,
    )


async def stream_events(chunks: AsyncIterator[bytes]) -> AsyncIterator[dict[str, Any]]:
    """The JSON objects of an event stream, [DONE] left out. Raises SystemError for an in-band error."""
    carry = b""
    async for chunk in chunks:
        *events, carry = (carry + chunk).replace(b"\r\n", b"\n").split(b"\n\n")
        for event in events:
            payload = b"\n".join(line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:"))
            if not payload or payload == b"[DONE]":
                continue
            try:
                decoded = msgspec.json.decode(payload)
            except msgspec.MsgspecError:
                continue
            if not isinstance(decoded, dict):
                continue
            if decoded.get("error"):
                raise _stream_error(decoded["error"])
            yield decoded


def _stream_error(error: Any) -> SystemError:
    fields = error if isinstance(error, dict) else {"message": str(error)}
    return SystemError(
        ErrorCategory.ProviderError,
        str(fields.get("message") or "The provider's stream broke off."),
        provider_code=str(fields.get("code")) if fields.get("code") is not None else None,
    )
