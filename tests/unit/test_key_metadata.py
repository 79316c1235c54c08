"""What may be registered, and how a refusal reads."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from apikeyrouter.domain.errors import KeyRegistrationError
from apikeyrouter.domain.keys.metadata import (
    MATERIAL_LENGTH_MAX,
    clean_label,
    clean_material,
    clean_metadata,
    key_terms,
)

MATERIAL = "sk-" + "m" * 20


@pytest.mark.parametrize("given", ["sk-key-1", "  sk-key-1\n", "\tsk-key-1\r\n"])
def test_short_material_is_accepted_and_white_space_around_it_cut_off(given: str) -> None:
    assert clean_material(given) == "sk-key-1"


@pytest.mark.parametrize(
    "pasted",
    [
        '"sk-abc"', " 'sk-abc'\n", "Bearer sk-abc", "Authorization: bearer sk-abc", "OPENAI_API_KEY=sk-abc",
        'export OPENAI_API_KEY_2="sk-abc"\r\n', "MISTRAL_TOKEN = sk-abc", '"Bearer sk-abc"',
    ],
)  # fmt: skip
def test_what_is_pasted_along_with_a_key_is_left_out(pasted: str) -> None:
    assert clean_material(pasted) == "sk-abc"


@pytest.mark.parametrize("material", ["QUtFWQ==", "AKEYB==", "a=b", "K=v", '"', "user:pass=word", "bearer-token"])
def test_a_key_that_only_looks_like_more_is_kept_as_it_is(material: str) -> None:
    assert clean_material(material) == material


def test_an_address_is_no_key() -> None:
    with pytest.raises(KeyRegistrationError, match="is an address"):
        clean_material("https://api.openai.com/v1")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (None, "must be text, not NoneType"),
        (b"sk-key-1", "must be text, not bytes"),
        ("", "empty"),
        (" \n ", "empty"),
        ("sk-one two", "white space at position 7"),
        ("sk-one\nsk-two", "white space at position 7"),
        ("sk-\x00one", "a control character at position 4"),
        ("sk-\x7fone", "a control character at position 4"),
        ("sk-\u200bone", "beyond ASCII at position 4"),
        ("sk-ключ", "beyond ASCII"),
        ("k" * (MATERIAL_LENGTH_MAX + 1), "8193 characters"),
    ],
)
def test_material_that_no_header_can_carry_is_refused_without_quoting_it(given: Any, says: str) -> None:
    with pytest.raises(KeyRegistrationError, match=says) as refused:
        clean_material(given)
    for part in ("two", "sk-", "ключ", "kkkk"):
        assert part not in str(refused.value)


def test_metadata_is_copied_into_what_json_can_hold() -> None:
    given = {"cost_per_1k": Decimal("0.01"), "tags": ("a", "b"), "weight": 2, "nested": {"x": [1, None]}}
    clean = clean_metadata(given, MATERIAL)
    assert clean == {"cost_per_1k": "0.01", "tags": ["a", "b"], "weight": 2, "nested": {"x": [1, None]}}
    clean["tags"].append("c")
    assert given["tags"] == ("a", "b")


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ([1], "must be a mapping"),
        ({"x": object()}, "what JSON can hold"),
        ({"weight": 0}, "above zero"),
        ({"weight": "heavy"}, "'weight' must be a number"),
        ({"weight": True}, "'weight' must be a number"),
        ({"weight": float("inf")}, "finite numbers"),
        ({"weight": "1e400"}, "weight"),
        ({"cost_per_1k": "free"}, "'cost_per_1k' must be a number"),
        ({"cost_per_1k": -0.01}, "zero or more"),
        ({"cost_multiplier": "NaN"}, "cost_multiplier"),
        ({"input_cost_per_1m": []}, "input_cost_per_1m"),
        ({"models": 5}, "list of model names"),
        ({"models": ["a", 1]}, "list of model names"),
        ({"models": []}, "names no model"),
        ({"models": " , "}, "names no model"),
        ({"quota_pool": ""}, "quota_pool"),
        ({"quota_pool": 7}, "quota_pool"),
        ({"base_url": "ftp://host/v1"}, "base_url"),
        ({"base_url": "https://user:pw@host/v1"}, "base_url"),
        ({"base_url": "https://ho st/v1"}, "base_url"),
        ({"base_url": "http://[bad"}, "base_url"),
        ({"base_url": 5}, "base_url"),
        ({"note": "mine is " + MATERIAL}, "contains the key material"),
        ({"deep": [{"x": MATERIAL}]}, "contains the key material"),
        ({MATERIAL: 1}, "contains the key material"),
    ],
)
def test_metadata_that_makes_no_sense_is_refused_without_quoting_the_key(metadata: Any, says: str) -> None:
    with pytest.raises(KeyRegistrationError, match=says) as refused:
        clean_metadata(metadata, MATERIAL)
    assert MATERIAL not in str(refused.value)


def test_terms_are_read_from_metadata() -> None:
    terms = key_terms(
        {"weight": "2.5", "models": "gpt-4, claude-*", "quota_pool": " org-1 ", "base_url": "http://127.0.0.1:9/v1/"}
    )
    assert terms.weight == 2.5
    assert terms.models == {"gpt-4", "claude-*"}
    assert terms.quota_pool == "org-1"
    assert terms.base_url == "http://127.0.0.1:9/v1"
    assert key_terms({}).models is None


@pytest.mark.parametrize("label", ["", "  ", 5, "x" * 65, "two\nlines", MATERIAL, f"my {MATERIAL}"])
def test_a_label_that_cannot_be_shown_is_refused(label: Any) -> None:
    with pytest.raises(KeyRegistrationError) as refused:
        clean_label(label, MATERIAL)
    assert MATERIAL not in str(refused.value)


def test_a_label_is_stripped() -> None:
    assert clean_label("  team a ", MATERIAL) == "team a"
