"""Our prices beside an independent oracle's: recorded usage bodies, each priced by several providers' rules.

`python -m bench.money_oracle [FILE.jsonl ...]`; default: `usages/dev.jsonl` of the shared data. A line holds a `body`,
its `model`, and under `extracted` the oracle's exact `input_price` and `output_price` in dollars for each (provider,
flavor) that can read the body. Ours equals the oracle's when the cost is its sum, rounded up once to a nano-dollar,
and each side is its own.

A difference is explained when a dated row of the price list ended the oracle's price (an old request keeps its price:
asked for that day, ours is equal), or when the oracle's list or reading has since been corrected (CORRECTED, one by
one). Anything else is a difference, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import ceil
from pathlib import Path
from typing import Any

from apikeyrouter.domain.cost.prices import INPUT_CLASSES, OUTPUT_CLASSES, cost_breakdown, cost_nano_usd
from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.cost.usage_dialects import Dialect, usage_of
from apikeyrouter.domain.interfaces.price_source import ModelPrice
from apikeyrouter.infrastructure.pricing.catalogue import GenaiPriceSource

__all__ = ["Tally", "compare_files", "dialect_for", "main", "shared_usages"]

_VERTEX = (
    "Vertex bills Claude Sonnet 4.5 at long-context rates above 200K input tokens; the oracle's list lacked the band "
    "(cloud.google.com/vertex-ai/generative-ai/pricing#partner-models)"
)
_AZURE = (
    "the oracle did not read cache writes of Azure's Responses yet (it reads those of OpenAI's), and they are billed"
)

CORRECTED: tuple[tuple[str, str, Callable[[Usage], bool], str], ...] = (
    ("google", "claude-sonnet-4-5", lambda usage: usage.input_tokens > 200_000, _VERTEX),
    ("azure", "gpt-5", lambda usage: usage.cache_write_tokens > 0, _AZURE),
)
"""(provider, model prefix, usage for which it holds, what was corrected without a date)."""

_BY_FLAVOR = {
    "anthropic": Dialect.Anthropic,
    "embeddings": Dialect.Embeddings,
    "realtime": Dialect.Realtime,
    "images": Dialect.Images,
    "live": Dialect.Seconds,
    "tokens": Dialect.CohereTokens,
    "ocr": Dialect.DocumentPages,
    "ocr_annotated": Dialect.AnnotatedPages,
    "usage-event": Dialect.Cursor,
}
_BY_PROVIDER = {
    ("anthropic", "default"): Dialect.Anthropic,
    ("minimax", "default"): Dialect.Anthropic,
    ("aws", "default"): Dialect.Bedrock,
    ("google", "default"): Dialect.Gemini,
    ("cohere", "default"): Dialect.Cohere,
    ("cohere", "embeddings"): Dialect.Cohere,
    ("perplexity", "default"): Dialect.Perplexity,
    ("perplexity", "responses"): Dialect.Perplexity,
    ("x-ai", "default"): Dialect.Xai,
    ("x-ai", "chat"): Dialect.Xai,
}

_NANO_DOLLAR = Decimal("1e-9")
_FIRST_DAY = datetime(2023, 1, 1, 12, tzinfo=UTC)


def dialect_for(provider_id: str, flavor: str) -> Dialect:
    """The dialect that the oracle calls `flavor` at `provider_id`."""
    return _BY_PROVIDER.get((provider_id, flavor)) or _BY_FLAVOR.get(flavor) or Dialect.OpenAI


@dataclass(slots=True)
class Tally:
    """What a comparison found. `bodies_equal`: bodies with a price whose prices are all equal today;
    `bodies_explained`: equal, or explained."""

    bodies: int = 0
    bodies_priced: int = 0
    bodies_equal: int = 0
    bodies_explained: int = 0
    today: int = 0
    explained: Counter[str] = field(default_factory=Counter)
    different: list[str] = field(default_factory=list)
    only_ours: int = 0

    @property
    def prices(self) -> int:
        """How many prices were compared."""
        return self.today + sum(self.explained.values()) + len(self.different)

    def report(self) -> Iterator[str]:
        """Lines for people."""
        unpriced = self.bodies - self.bodies_priced
        yield (
            f"{self.bodies_equal + self.bodies_explained + unpriced} of {self.bodies} equal: {self.bodies_equal} to "
            f"the nano-dollar today, {self.bodies_explained} with an explained difference, {unpriced} that the oracle "
            "has no price for"
        )
        yield (
            f"{self.prices} prices: {self.today} equal to the nano-dollar today, "
            f"{sum(self.explained.values())} explained, {len(self.different)} different"
        )
        for reason, count in self.explained.most_common():
            yield f"  {count:4d}  {reason}"
        yield f"{self.only_ours} prices that the oracle's older list did not have"
        yield from self.different


def compare_files(paths: Sequence[Path], source: GenaiPriceSource, now: datetime) -> Tally:
    """Prices every body of the files at `now` and compares."""
    tally = Tally()
    for path in paths:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                _compare_row(json.loads(line), source, now, tally)
    return tally


def _compare_row(row: Mapping[str, Any], source: GenaiPriceSource, now: datetime, tally: Tally) -> None:
    body = row["body"]
    priced, today, bad = 0, tally.today, len(tally.different)
    for group in row["extracted"]:
        for oracle in group["extractors"]:
            provider, flavor = oracle["provider_id"], oracle["api_flavor"]
            model = row.get("model") or _model_in(body)
            usage = _usage(provider, flavor, body)
            if "input_price" not in oracle:
                price = source.price_at(provider, model, now) if model else None
                tally.only_ours += price is not None and price.by_tokens
                continue
            priced += 1
            verdict = _verdict(oracle, provider, model, usage, source, now)
            if verdict == "":
                tally.today += 1
            elif verdict.startswith("!"):
                tally.different.append(f"DIFFERENT {provider} {flavor} {model}: {verdict[1:]} ({body.get('file', '')})")
            else:
                tally.explained[verdict] += 1
    tally.bodies += 1
    tally.bodies_priced += priced > 0
    if priced and len(tally.different) == bad:
        equal = tally.today == today + priced
        tally.bodies_equal += equal
        tally.bodies_explained += not equal


def _usage(provider: str, flavor: str, body: Mapping[str, Any]) -> Usage | None:
    if provider == "cloudflare" and isinstance(body.get("result"), Mapping):
        body = body["result"]
    usage = usage_of(dialect_for(provider, flavor), body)
    if usage is not None:
        usage.service_tier = ""  # the oracle prices the standard tier
    return usage


def _model_in(body: Mapping[str, Any]) -> str:
    return str(body.get("model") or body.get("modelVersion") or "")


def _verdict(
    oracle: Mapping[str, str], provider: str, model: str, usage: Usage | None, source: GenaiPriceSource, now: datetime
) -> str:
    """ "" when equal today, an explanation when equal by it, "!..." otherwise."""
    if usage is None:
        return "!we read no usage"
    at, first = now, source.price_at(provider, model, now)
    price = first
    while price is not None and at > _FIRST_DAY:
        if _equal(price, usage, oracle):
            return "" if at == now else f"{provider} {model}: its price changed after {at:%Y-%m-%d}"
        if _equal_at_another_hour(source, provider, model, usage, oracle, at):
            return f"{provider} {model}: its price depends on the hour"
        if price.since is None:
            break
        at = datetime(price.since.year, price.since.month, price.since.day, 12, tzinfo=UTC) - timedelta(days=1)
        price = source.price_at(provider, model, at)
    for who, prefix, holds, why in CORRECTED:
        if provider == who and model.startswith(prefix) and holds(usage):
            return f"{provider} {model}: {why}"
    if first is None:
        return "!we know no price"
    return f"!ours {cost_nano_usd(first, usage)} nano-USD, the oracle's {_total(oracle) / _NANO_DOLLAR:f}"


def _equal_at_another_hour(
    source: GenaiPriceSource, provider: str, model: str, usage: Usage, oracle: Mapping[str, str], at: datetime
) -> bool:
    """Some prices depend on the hour, and nobody wrote down the hour of the oracle's."""
    prices = [source.price_at(provider, model, at.replace(hour=hour)) for hour in range(24)]
    return any(price is not None and _equal(price, usage, oracle) for price in prices)


def _equal(price: ModelPrice, usage: Usage, oracle: Mapping[str, str]) -> bool:
    """The whole rounded up once, and both sides to less than a nano-dollar."""
    parts = cost_breakdown(price, usage)
    side_in = sum([amount for name, amount in parts.items() if name in INPUT_CLASSES], Decimal(0))
    side_out = sum([amount for name, amount in parts.items() if name in OUTPUT_CLASSES], Decimal(0))
    return (
        abs(side_in - Decimal(oracle["input_price"])) < _NANO_DOLLAR
        and abs(side_out - Decimal(oracle["output_price"])) < _NANO_DOLLAR
        and cost_nano_usd(price, usage) == ceil(_total(oracle) / _NANO_DOLLAR)
    )


def _total(oracle: Mapping[str, str]) -> Decimal:
    return Decimal(oracle.get("total_price") or Decimal(oracle["input_price"]) + Decimal(oracle["output_price"]))


def shared_usages() -> Path:
    """Where the shared bodies are, whether or not they exist."""
    root = os.environ.get("APIKEYROUTER_DATA") or str(Path(__file__).resolve().parents[2] / "shared" / "data")
    return Path(root) / "usages" / "dev.jsonl"


def main(argv: list[str]) -> int:
    """Compares and prints; 1 when a difference is not explained."""
    parser = argparse.ArgumentParser(
        prog="bench.money_oracle", description="Our prices beside an independent oracle's."
    )
    parser.add_argument("files", nargs="*", type=Path, help="default: the shared usages/dev.jsonl")
    paths = parser.parse_args(argv).files or [shared_usages()]
    missing = [path for path in paths if not path.exists()]
    if missing:
        print(f"data not found, skipped: {', '.join(map(str, missing))}")
        return 0
    tally = compare_files(paths, GenaiPriceSource(), datetime.now(UTC))
    print("\n".join(tally.report()))
    return 1 if tally.different else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
