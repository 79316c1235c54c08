"""What batches used, by what their providers say of them: OpenAI in the batch itself, Anthropic in its results.

Main entries: `usage_of_batch`, `usage_of_results` and `ended`. Usage is marked as of the tier "batch", which the price
list has at half of the standard price for OpenAI and Anthropic.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from apikeyrouter.domain.cost.usage import Usage, usage_of_openai
from apikeyrouter.domain.cost.usage_replies import usage_of_reply

__all__ = ["ended", "usage_of_batch", "usage_of_results"]


class _Batch(msgspec.Struct, gc=False):
    """OpenAI's batch object: `model` and `usage` (https://platform.openai.com/docs/api-reference/batch/object), and
    Anthropic's `processing_status` (https://platform.claude.com/docs/en/api/retrieving-message-batches), both read
    2026-11-21."""

    status: str = ""
    model: str | None = None
    processing_status: str = ""


_OVER = frozenset(("completed", "expired", "cancelled", "failed"))
_SUMMED = (
    "input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens", "cache_write_1h_tokens",
    "reasoning_tokens",
)  # fmt: skip


def _batch(body: bytes) -> _Batch:
    try:
        return msgspec.json.decode(body, type=_Batch)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _Batch()


def ended(body: bytes) -> Literal["no", "charged here", "charged by results"]:
    """Whether a batch is over, and where it is told what it used."""
    batch = _batch(body)
    if batch.processing_status:
        return "charged by results" if batch.processing_status == "ended" else "no"
    return "charged here" if batch.status in _OVER else "no"


def usage_of_batch(body: bytes) -> list[tuple[str, Usage]]:
    """Model and usage of a batch of OpenAI that is over; nothing where it does not tell."""
    batch = _batch(body)
    usage = usage_of_openai(body) if batch.status in _OVER and batch.model else None
    if usage is None or not usage.total_tokens or not batch.model:
        return []
    usage.service_tier = "batch"
    return [(batch.model, usage)]


def usage_of_results(body: bytes) -> list[tuple[str, Usage]]:
    """What the lines of Anthropic's results used, summed up by model (a `message` in each `result`, https://
    platform.claude.com/docs/en/api/retrieving-message-batch-results, read 2026-11-21), models in order of name."""
    sums: dict[str, Usage] = {}
    for line in body.splitlines():
        try:
            message = msgspec.json.decode(line)["result"]["message"]
            model = message["model"]
            usage = usage_of_reply("api.anthropic.com", message)
        except (msgspec.MsgspecError, UnicodeDecodeError, LookupError, TypeError, RecursionError):
            continue
        if usage is None or not isinstance(model, str):
            continue
        known = sums.setdefault(model, Usage(service_tier="batch"))
        for name in _SUMMED:
            setattr(known, name, getattr(known, name) + getattr(usage, name))
    return sorted(sums.items())
