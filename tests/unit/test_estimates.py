"""Learned estimates: ratios of input, lengths of output, what a demand makes of them, and how good they were."""

from __future__ import annotations

import random
from decimal import Decimal
from statistics import fmean

import msgspec
import pytest

from apikeyrouter.domain.cost.input_bound import InputBound
from apikeyrouter.domain.cost.lengths import UNKNOWN_Q95_OUTPUT_TOKENS, OutputLengths, template_of
from apikeyrouter.domain.cost.quote import quote
from apikeyrouter.domain.cost.ratios import InputRatios
from apikeyrouter.domain.cost.reconcile import Reconciler
from apikeyrouter.domain.interfaces.price_source import ModelPrice
from apikeyrouter.domain.models.call import Call, Operation, peek
from apikeyrouter.domain.models.request_intent import RequestIntent
from apikeyrouter.domain.routing.demand import Demand, demand_of
from bench.estimates import cases, judge
from bench.lengths import coverage, trace
from bench.recordings import data_folder, recordings

FOLDER = data_folder()
PRICE = ModelPrice(150_000_000, 600_000_000, context_window=128_000)


def make(operation: Operation = Operation.Chat, *, lengths: OutputLengths | None = None, **members: object) -> Demand:
    if operation is Operation.Chat:
        members.setdefault("messages", [{"role": "user", "content": "Tell me about the sea."}])
    body = msgspec.json.encode({"model": "gpt-4o-mini", **members})
    call = Call("r", operation, "gpt-4o-mini", body, peek(body), 0.0, 60.0)
    return demand_of(call, lengths or OutputLengths(), InputRatios())


# -- ratios -----------------------------------------------------------------------------------------------------------


def test_a_ratio_and_an_offset_are_learned_from_replies() -> None:
    ratios, chance = InputRatios(), random.Random(1)
    assert ratios.expected("p", "m", 1000) == 230
    for _ in range(200):
        size = chance.randrange(50, 5000)
        ratios.record("p", "m", size, 500 + size // 2)
    for size in (100, 1000, 4000):
        assert ratios.expected("p", "m", size) == pytest.approx(500 + size / 2, rel=0.05)
    assert ratios.expected("", "m", 1000) == ratios.expected("other", "m", 1000)
    assert ratios.tokens_per_byte("p", "m") == pytest.approx(0.5, rel=0.1)
    assert ratios.tokens_per_byte("p", "unseen") is None
    assert ratios.expected("p", "unseen", 1000) == 230


def test_a_ratio_that_changes_is_followed() -> None:
    ratios, chance = InputRatios(), random.Random(5)
    for number in range(400):
        size = chance.randrange(100, 3000)
        ratios.record("p", "m", size, size // 5 if number < 200 else size // 2)
    assert ratios.expected("p", "m", 1000) == pytest.approx(500, rel=0.1)


def test_one_request_in_twenty_lies_above_the_upper_estimate() -> None:
    ratios, chance = InputRatios(), random.Random(2)
    above = 0
    for number in range(4000):
        size = chance.randrange(100, 3000)
        tokens = round(size * 0.25 * chance.lognormvariate(0, 0.3)) + 1
        if number >= 1000:
            above += tokens > ratios.upper("p", "m", size)
        ratios.record("p", "m", size, tokens)
    assert 0.035 <= above / 3000 <= 0.065


def test_nonsense_teaches_no_ratio_and_memory_is_bounded() -> None:
    ratios = InputRatios()
    ratios.record("p", "m", 0, 5)
    ratios.record("p", "m", 5, 0)
    assert ratios.tokens_per_byte("p", "m") is None
    ratios.record("p", "m", 100, 50)
    for number in range(2048):
        ratios.record("", f"model-{number}", 100, 50)
    assert ratios.tokens_per_byte("p", "m") is None


def test_an_offset_is_never_below_zero_nor_a_ratio() -> None:
    falling, constant = InputRatios(), InputRatios()
    for size, tokens in ((100, 10), (200, 60), (400, 200)) * 20:
        falling.record("", "m", size, tokens)
    assert falling.expected("", "m", 1) == 1
    for size in (100, 1000, 5000, 100, 3000) * 20:
        constant.record("", "m", size, 6000 - size)
    assert constant.expected("", "m", 20_000) > constant.expected("", "m", 10)


# -- lengths ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.5, 0.9, 0.95, 0.99])
def test_learned_quantiles_are_exceeded_as_often_as_they_say(p: float) -> None:
    chance = random.Random(3)
    covered, _ = coverage([round(chance.lognormvariate(4.5, 1.0)) for _ in range(5000)], p)
    assert covered == pytest.approx(p, abs=0.02)


def test_a_change_of_habit_is_followed() -> None:
    lengths, chance = OutputLengths(), random.Random(4)
    for _ in range(2000):
        lengths.record("m", chance.randrange(10, 50))
    for _ in range(1500):
        lengths.record("m", chance.randrange(1000, 1100))
    assert 1000 <= lengths.quantile(0.95, "m") <= 1150
    assert lengths.expected("m") >= 1000
    for _ in range(4000):
        lengths.record("m", chance.randrange(10, 50))
    assert lengths.quantile(0.95, "m") <= 60


def test_the_narrowest_group_with_thirty_replies_answers() -> None:
    lengths = OutputLengths()
    assert lengths.quantile(0.95, "m") == UNKNOWN_Q95_OUTPUT_TOKENS
    assert lengths.quantile(0.95, "m", 10) == 10
    for _ in range(100):
        lengths.record("m", 10, tenant="t", template="short")
        lengths.record("m", 400, tenant="t", template="long")
    for _ in range(29):
        lengths.record("m", 400, tenant="new", template="short")
    assert lengths.quantile(0.95, "m", tenant="t", template="short") == 10
    assert 390 <= lengths.quantile(0.5, "m", tenant="t", template="long") <= 420
    assert lengths.expected("m", tenant="t", template="short") == 10
    assert lengths.expected("m", tenant="new", template="short") > 10  # asks its parent: too few of its own
    lengths.record("m", 400, tenant="new", template="short")
    assert lengths.expected("m", tenant="new", template="short") == 400
    assert lengths.quantile(0.99, "m", tenant="new", template="short") >= 390  # 30 replies bound no 0.99: the parent
    assert (lengths.knows("m", 0.95), lengths.knows("other")) == (True, False)


def test_memory_of_lengths_is_bounded_and_keeps_what_is_used() -> None:
    lengths = OutputLengths()
    for number in range(8000):
        if number % 20 == 0:
            for _ in range(30):
                lengths.record("m", 7, template="often")
        lengths.record("m", 900, template=f"once-{number}")
    assert lengths.expected("m", template="often") == 7
    assert len(lengths._cells) <= 3072


def test_extreme_lengths_are_kept_in_order() -> None:
    lengths = OutputLengths()
    for _ in range(100):
        lengths.record("m", -5)
        lengths.record("m", 2**40)
    assert lengths.quantile(0.3, "m") == 0
    assert lengths.quantile(0.9, "m") > 1_000_000


def test_requests_of_one_template_share_a_name() -> None:
    def name(body: dict[str, object]) -> str:
        seen = peek(msgspec.json.encode(body))
        return template_of(seen.messages, seen.tools)

    system = {"role": "system", "content": "Translate. " * 200}
    tools = [{"type": "function", "function": {"name": "f"}}]
    plain = name({"messages": [{"role": "user", "content": "a"}]})
    assert plain == name({}) == name({"tools": None}) == ""
    one = name({"messages": [system, {"role": "user", "content": "a"}]})
    assert one == name({"messages": [system, {"role": "user", "content": "b"}]}) != ""
    assert name({"messages": [{"content": "Translate. " * 200, "role": "system"}]}) != ""
    assert len({one, name({"messages": [system], "tools": tools}), name({"tools": tools}), plain}) == 4


@pytest.mark.data
@pytest.mark.skipif(not (FOLDER / "azure-llm-2023").is_dir(), reason="data not found, skipped")
@pytest.mark.parametrize("name", ["conv", "code"])
def test_q95_of_real_traffic_is_exceeded_by_one_reply_in_twenty(name: str) -> None:
    covered, _ = coverage(trace(FOLDER, name), 0.95)
    assert 0.93 <= covered <= 0.97


# -- demand -----------------------------------------------------------------------------------------------------------


def test_a_demand_is_ordered_from_expectation_to_bound() -> None:
    demand = make(max_tokens=100)
    expected, q95, most = demand.expected_nano_usd(PRICE), demand.q95_nano_usd(PRICE), demand.most_nano_usd(PRICE)
    assert 0 < expected <= q95 <= most
    assert demand.hold_tokens == demand.input_expected + 100
    assert demand.output_is_bounded(PRICE)


def test_every_reply_that_is_billed_is_counted() -> None:
    assert make(n=3).choices == 3
    completions = make(Operation.Completions, prompt=["a", "b"], n=1, best_of=4, max_tokens=10)
    assert completions.choices == 8
    assert completions.most_nano_usd(PRICE) >= 80 * 600
    assert [make(Operation.Completions, prompt=p).choices for p in ("a", [1, 2], [[1], [2]], [])] == [1, 1, 2, 1]
    embedding = make(Operation.Embeddings, input="x" * 100)
    assert (embedding.choices, embedding.output_expected, embedding.output_bound(PRICE)) == (0, 0, 0)


def test_a_predicted_output_may_be_billed_on_top_of_the_cap() -> None:
    predicted = make(max_tokens=10, prediction={"type": "content", "content": "y" * 400})
    assert predicted.most_nano_usd(PRICE) >= make(max_tokens=10).most_nano_usd(PRICE) + 400 * 600


def test_a_clamped_demand_fits_where_the_caller_asked_for_too_much() -> None:
    demand = make(max_tokens=5000)
    free = make(max_tokens=200).most_nano_usd(PRICE)
    assert demand.most_nano_usd(PRICE) > free
    assert demand.largest_output(PRICE, free) == 200
    clamped = demand.with_output_limit(200)
    assert (clamped.output_limit, clamped.output_bound(PRICE), demand.output_limit) == (200, 200, 5000)
    assert clamped.most_nano_usd(PRICE) == free
    assert clamped.output_expected <= 200
    assert demand.with_output_limit(9000).output_limit == 5000
    assert demand.largest_output(PRICE, 1) == 0


def test_a_demand_teaches_what_the_provider_counted() -> None:
    lengths, ratios = OutputLengths(), InputRatios()
    body = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "x" * 400}], "n": 2})
    call = Call("r", Operation.Chat, "m", body, peek(body), 0.0, 60.0, provider_id="p")
    for _ in range(40):
        demand_of(call, lengths, ratios, tenant="t").learn("p", 300, 100)
    after = demand_of(call, lengths, ratios, tenant="t")
    assert after.input_expected == pytest.approx(300, rel=0.03)
    assert after.output_expected == 100
    assert after.q95_nano_usd(PRICE, "p") < 1.6 * after.expected_nano_usd(PRICE)


def test_pictures_and_texts_from_elsewhere_teach_no_ratio() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    for members in ({"messages": [{"role": "user", "content": [picture]}]}, {"web_search_options": {"a": 1}}):
        demand = make(**members)
        before = demand._ratios.expected("p", "gpt-4o-mini", 1000)
        demand.learn("p", 30_000, 10)
        assert demand._ratios.expected("p", "gpt-4o-mini", 1000) == before


def test_a_tokenizer_may_only_lower_a_bound_that_holds() -> None:
    demand = make()
    before = demand.input_bound
    most = demand.most_nano_usd(PRICE)
    demand.improve(InputBound(before + 1, "tokenizer"))
    assert (demand.input_bound, demand.most_nano_usd(PRICE)) == (before, most)
    demand.improve(InputBound(12, "tokenizer"))
    assert demand.input_bound == 12
    lowered = demand.most_nano_usd(PRICE)
    assert demand.with_output_limit(1).most_nano_usd(PRICE) < lowered < most
    searching = make(web_search_options={"context": "low"})
    searching.improve(InputBound(1, "tokenizer"))
    assert (searching.unbounded, searching.input_bound > 1) == (("web search",), True)


# -- quotes and reconciliation ----------------------------------------------------------------------------------------


def test_a_quote_says_how_sure_it_is() -> None:
    intent = RequestIntent(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}], parameters={"n": 2})
    lengths, ratios = OutputLengths(), InputRatios()
    most = quote(intent, PRICE, lengths, bound=True, ratios=ratios)
    soft = quote(intent, PRICE, lengths, bound=False, soft=True, ratios=ratios)
    likely = quote(intent, PRICE, lengths, bound=False, ratios=ratios)
    assert [e.estimation_method for e in (most, soft, likely)] == ["upper_bound", "q95", "expected"]
    assert [e.confidence for e in (most, soft, likely)] == [1.0, 0.5, 0.5]
    assert most.amount >= soft.amount >= likely.amount > 0
    for _ in range(40):
        lengths.record("gpt-4o-mini", 20)
    soft = quote(intent, PRICE, lengths, bound=False, soft=True, ratios=ratios)
    likely = quote(intent, PRICE, lengths, bound=False, ratios=ratios)
    assert (soft.confidence, likely.confidence) == (0.95, 0.7)
    assert (soft.output_tokens_estimate, likely.output_tokens_estimate) == (40, 40)
    assert sum(likely.breakdown.values()) == likely.amount
    unpriced = quote(intent, None, lengths, bound=True)
    assert (unpriced.amount, unpriced.confidence, unpriced.estimation_method) == (0, 0.0, "unpriced")


def test_a_quote_takes_a_counted_input_and_admits_a_guess() -> None:
    said = {"role": "user", "content": "Hello " * 100}
    intent = RequestIntent(model="gpt-4o-mini", messages=[said], parameters={"max_tokens": 5})
    exact = quote(intent, PRICE, OutputLengths(), bound=True, exact=InputBound(120, "tokenizer"))
    assert (exact.input_tokens_estimate, exact.confidence) == (120, 1.0)
    searching = RequestIntent(model="gpt-4o-search-preview", messages=[said], parameters={"max_tokens": 5})
    guess = quote(searching, PRICE, OutputLengths(), bound=True, exact=InputBound(120, "tokenizer"))
    assert (guess.input_tokens_estimate > 600, guess.confidence) == (True, 0.5)


def test_reconciliation_compares_estimates_with_charges() -> None:
    reconciler, ratios = Reconciler(), InputRatios()
    ratios.record("p", "m", 1000, 230)
    reconciler.record("p", "m", estimated=900, q95=1500, bound=5000, actual=1000)
    reconciler.record("p", "m", estimated=2500, q95=2600, bound=2600, actual=2000)
    reconciler.record("p", "m", estimated=1000, q95=1000, bound=3000, actual=4000)
    reconciler.record("p", "edge", estimated=5, q95=5, bound=9, actual=9)
    reconciler.record("p", "free", estimated=5, q95=5, bound=5, actual=0)
    one, edge, free = reconciler.reconciliations(ratios)
    assert (one.requests, one.estimated, one.actual) == (3, Decimal("0.0000044"), Decimal("0.000007"))
    assert one.mean_error == pytest.approx((0.1 - 0.25 + 0.75) / 3)
    assert one.mean_absolute_error == pytest.approx((0.1 + 0.25 + 0.75) / 3)
    assert (one.above_q95, one.above_bound) == (pytest.approx(1 / 3), 1)
    assert one.input_tokens_per_byte == pytest.approx(0.23, rel=0.01)
    assert (edge.above_q95, edge.above_bound) == (1.0, 0)
    assert (free.requests, free.mean_error, free.input_tokens_per_byte) == (1, 0.0, None)
    for number in range(1024):
        reconciler.record("p", f"model-{number}", 1, 1, 1, 1)
    assert len(reconciler.reconciliations()) == 1024


@pytest.mark.data
@pytest.mark.skipif(not (FOLDER / "exchanges").is_dir(), reason="data not found, skipped")
def test_recorded_exchanges_cost_no_more_than_their_holds_and_about_what_was_expected() -> None:
    figures = judge(cases(recordings(FOLDER)))
    total = figures["all"]
    assert (total.inputs_above_bound, total.holds_below_cost) == (0, 0)
    assert total.priced >= 300
    assert fmean(total.cost_errors[1]) <= 0.15


# -- the same call for other models -----------------------------------------------------------------------------------


def test_a_demand_has_the_sizes_of_each_model_that_may_serve_it() -> None:
    lengths = OutputLengths()
    for _ in range(40):
        lengths.record("gpt-4o", 900)
    asked = make(lengths=lengths)
    other = asked.of("gpt-4o")
    assert asked.of("gpt-4o-mini") is asked
    assert asked.of("gpt-4o") is other
    assert (other.model, other.output_expected) == ("gpt-4o", 900)
    assert asked.output_expected == 256
    assert asked.sizes is not None
    assert other.sizes is None


def test_a_bound_of_the_input_is_that_of_the_model_that_serves() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    messages = [{"role": "user", "content": [picture]}]
    asked = make(messages=messages)
    body = asked.of("claude-sonnet-4-5")
    raw = msgspec.json.encode({"model": "claude-sonnet-4-5", "messages": messages})
    call = Call("r", Operation.Chat, "claude-sonnet-4-5", raw, peek(raw), 0.0, 60.0)
    alone = demand_of(call, OutputLengths(), InputRatios())
    assert body.input_bound == alone.input_bound != asked.input_bound
    assert body.most_nano_usd(PRICE) == alone.most_nano_usd(PRICE)


def test_a_lower_cap_holds_for_every_model_and_keeps_exact_counts() -> None:
    asked = make()
    other = asked.of("gpt-4o")
    other.improve(InputBound(7, "tokenizer", (), 30))
    capped = asked.with_output_limit(10)
    assert capped.of("gpt-4o").output_limit == 10
    assert capped.of("gpt-4o").output_expected == 10
    assert capped.of("gpt-4o").input_bound == 7
    assert other.output_limit is None
