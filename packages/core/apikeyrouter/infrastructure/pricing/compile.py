"""An entry of genai-prices as one `ModelPrice`: its dated rows, context bands, service tiers and fees.

Main entries: `compile_price` and `steady_s` (for how long the result holds).
Laws: a price is exact, or rounded up to the next nano-dollar; what the catalogue prices and we cannot charge for is
never dropped in silence: the entry counts as unknown (None). An entry without any price is one that is free of charge.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Any

from apikeyrouter.domain.interfaces.price_source import Fee, ModelPrice

if TYPE_CHECKING:
    from genai_prices import types as genai

__all__ = ["compile_price", "steady_s"]

_TOKEN_CLASSES = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cached_input": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "audio_input": "input_audio_mtok",
    "audio_output": "output_audio_mtok",
    "cached_audio": "cache_audio_read_mtok",
    "image_input": "input_image_mtok",
    "image_output": "output_image_mtok",
    "cached_image": "cache_image_read_mtok",
    "video_input": "input_video_mtok",
    "video_output": "output_video_mtok",
    "reasoning": "output_reasoning_mtok",
    "citation": "output_citation_mtok",
}
"""Our field: the catalogue's, in dollars per million tokens."""

_FEES = {
    "web_searches_kcount": ("web_searches", 1000),
    "social_searches_kcount": ("social_searches", 1000),
    "storage_searches_kcount": ("storage_searches", 1000),
    "rerank_searches_kcount": ("rerank_searches", 1000),
    "code_executions_kcount": ("code_executions", 1000),
    "audio_hours": ("audio_seconds", 3600),
    "input_audio_hours": ("input_audio_seconds", 3600),
    "output_audio_hours": ("output_audio_seconds", 3600),
    "input_mchars": ("input_characters", 1_000_000),
    "input_text_messages_kcount": ("input_text_messages", 1000),
    "input_gpixels": ("input_pixels", 1_000_000_000),
    "input_document_kpages": ("input_document_pages", 1000),
    "input_annotated_document_kpages": ("input_annotated_document_pages", 1000),
}
"""The catalogue's field: what is counted, and how many of it the price is for."""

_TOOLS = frozenset(("web_searches", "social_searches", "storage_searches", "code_executions"))

_PER_REQUEST = "requests_kcount"

_WHISPER_SECONDS_MIN = 10
"""Groq bills at least 10 s of audio a request (groq.com/pricing, and genai-prices since 0.1)."""

_TIER_KEYS = ("service_tier", "processing", "speed")
"""What a service tier is called in the catalogue: OpenAI's and Gemini's field, batches, and Anthropic's fast mode."""


def compile_price(model: genai.ModelInfo, utc: datetime, source: str, *, own: bool = True) -> ModelPrice | None:
    """What `model` cost at `utc`, with its bands, tiers and fees; None when it has no price that we can charge.

    `own`: whether the entry belongs to the provider that is asked for. The maker's tiers, and what it asks for searches
    that it runs itself, are not handed on to other hosts.
    """
    standard = _banded(model.get_prices(utc), model, source, _since(model, utc))
    if standard is not None and not own:
        return replace(standard, fees=tuple([fee for fee in standard.fees if fee.what not in _TOOLS]))
    if standard is None or not model.price_variants:
        return standard
    tiers: dict[str, ModelPrice] = {}
    for variant in model.price_variants:
        if len(variant.when) != 1 or not any(value is not None for value in variant.prices.__dict__.values()):
            continue
        ((key, value),) = variant.when.items()
        name = value if key in _TIER_KEYS else f"{key}={value}"
        if name in tiers or (variant.constraint is not None and not variant.constraint.active(utc)):
            continue
        tier = _banded(model.get_prices(utc, variant.when), model, source, standard.since)
        if tier is not None:
            tiers[name] = tier
    return replace(standard, tiers=tuple(sorted(tiers.items()))) if tiers else standard


def _banded(rows: genai.ModelPrice, model: genai.ModelInfo, source: str, since: date | None) -> ModelPrice | None:
    """One `ModelPrice` with its bands, innermost first."""
    priced = {key: value for key, value in rows.__dict__.items() if not key.startswith("_") and value is not None}
    if priced.keys() - _TOKEN_CLASSES.values() - _FEES.keys() - {_PER_REQUEST}:
        return None
    tokens = {ours: priced.get(theirs) for ours, theirs in _TOKEN_CLASSES.items()}
    per_request = _nano(priced.get(_PER_REQUEST), None) or 0
    fees = tuple(_fees(priced, model.id))
    starts = sorted({tier.start for price in tokens.values() for tier in getattr(price, "tiers", ())})
    compiled: ModelPrice | None = None
    for index in range(len(starts), -1, -1):
        over = starts[index - 1] if index else None
        band: dict[str, Any] = {ours: _nano(price, over) for ours, price in tokens.items()}
        rate_in, rate_out = band.pop("input"), band.pop("output")
        compiled = ModelPrice(
            input=rate_in or 0,
            output=rate_out or 0,
            per_request=-(-per_request // 1000),
            long_context_over=starts[index] if compiled is not None else None,
            long_input=compiled.input if compiled is not None else None,
            long_output=compiled.output if compiled is not None else None,
            source=source,
            context_window=model.context_window,
            long=compiled,
            fees=fees,
            since=since,
            by_tokens=rate_in is not None or rate_out is not None or not fees,
            **band,
        )
    return compiled


def _fees(priced: dict[str, Decimal | genai.TieredPrices], model_id: str) -> Iterator[Fee]:
    whisper = model_id.startswith("whisper-large-v3")
    for theirs, (what, per) in _FEES.items():
        nano = _nano(priced.get(theirs), None)
        if nano is None or (whisper and what != "audio_seconds"):
            continue
        yield Fee(what, nano, per, at_least=_WHISPER_SECONDS_MIN if whisper else 0)


def _nano(price: Decimal | genai.TieredPrices | None, over: int | None) -> int | None:
    """Dollars as nano-dollars, rounded up; of a tiered price the one above `over` tokens (None: its base)."""
    if price is None:
        return None
    if not isinstance(price, Decimal | int):
        dollars = price.base
        for tier in price.tiers:
            if over is not None and tier.start <= over:
                dollars = tier.price
        price = dollars
    return int((Decimal(price) * 10**9).to_integral_value(ROUND_CEILING))


def _since(model: genai.ModelInfo, utc: datetime) -> date | None:
    """The day from which the row in force holds; None for a row without a date."""
    if not isinstance(model.prices, list):
        return None
    for row in reversed(model.prices):
        if row.constraint is None or row.constraint.active(utc):
            return getattr(row.constraint, "start_date", None)
    return None


def steady_s(model: genai.ModelInfo | None, utc: datetime) -> float:
    """Seconds until the price may change: the next border of a time of day in its rows, at the latest midnight UTC."""
    midnight = datetime.combine(utc.date() + timedelta(days=1), time(0), tzinfo=UTC)
    borders = [midnight]
    rows: list[genai.ConditionalPrice | genai.PriceVariant] = []
    if model is not None:
        rows = [*(model.prices if isinstance(model.prices, list) else ()), *(model.price_variants or ())]
    for row in rows:
        for name in ("start_time", "end_time"):
            border = getattr(row.constraint, name, None)
            if border is not None:
                at = datetime.combine(utc.date(), border if border.tzinfo else border.replace(tzinfo=UTC))
                borders.append(at if at > utc else at + timedelta(days=1))
    return (min(borders) - utc).total_seconds()
