"""Prices of the operator's own: what may be written, which holds when, and that every process has them."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from apikeyrouter.domain.components.price_keeper import SETTING, PriceKeeper
from apikeyrouter.domain.cost.overrides import read_override, read_overrides
from apikeyrouter.domain.cost.price_book import PriceBook
from apikeyrouter.domain.cost.prices import cost_breakdown, cost_nano_usd
from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.errors import ConfigurationError, StateStoreError
from apikeyrouter.domain.interfaces.price_source import ModelPrice
from apikeyrouter.infrastructure.config.settings import RouterSettings
from apikeyrouter.infrastructure.pricing.catalogue import GenaiPriceSource
from apikeyrouter.infrastructure.state_store.memory_store import MemoryStateStore
from apikeyrouter.testing.virtual_time import ManualClock
from tests.support.price_lists import StaticPriceSource

GIVEN: dict[str, Any] = {"provider": "p", "model": "m", "unit": "per_1m", "input": "2.50", "output": "10"}
LISTED = ModelPrice(1_000_000_000, 4_000_000_000, cached_input=500_000_000, context_window=128_000, source="list")


def given(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**GIVEN, **changes}.items() if value is not None}


def test_the_same_price_in_both_units_is_the_same_number() -> None:
    per_1m = read_override(GIVEN).price
    per_1k = read_override(given(unit="per_1k", input="0.0025", output=0.01)).price
    assert per_1m == per_1k == ModelPrice(2_500_000_000, 10_000_000_000)


def test_what_is_finer_than_a_nano_dollar_is_rounded_up() -> None:
    price = read_override(given(input="0.0000000001")).price
    assert price is not None
    assert price.input == 1


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"unit": None}, "unit must say"),
        ({"unit": "per_token"}, "unit must say"),
        ({"output": None}, "output is required"),
        ({"input": "-1"}, "input must be between 0"),
        ({"input": "nan"}, "input must be between 0"),
        ({"input": "Infinity"}, "input must be between 0"),
        ({"input": True}, "input must be an amount"),
        ({"input": "2,50"}, "input must be an amount"),
        ({"input": "2000000"}, "input must be between 0"),
        ({"inptu": "1"}, "unknown field inptu"),
        ({"model": ""}, "model must be a name"),
        ({"provider": 7}, "provider must be a name"),
        ({"multiplier": "0.5"}, "leave input, output, unit out"),
        ({"effective_from": "soon"}, "effective_from must be a day"),
        ({"effective_from": "2026-12-01T09:00"}, "must say its zone"),
        ({"effective_from": "2026-12-02", "effective_until": "2026-12-01"}, "effective_until must be later"),
        ({"long_context": {"over": 5}}, "long_context must be a list"),
        ({"long_context": [{"over": 0, "input": "1"}]}, "long_context takes over"),
        ({"long_context": [{"over": 5, "inptu": "1"}]}, "inptu"),
        ({"long_context": [{"over": 5, "input": "1"}, {"over": 5, "input": "2"}]}, "long_context takes over"),
        ({"tiers": {"batch": "0.5"}}, "tiers must be an object"),
        ({"tiers": {"batch": {}}}, "tier batch"),
        ({"tiers": {"batch": {"multiplier": "0.5", "input": "1"}}}, "tier batch"),
        ({"fees": {"coffee": "1"}}, "fees must be an object"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read_override(given(**wrong))


def test_a_price_needs_something_that_costs() -> None:
    with pytest.raises(ValueError, match="give input and output"):
        read_override({"model": "m"})
    with pytest.raises(ValueError, match="expected an object"):
        read_override(["m"])


def test_all_faults_of_a_list_are_told_with_their_places() -> None:
    with pytest.raises(ValueError, match=r"price 1: unit(.|\n)*price 3: model(.|\n)*p/m: given twice") as caught:
        read_overrides([given(unit=None), GIVEN, given(model=None), GIVEN])
    assert len(str(caught.value).splitlines()) == 3
    with pytest.raises(ValueError, match="expected a list of prices"):
        read_overrides("openai")


def test_prices_may_be_given_by_provider_and_model() -> None:
    rates = {"unit": "per_1m", "input": 1, "output": 2}
    named, anywhere = read_overrides({"openai/org/m": rates, "m": rates})
    assert (named.key, anywhere.key) == (("openai", "org/m"), ("*", "m"))


def test_bands_and_tiers_and_fees_are_charged() -> None:
    price = read_override(
        given(
            cached_input="1",
            long_context=[{"over": 2000, "input": "9"}, {"over": 1000, "input": "5", "output": "15"}],
            tiers={"batch": {"multiplier": "0.5"}, "priority": {"input": "4"}},
            fees={"web_searches": "0.01"},
            per_request="0.001",
        )
    ).price
    assert price is not None

    def usd(usage: Usage) -> Decimal:
        return Decimal(cost_nano_usd(price, usage)).scaleb(-9)

    assert usd(Usage(1000, 100, cached_input_tokens=400)) == Decimal("0.0015") + Decimal("0.0014") + Decimal("0.001")
    assert usd(Usage(1001, 100)) == Decimal("0.005005") + Decimal("0.0015") + Decimal("0.001")
    assert usd(Usage(2001, 100)) == Decimal("0.018009") + Decimal("0.0015") + Decimal("0.001")
    assert usd(Usage(1001, 100, service_tier="batch")) == Decimal("0.0025025") + Decimal("0.00075") + Decimal("0.0005")
    assert usd(Usage(1000, 100, service_tier="priority")) == Decimal("0.004") + Decimal("0.001") + Decimal("0.001")
    assert usd(Usage(1000, 100, service_tier="unheard-of")) == usd(Usage(1000, 100))
    searched = Usage(0, 0, counts={"web_searches": 3})
    assert cost_breakdown(price, searched) == {"web_searches": Decimal("0.03"), "request": Decimal("0.001")}
    assert usd(searched) == Decimal("0.031")


def test_a_nearer_price_holds_and_the_api_goes_before_the_configuration() -> None:
    def row(provider: str, model: str, usd: int) -> Any:
        return read_override({"provider": provider, "model": model, "unit": "per_1m", "input": usd, "output": usd})

    book = PriceBook(StaticPriceSource({}), configured=[row("*", "m*", 1), row("p", "m*", 2), row("*", "mm", 3)])

    def dollars(provider: str, model: str) -> int | None:
        price = book.resolve(provider, model, {})
        return None if price is None else price.input // 10**9

    assert [dollars("q", "m1"), dollars("p", "m1"), dollars("p", "mm"), dollars("p", "x")] == [1, 2, 3, None]
    book.load([row("*", "mm", 4), row("p", "m1", 5)])
    assert [dollars("q", "mm"), dollars("p", "m1")] == [4, 5]
    book.load([row("*", "m*", 6)])
    assert [dollars("q", "m1"), dollars("p", "m2")] == [6, 2]  # nearer goes before the API
    assert [dollars("q", "mm"), dollars("p", "m1")] == [3, 2]


def test_a_dated_price_holds_from_its_date_and_old_requests_keep_theirs() -> None:
    clock = ManualClock(utc=datetime(2026, 11, 30, 23, 0, tzinfo=UTC))
    rows = [given(effective_from="2026-12-01", effective_until="2027-01-01"), given(multiplier="2", unit=None)]
    rows[1] = {"provider": "p", "model": "m", "multiplier": "2"}
    book = PriceBook(StaticPriceSource({"m": LISTED}), configured=read_overrides(rows), clock=clock)
    before = book.resolve("p", "m", {})
    assert before is not None
    assert (before.input, before.cached_input, before.source) == (2 * 10**9, 10**9, "configuration: 2 x list")
    assert book.changes_at_s() == clock.monotonic_s() + 3600
    clock.advance(3600)
    after = book.resolve("p", "m", {})
    assert after is not None
    assert (after.input, after.since, after.context_window) == (2_500_000_000, date(2026, 12, 1), 128_000)
    assert book.resolve("p", "m", {}, clock.utc_now() - timedelta(seconds=1)) == before
    assert book.resolve("p", "m", {}, datetime(2027, 1, 1, tzinfo=UTC)) == before


def test_the_price_of_a_key_is_laid_over_the_operators() -> None:
    book = PriceBook(StaticPriceSource({"m": LISTED}), configured=[read_override(given(fees={"web_searches": "1"}))])
    price = book.resolve("p", "m", {"cost_multiplier": "0.1"})
    assert price is not None
    assert (price.input, price.output, price.fees[0].nano_usd) == (250_000_000, 1_000_000_000, 10**14)


def test_what_is_not_sold_by_tokens_has_no_price_for_budgets() -> None:
    book = PriceBook(GenaiPriceSource())
    assert book.resolve("openai", "whisper-1", {}) is None
    listed = book.listed("openai", "whisper-1")
    assert listed is not None
    assert cost_nano_usd(listed, Usage(counts={"audio_seconds": 90})) == 9_000_000  # $0.006 a minute


def test_groq_bills_ten_seconds_of_audio_at_least() -> None:
    price = GenaiPriceSource().price("groq", "whisper-large-v3")
    assert price is not None
    costs = [cost_nano_usd(price, Usage(counts={"audio_seconds": seconds})) for seconds in (0, 1, 10, 20)]
    assert costs[0] == 0
    assert costs[1] == costs[2] > 0
    assert 0 <= 2 * costs[2] - costs[3] <= 1  # rounded up once each


def test_searches_that_the_maker_runs_are_not_charged_at_other_hosts() -> None:
    source = GenaiPriceSource()
    own, hosted = source.price("anthropic", "claude-sonnet-4-0"), source.price("azure", "claude-sonnet-4-0")
    assert own is not None
    assert hosted is not None
    assert own.input == hosted.input
    assert ([fee.what for fee in own.fees], hosted.fees, hosted.tiers) == (["web_searches"], (), ())


def test_settings_read_prices_from_json_and_files(tmp_path: Path) -> None:
    toml = tmp_path / "prices.toml"
    toml.write_text(
        '[[prices]]\nprovider = "q"\nmodel = "n"\nunit = "per_1k"\ninput = "0.001"\noutput = 0.002\n'
        "effective_from = 2026-12-01\n"
    )
    settings = RouterSettings(prices=json.dumps([GIVEN]), prices_file=toml)
    first, second = settings.price_overrides
    assert (first.key, second.key) == (("p", "m"), ("q", "n"))
    assert second.price == ModelPrice(1_000_000_000, 2_000_000_000)
    assert second.effective_from == datetime(2026, 12, 1, tzinfo=UTC)
    listed = tmp_path / "prices.json"
    listed.write_text(json.dumps({"p/m": {"multiplier": "0.8"}}))
    assert RouterSettings(prices_file=listed).price_overrides[0].multiplier == Decimal("0.8")


def test_faults_in_prices_are_told_with_those_of_other_settings(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RouterSettings(attempts_max=0, prices='[{"model": "m"}]', prices_file=tmp_path / "none.json")
    told = " ".join(caught.value.faults)
    assert "prices: price 1: give input and output" in told
    assert "cannot be read: No such file" in told
    assert "attempts_max" in told
    broken = tmp_path / "broken.toml"
    broken.write_text("[[prices")
    for text, why in (("{", "is not JSON"), ("7", "expected a list")):
        with pytest.raises(ConfigurationError, match=why):
            RouterSettings(prices=text)
    with pytest.raises(ConfigurationError, match="is not TOML"):
        RouterSettings(prices_file=broken)


def test_the_environment_names_prices_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APIKEYROUTER_PRICES", json.dumps([GIVEN]))
    assert RouterSettings().price_overrides[0].key == ("p", "m")


class Bench:
    """Two processes on one store."""

    def __init__(self) -> None:
        self.clock = ManualClock(utc=datetime(2026, 11, 30, 23, 0, tzinfo=UTC))
        self.store = MemoryStateStore()
        self.one, self.other = (PriceKeeper(StaticPriceSource({"m": LISTED}), self.store, self.clock) for _ in range(2))
        self.changes = 0
        self.told: list[Any] = []
        for keeper in (self.one, self.other):
            keeper.follow(lambda _, told: self.told.append(told), self.changed)

    def changed(self) -> None:
        self.changes += 1


async def test_a_price_that_one_process_sets_holds_in_the_other() -> None:
    bench = Bench()
    await bench.store.open()
    await bench.one.open()
    await bench.other.open()
    await bench.one.set_price(GIVEN)
    await bench.told[1](frozenset({"something else"}))
    assert bench.other.price("p", "m") == LISTED
    await bench.told[1](frozenset({SETTING}))
    assert bench.other.price("p", "m") == bench.one.price("p", "m") != LISTED
    await bench.other.set_price(given(model="n"))
    await bench.one.set_price(given(model="o"))  # reads what the other has written before it writes
    assert sorted(row["model"] for row in json.loads(await bench.store.get_setting(SETTING) or b"")) == ["m", "n", "o"]
    assert await bench.one.remove_price("p", "m") == 1
    assert await bench.one.remove_price("p", "m") == 0
    assert bench.one.price("p", "m") == LISTED
    assert bench.changes >= 3
    await bench.other.set_price(given(model="q"))
    await bench.told[0](frozenset({SETTING}))
    assert bench.one.price("p", "q") is not None
    await bench.told[1](None)
    assert bench.other.price("p", "m") == LISTED


async def test_a_bad_price_changes_nothing() -> None:
    bench = Bench()
    await bench.store.open()
    with pytest.raises(ConfigurationError, match="unit must say"):
        await bench.one.set_price(given(unit=None))
    assert await bench.store.get_setting(SETTING) is None
    await bench.store.put_setting(SETTING, b'[{"model": "m"}]')
    with pytest.raises(StateStoreError, match="cannot be read"):
        await bench.one.open()


class Unwritable(MemoryStateStore):
    async def put_setting(
        self, name: str, value: bytes, *, only_if_absent: bool = False, only_if: bytes | None = None
    ) -> bytes:
        raise StateStoreError("the disk is full")


async def test_a_price_that_could_not_be_stored_does_not_hold() -> None:
    keeper = PriceKeeper(StaticPriceSource({"m": LISTED}), Unwritable(), ManualClock())
    with pytest.raises(StateStoreError):
        await keeper.set_price(GIVEN)
    assert keeper.price("p", "m") == LISTED


async def test_a_date_that_passes_is_told_once() -> None:
    bench = Bench()
    await bench.store.open()
    await bench.one.set_price(given(effective_from="2026-12-01"))
    before = bench.changes
    for _ in range(3):
        bench.one.tick()
    assert bench.changes == before
    bench.clock.advance(3600)
    for _ in range(4):
        bench.one.tick()
    assert bench.changes == before + 1
