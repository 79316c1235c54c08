"""Clamping: the largest output that some money pays for, and the edited body that asks for no more."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apikeyrouter.domain.cost.estimate import prices_of_tier, upper_bound_nano_usd
from apikeyrouter.domain.cost.fit import UNLIMITED_OUTPUT_TOKENS, cap_member, largest_output_tokens, with_max_tokens
from apikeyrouter.domain.cost.prices import cost_nano_usd
from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.interfaces.price_source import ModelPrice
from apikeyrouter.domain.models.call import peek
from tests.property.test_cost_bounds import prices, usages

CAPS = ("max_tokens", "max_completion_tokens")


@settings(max_examples=300, deadline=None)
@given(prices(), st.integers(0, 1000), st.integers(1, 4), st.integers(0, 10**12), st.integers(0, 20))
def test_the_largest_output_fits_and_one_token_more_does_not(
    price: ModelPrice, input_bound: int, choices: int, free: int, extra: int
) -> None:
    def bound(each: int) -> int:
        return upper_bound_nano_usd(price, input_bound, choices * each + extra)

    largest = largest_output_tokens(price, input_bound, choices, free, extra_output=extra)
    if bound(0) > free:
        assert largest == 0
        return
    assert bound(largest) <= free
    assert largest == UNLIMITED_OUTPUT_TOKENS or bound(largest + 1) > free


values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=6) | st.sampled_from(['"max_tokens":5', "}{]["]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", *CAPS]) | st.text(max_size=3), inner)
    ),
    max_leaves=6,
)
others = st.dictionaries(st.text(max_size=5).filter(lambda name: name not in CAPS), values, max_size=4)
layouts = st.sampled_from([(",", ":", None), (", ", ": ", None), (",", ": ", 2)])


@settings(max_examples=300, deadline=None)
@given(
    others,
    st.dictionaries(st.sampled_from(CAPS), st.none() | st.integers(1, 500)),
    st.integers(1, 400),
    layouts,
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_only_the_callers_cap_changes(others, caps, limit, layout, escaped, random) -> None:  # type: ignore[no-untyped-def]
    members = [*others.items(), *caps.items()]
    random.shuffle(members)
    comma, colon, indent = layout
    text = json.dumps(dict(members), separators=(comma, colon), indent=indent, ensure_ascii=escaped)
    body = text.encode("utf-8", "surrogatepass")
    edited = json.loads(with_max_tokens(body, peek(b"{}"), limit, model="m"))
    given_caps = {name: value for name, value in caps.items() if value is not None}
    expected = dict(members)
    if given_caps:
        expected |= {name: min(value, limit) for name, value in given_caps.items()}
    else:
        expected["max_tokens"] = limit
    assert edited == expected
    assert [name for name in edited if name in dict(members)] == [name for name, _ in members]


def test_a_cap_one_above_the_limit_is_lowered_and_one_at_it_stays() -> None:
    assert with_max_tokens(b'{"max_tokens":8}', peek(b"{}"), 7) == b'{"max_tokens":7}'
    assert with_max_tokens(b'{"max_tokens":7.0}', peek(b"{}"), 7) == b'{"max_tokens":7.0}'


def test_the_dearest_class_is_within_the_bound() -> None:
    for name in ("citation", "image_output", "video_output", "audio_output", "reasoning"):
        assert upper_bound_nano_usd(replace(ModelPrice(1, 1), **{name: 10**6}), 0, 5) == 5
    for name in ("image_input", "cached_image", "cached_audio", "video_input", "audio_input", "cache_write_1h"):
        assert upper_bound_nano_usd(replace(ModelPrice(1, 1), **{name: 10**6}), 5, 0) == 5


def test_every_other_byte_stays_as_it_was() -> None:
    body = b'{ "seed":1.0E+2,"max_tokens" : 900 ,"x":{"max_tokens":900},"s":"\\u00e9\\"max_tokens\\":1" }'
    assert with_max_tokens(body, peek(b"{}"), 7) == body.replace(b": 900 ,", b": 7 ,")


def test_of_a_cap_given_twice_both_are_lowered() -> None:
    body = b'{"max_tokens":5,"max\\u005ftokens":900,"max_tokens":800}'
    assert with_max_tokens(body, peek(b"{}"), 7) == b'{"max_tokens":5,"max\\u005ftokens":7,"max_tokens":7}'


def test_a_missing_cap_is_added_under_the_name_that_the_model_takes() -> None:
    assert with_max_tokens(b" {}", peek(b"{}"), 7) == b' {"max_tokens":7}'
    assert with_max_tokens(b'{"a":1}', peek(b'{"model":"o3-mini"}'), 7) == b'{"max_completion_tokens":7,"a":1}'
    assert with_max_tokens(b'{"max_tokens":null}', peek(b"{}"), 7, model="gpt-5") == (
        b'{"max_completion_tokens":7,"max_tokens":null}'
    )
    assert [cap_member(name) for name in ("openai/gpt-5.1", "gpt-4o", "o1", "olmo", "gpt-10")] == [
        "max_completion_tokens",
        "max_tokens",
        "max_completion_tokens",
        "max_tokens",
        "max_completion_tokens",
    ]


@pytest.mark.parametrize("body", [b"[]", b"", b'{"a"', b'{"a":1', b'{"a":{', b'{"a":,}', b'{"max_tokens":"x"}'])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a JSON object|not a number"):
        with_max_tokens(body, peek(b"{}"), 7)


@st.composite
def dear_prices(draw: st.DrawFn) -> ModelPrice:
    """Prices with every class and a tier."""
    rate = st.none() | st.integers(0, 10**11)
    classes = {
        name: draw(rate)
        for name in (
            "cached_audio",
            "image_input",
            "cached_image",
            "image_output",
            "video_input",
            "video_output",
            "citation",
        )
    }
    own = replace(draw(prices(depth=1)), **classes)
    return replace(own, tiers=(("priority", replace(draw(prices(depth=0)), **{**classes, "citation": draw(rate)})),))


@st.composite
def rich_usages(draw: st.DrawFn) -> Usage:
    """Usage with every class, each a part of its total."""
    usage = draw(usages())
    usage.cached_audio_tokens = draw(st.integers(0, usage.cached_input_tokens))
    usage.cached_image_tokens = draw(st.integers(0, usage.cached_input_tokens - usage.cached_audio_tokens))
    usage.image_input_tokens = draw(st.integers(0, usage.input_tokens))
    usage.video_input_tokens = draw(st.integers(0, usage.input_tokens))
    usage.image_output_tokens = draw(st.integers(0, usage.output_tokens))
    usage.video_output_tokens = draw(st.integers(0, usage.output_tokens))
    usage.citation_tokens = draw(st.integers(0, usage.output_tokens))
    usage.service_tier = draw(st.sampled_from(["", "priority", "flex"]))
    return usage


@settings(max_examples=300, deadline=None)
@given(dear_prices(), rich_usages(), st.integers(0, 40))
def test_no_class_and_no_tier_costs_more_than_the_bound(price: ModelPrice, usage: Usage, spare: int) -> None:
    bounds = [
        upper_bound_nano_usd(one, usage.input_tokens + spare, usage.output_tokens + spare)
        for one in prices_of_tier(price, usage.service_tier)
    ]
    assert cost_nano_usd(price, usage) <= max(bounds)
