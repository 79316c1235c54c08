"""What a provider echoes back must not carry a key into logs or errors."""

from __future__ import annotations

import pytest

from apikeyrouter.domain.resilience.redact import MASK, fold, redact

# built here, so that no file holds anything that looks like a credential
SK = "sk-" + "aB3" * 12
STARRED = "sk-ab" + "*" * 8 + "wxyz"
GOOGLE = "AI" + "za" + "Sy0" * 12
JWT = "ey" + "JhbGciOi" + "." + "ey" + "JzdWIiOi" + "." + "c2ln" * 3
HEX = "0123456789abcdef" * 2
MIXED = "Zx9" + "kQ2v" * 9


@pytest.mark.parametrize("secret", [SK, STARRED, "sk-" + "key-1", GOOGLE, JWT, HEX, MIXED, "gsk" + "_" + "a1B2" * 8])
def test_what_looks_like_a_key_is_masked_wherever_it_stands(secret: str) -> None:
    for text in (secret, f"Incorrect API key provided: {secret}. Find it", f"key={secret}&x=1", f'{{"k":"{secret}"}}'):
        assert secret not in redact(text)
        assert MASK in redact(text)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Authorization: Bearer {}", "short-token"),
        ("GET /v1beta/models?key={}&alt=sse failed", "tiny1"),
        ("https://user:{}@host/path", "hunter22"),
        ("api_key: '{}' is wrong", "letmein"),
        ('"x-api-key": "{}"', "letmein"),
    ],
)
def test_a_short_secret_is_masked_by_its_place(text: str, secret: str) -> None:
    assert secret not in redact(text.format(secret))


@pytest.mark.parametrize(
    "text",
    [
        "The model `gpt-4.1-nano-wrong` does not exist or you do not have access to it.",
        "Limit 6000, Used 4626, Requested 4022. Please try again in 26.48s.",
        "projects/fake-project/locations/us-central1/publishers/google/models/gemini-2.5-pro not found",
        "request req_" + "9fa14444d99140688826e9356e563367" + " failed",
        "This model's maximum context length is 128000 tokens, however you requested 130000 tokens.",
        "Invalid token: unexpected end of input",
        "risk-based task-specific",
    ],
)
def test_ordinary_messages_stay_readable(text: str) -> None:
    assert redact(text) == text


def test_the_secret_in_use_is_masked_even_when_it_looks_like_a_word() -> None:
    assert redact("wrong key correcthorse given", ["correcthorse"]) == f"wrong key {MASK} given"


def test_folding_gives_one_bounded_line_and_never_half_a_secret() -> None:
    assert fold("a\r\n\tb\x00c\u2028d") == "a b c d"
    long = fold("word " * 1000)
    assert len(long) == 500
    assert long.endswith("…")
    for lead in range(480, 500):
        assert SK[:8] not in fold("x" * lead + " " + SK)
    assert SK[:8] not in fold("y" * 8_180 + " " + SK, 10_000)
    assert fold("z" * 20_000) == ""
