"""Prices as the domain sees them: whole nano-dollars per million tokens, per token class, and fees for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol, runtime_checkable

__all__ = ["DatedPriceSource", "Fee", "ModelPrice", "PriceList", "PriceSource", "TimedPriceSource"]


@dataclass(frozen=True, slots=True)
class Fee:
    """A price for something else than tokens: `nano_usd` (1e-9 $) for every `per` of `what`.

    `what`: a name in `Usage.counts`, such as "web_searches". `at_least`: the fewest that are billed when there are any
    (Groq bills 10 s of audio at least).
    """

    what: str
    nano_usd: int
    per: int = 1
    at_least: int = 0


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """What a model costs. Unit of every price: nano-USD (1e-9 $) per 1,000,000 tokens, so $0.15/1M is 150_000_000.

    `cached_input`, `cache_write`, `audio_input`, `image_input`, `video_input`: None means that the provider bills those
    tokens as plain input; `reasoning`, `audio_output`, `image_output`, `video_output`, `citation`: as plain output;
    `cache_write_1h`: as `cache_write`; `cached_audio`, `cached_image`: as `cached_input`. `per_request`: nano-USD per
    call. `fees`: what is not sold by tokens.
    Above `long_context_over` tokens of input other prices hold for the whole request: those of `long`, or without it
    `long_input` and `long_output` (None: no band, or unchanged). `tiers`: the whole price of other service tiers, by
    name ("batch", "flex", "priority", "fast"). `context_window`: the most tokens that input and output may have
    together, None when unknown; `output_max`: the most that one reply may have. `source`: where it comes from, for
    people ("genai-prices 0.2.3", "key metadata", "configuration"); `since`: the first day of this price, None when it
    is not dated. `by_tokens`: whether tokens are what is sold; if not, the number of tokens says nothing about the
    cost. `fee_units_most`: of what fees are for, the most that one request takes; 0 where the request itself tells,
    None where nobody knows.
    """

    input: int
    output: int
    cached_input: int | None = None
    cache_write: int | None = None
    per_request: int = 0
    long_context_over: int | None = None
    long_input: int | None = None
    long_output: int | None = None
    source: str = ""
    cache_write_1h: int | None = None
    audio_input: int | None = None
    audio_output: int | None = None
    reasoning: int | None = None
    context_window: int | None = None
    long: ModelPrice | None = None
    cached_audio: int | None = None
    image_input: int | None = None
    cached_image: int | None = None
    image_output: int | None = None
    video_input: int | None = None
    video_output: int | None = None
    citation: int | None = None
    fees: tuple[Fee, ...] = ()
    tiers: tuple[tuple[str, ModelPrice], ...] = ()
    since: date | None = None
    by_tokens: bool = True
    fee_units_most: int | None = 0
    output_max: int | None = None


@runtime_checkable
class SelfPriced(Protocol):
    """An adapter that knows what its provider costs. The list below the operator's prices, for all of its models."""

    @property
    def own_price(self) -> ModelPrice | None:
        """The price of every call; None when it is not known after all."""
        ...


class PriceSource(Protocol):
    """A price list. Pure and fast after the first call for a model: results are cached by the implementation."""

    def price(self, provider_id: str, model: str) -> ModelPrice | None:
        """Today's price, or None when the list does not know the model."""
        ...


@runtime_checkable
class DatedPriceSource(Protocol):
    """A price list with a memory: old requests keep the price of their time."""

    def price_at(self, provider_id: str, model: str, at: datetime) -> ModelPrice | None:
        """The price that held at `at` (aware), or None when the list does not know the model."""
        ...


@runtime_checkable
class TimedPriceSource(Protocol):
    """A price list whose prices change by themselves: on a date, or at an hour."""

    @property
    def changes_at_s(self) -> float:
        """The monotonic time at which a price that was asked for may change; infinity when none will."""
        ...


@runtime_checkable
class PriceList(Protocol):
    """A price list that can be leafed through."""

    def models(self, provider_id: str | None = None) -> Sequence[tuple[str, str]]:
        """Every (provider id, model) with a price; of one provider only, if given. Sorted."""
        ...

    def providers_of(self, model: str) -> Sequence[str]:
        """The ids of the providers that sell this model, its maker first."""
        ...
