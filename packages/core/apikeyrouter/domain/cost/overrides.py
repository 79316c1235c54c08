"""The operator's own prices: what may be written, and what it means in nano-dollars.

Main entry: `read_override`, from one JSON object to a `PriceOverride`; `read_overrides` for a list of them, or for a
mapping of "provider/model". The unit is always written down ("per_1k" or "per_1m" tokens, US dollars), and amounts are
converted here, once. Example:

    {"provider": "openai", "model": "gpt-4o", "unit": "per_1m", "input": "2.50", "output": "10", "cached_input": "1.25",
     "effective_from": "2026-12-01", "tiers": {"batch": {"multiplier": "0.5"}},
     "long_context": [{"over": 200000, "input": "5", "output": "15"}], "fees": {"web_searches": "0.01"}}

Laws: nothing is guessed: an unknown field, a missing unit, a negative or infinite amount is refused by name; a price
that is finer than a nano-dollar per million tokens is rounded up. A class that is not given costs what its total costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from typing import Any

from apikeyrouter.domain.cost.prices import price_times, to_nano_usd
from apikeyrouter.domain.interfaces.price_source import Fee, ModelPrice

__all__ = ["CLASSES", "FEES", "PriceOverride", "read_override", "read_overrides"]

CLASSES = (
    "input", "output", "cached_input", "cache_write", "cache_write_1h", "reasoning", "citation", "audio_input",
    "audio_output", "cached_audio", "image_input", "image_output", "cached_image", "video_input", "video_output",
)  # fmt: skip
"""Token classes that can have a price: the fields of `ModelPrice`."""

FEES = {
    "web_searches": 1, "social_searches": 1, "storage_searches": 1, "rerank_searches": 1, "code_executions": 1,
    "audio_seconds": 1, "input_document_pages": 1, "input_characters": 1, "input_text_messages": 1,
}  # fmt: skip
"""What else can be sold, dollars for each one."""

_UNITS = {"per_1k": 1000, "per_1m": 1, "1k": 1000, "1m": 1, "per_1k_tokens": 1000, "per_1m_tokens": 1}
"""By what an amount must be multiplied to be per million tokens."""

_AMOUNT_MAX_USD = 1_000_000
"""Dearer prices are mistakes; the dearest of any list is $600 per million tokens (o1-pro)."""

_ABOUT = ("provider", "model", "unit", "effective_from", "effective_until", "note")
_WHOLE = ("multiplier", "per_request", "long_context", "tiers", "fees")
_ALL_FIELDS = frozenset((*_ABOUT, *_WHOLE, *CLASSES))
_RATE_FIELDS = frozenset(CLASSES)


@dataclass(frozen=True, slots=True)
class PriceOverride:
    """A price of the operator's for one provider (or "*") and one model, or a pattern such as "gpt-4o*".

    It is either a whole `price`, or `multiplier` times the list price. In force from `effective_from` until before
    `effective_until`; None: without end. `document`: as it was written, for people and for the store.
    """

    provider_id: str
    model: str
    price: ModelPrice | None
    multiplier: Decimal | None
    effective_from: datetime | None
    effective_until: datetime | None
    document: Mapping[str, Any]

    @property
    def key(self) -> tuple[str, str]:
        """(provider id, model), as written."""
        return self.provider_id, self.model

    @property
    def specificity(self) -> int:
        """More is nearer: a named model before a pattern, then a named provider before any."""
        return 2 * ("*" not in self.model) + (self.provider_id != "*")

    def covers(self, provider_id: str, model: str) -> bool:
        """Whether it is about this model at this provider."""
        if self.provider_id not in ("*", provider_id):
            return False
        return self.model == model or ("*" in self.model and fnmatchcase(model, self.model))

    def replaces(self, earlier: PriceOverride) -> bool:
        """Whether an earlier one ends when this one is set: it has the same provider, model and beginning."""
        return self.key == earlier.key and self.effective_from == earlier.effective_from

    def in_force(self, at: datetime) -> bool:
        """Whether it holds at this time."""
        began = self.effective_from is None or self.effective_from <= at
        return began and (self.effective_until is None or at < self.effective_until)

    def laid_over(self, listed: ModelPrice | None, source: str) -> ModelPrice | None:
        """The price that holds; None for a multiple of a price that nobody knows."""
        since = self.effective_from.date() if self.effective_from is not None else None
        if self.multiplier is not None:
            price = price_times(listed, self.multiplier) if listed is not None else None
            return replace(price, source=f"{source}: {self.multiplier} x {price.source}") if price else None
        if self.price is None:
            return None
        if listed is None:
            return replace(self.price, source=source, since=since)
        return replace(
            self.price,
            source=source,
            since=since,
            context_window=listed.context_window,
            output_max=listed.output_max,
            fee_units_most=listed.fee_units_most,
        )


def read_overrides(given: object) -> tuple[PriceOverride, ...]:
    """Overrides from a list of objects, or from a mapping of "provider/model" to objects.

    Raises ValueError with every fault, one a line, each with its place.
    """
    rows: list[tuple[str, object]] = []
    if isinstance(given, Mapping):
        for name, row in given.items():
            provider, slash, model = str(name).partition("/")
            named = {"provider": provider, "model": model} if slash else {"provider": "*", "model": provider}
            rows.append((str(name), {**named, **row} if isinstance(row, Mapping) else row))
    elif isinstance(given, Sequence) and not isinstance(given, str | bytes):
        rows = [(str(number), row) for number, row in enumerate(given, start=1)]
    else:
        raise ValueError("expected a list of prices, or an object of prices by provider/model")  # noqa: TRY004
    found: list[PriceOverride] = []
    faults: list[str] = []
    for place, row in rows:
        try:
            found.append(read_override(row))
        except ValueError as fault:
            faults.append(f"price {place}: {fault}")
    faults += _overlaps(found)
    if faults:
        raise ValueError("\n".join(faults))
    return tuple(found)


def read_override(given: object) -> PriceOverride:
    """One override. Raises ValueError that names the field and what is expected."""
    if not isinstance(given, Mapping):
        raise ValueError("expected an object with provider, model, unit, input and output")  # noqa: TRY004
    unknown = sorted(str(name) for name in given if name not in _ALL_FIELDS)
    if unknown:
        raise ValueError(f"unknown field {', '.join(unknown)}; known are {', '.join((*_ABOUT, *_WHOLE, *CLASSES))}")
    provider, model = _name(given, "provider", "*"), _name(given, "model", None)
    begin, end = _moment(given, "effective_from"), _moment(given, "effective_until")
    if begin is not None and end is not None and begin >= end:
        raise ValueError("effective_until must be later than effective_from")
    multiplier = _multiplier(given)
    if multiplier is not None:
        others = sorted(name for name in given if name in _RATE_FIELDS or name in ("unit", *_WHOLE[1:]))
        if others:
            raise ValueError(f"multiplier is times the list price, so leave {', '.join(others)} out")
        price = None
    else:
        price = _whole_price(given)
    document = {**_plain(given), "provider": provider, "model": model}
    return PriceOverride(provider, model, price, multiplier, begin, end, document)


def _plain(value: Any) -> Any:
    """The same in what JSON has; amounts as text, so that none is rounded."""
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items() if one is not None}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, date):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal | float) else value


def _whole_price(given: Mapping[str, Any]) -> ModelPrice:
    rates = sorted(name for name in given if name in _RATE_FIELDS)
    scale = 1
    if rates:
        unit = given.get("unit")
        if not isinstance(unit, str) or unit.strip().lower() not in _UNITS:
            raise ValueError("unit must say what input and output are for: per_1k or per_1m tokens")
        scale = _UNITS[unit.strip().lower()]
        missing = [name for name in ("input", "output") if given.get(name) is None]
        if missing:
            raise ValueError(f"{' and '.join(missing)} is required; write 0 for what is free")
    elif "per_request" not in given and "fees" not in given:
        raise ValueError("give input and output, or per_request, or a multiplier of the list price")
    base = _rates(given, scale)
    price = replace(
        base,
        per_request=to_nano_usd(_amount(given, "per_request")) if given.get("per_request") is not None else 0,
        fees=_fees(given.get("fees")),
    )
    price = _with_bands(price, given.get("long_context"), scale)
    return replace(price, tiers=_tiers(price, given.get("tiers"), scale))


def _rates(given: Mapping[str, Any], scale: int) -> ModelPrice:
    rates: dict[str, Any] = {
        name: to_nano_usd(_amount(given, name) * scale) for name in CLASSES if given.get(name) is not None
    }
    return ModelPrice(rates.pop("input", 0), rates.pop("output", 0), **rates)


def _with_bands(price: ModelPrice, given: object, scale: int) -> ModelPrice:
    """Each band is a whole price for requests with more input than `over`; what it does not name stays."""
    if given is None:
        return price
    if not isinstance(given, Sequence) or isinstance(given, str) or not all(isinstance(one, Mapping) for one in given):
        raise ValueError('long_context must be a list such as [{"over": 200000, "input": "5", "output": "15"}]')
    bands: list[tuple[int, ModelPrice]] = []
    below = price
    for one in sorted(given, key=lambda band: band.get("over") if _is_count(band.get("over")) else -1):
        over = one.get("over")
        unknown = sorted(set(one) - _RATE_FIELDS - {"over"})
        if unknown or not _is_count(over) or (bands and over == bands[-1][0]):
            raise ValueError(
                f"long_context takes over (tokens, each once) and prices, not {', '.join(unknown) or over}"
            )
        rates: dict[str, Any] = {
            name: to_nano_usd(_amount(one, name) * scale) for name in CLASSES if one.get(name) is not None
        }
        below = replace(below, **rates)
        bands.append((over, below))
    longer: ModelPrice | None = None
    over_next: int | None = None
    for over, band in [*reversed(bands), (0, price)]:
        longer = replace(
            band,
            long=longer,
            long_context_over=over_next,
            long_input=longer.input if longer is not None else None,
            long_output=longer.output if longer is not None else None,
        )
        over_next = over
    return longer or price


def _tiers(price: ModelPrice, given: object, scale: int) -> tuple[tuple[str, ModelPrice], ...]:
    """Other service tiers: a multiplier of the price, or prices of their own; what they do not name stays."""
    if given is None:
        return ()
    if not isinstance(given, Mapping) or not all(isinstance(one, Mapping) for one in given.values()):
        raise ValueError('tiers must be an object such as {"batch": {"multiplier": "0.5"}}')
    tiers: list[tuple[str, ModelPrice]] = []
    for name, one in sorted(given.items()):
        multiplier = _multiplier(one)
        unknown = sorted(set(one) - (_RATE_FIELDS if multiplier is None else {"multiplier"}))
        if unknown or not one:
            raise ValueError(
                f"tier {name}: give a multiplier, or prices by class; not {', '.join(unknown) or 'nothing'}"
            )
        if multiplier is not None:
            tiers.append((str(name), price_times(price, multiplier)))
            continue
        rates: dict[str, Any] = {
            part: to_nano_usd(_amount(one, part) * scale) for part in CLASSES if one.get(part) is not None
        }
        bare = replace(price, long=None, long_context_over=None, long_input=None, long_output=None)
        tiers.append((str(name), replace(bare, **rates)))
    return tuple(tiers)


def _fees(given: object) -> tuple[Fee, ...]:
    if given is None:
        return ()
    if not isinstance(given, Mapping) or set(given) - set(FEES):
        raise ValueError(f"fees must be an object of dollars for each one; known are {', '.join(FEES)}")
    # Six digits more, since a character costs less than a nano-dollar.
    return tuple([Fee(name, to_nano_usd(_amount(given, name) * 1_000_000), 1_000_000) for name in sorted(given)])


def _overlaps(found: Sequence[PriceOverride]) -> list[str]:
    """Two prices for one model that begin at the same time: nobody could say which holds."""
    seen: set[tuple[str, str, datetime | None]] = set()
    faults = []
    for one in found:
        key = (*one.key, one.effective_from)
        if key in seen:
            faults.append(f"price of {one.provider_id}/{one.model}: given twice from the same date")
        seen.add(key)
    return faults


def _name(given: Mapping[str, Any], field: str, default: str | None) -> str:
    text = given.get(field, default)
    if not isinstance(text, str) or not text.strip() or len(text) > 256 or not text.isprintable():
        raise ValueError(f"{field} must be a name of 1 to 256 characters")
    return text.strip()


def _multiplier(given: Mapping[str, Any]) -> Decimal | None:
    return _amount(given, "multiplier") if given.get("multiplier") is not None else None


def _amount(given: Mapping[str, Any], field: str) -> Decimal:
    value = given[field]
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise ValueError(f"{field} must be an amount of US dollars such as '2.50'")  # noqa: TRY004
    try:
        amount = Decimal(str(value).strip().removeprefix("$"))  # a float by its shortest text: 0.1 means a tenth
    except InvalidOperation:
        raise ValueError(f"{field} must be an amount of US dollars such as '2.50', not {str(value)[:40]!r}") from None
    if not amount.is_finite() or not 0 <= amount <= _AMOUNT_MAX_USD:
        raise ValueError(f"{field} must be between 0 and {_AMOUNT_MAX_USD}, not {str(value)[:40]}")
    return amount


def _moment(given: Mapping[str, Any], field: str) -> datetime | None:
    """A day (its beginning, UTC), or a time with its zone."""
    value = given.get(field)
    if value is None:
        return None
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime.combine(value, time(0), UTC)
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError(f"{field} must be a day such as 2026-12-01, or a time such as 2026-12-01T09:00Z") from None
    if moment.tzinfo is None:
        if len(str(value)) > 10:  # longer than a day: a time, which means nothing without a zone
            raise ValueError(f"{field} must say its zone, such as 2026-12-01T09:00Z")
        moment = moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
