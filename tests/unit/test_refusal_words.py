"""What a refusal says of many keys: each reason once, every key counted, what helps, and in every client's format."""

from __future__ import annotations

import json
import re

import pytest

from apikeyrouter.domain.models.call import Wire
from apikeyrouter.domain.resilience.failures import Billing, Failure, FailureClass, Scope
from apikeyrouter.domain.routing.explain import AttemptFact, Rejection
from apikeyrouter.domain.routing.refusal_words import CLAUSES_MAX, Reason, told
from apikeyrouter.domain.routing.refusals import refused_error
from apikeyrouter_proxy.wire.errors import of_router_error


def rejected(number: int, code: str, reason: str, until_s: float | None = None) -> Rejection:
    return Rejection(f"key_{number}", f"label-{number}", "openai", code, reason, until_s)


def test_keys_with_one_reason_are_told_once_with_their_number() -> None:
    limited = [rejected(n, "rate_limited", "Rate limit reached", 12.0 + n) for n in range(8)]
    disabled = [rejected(n, "disabled", "invoice under review") for n in range(8, 10)]
    message = refused_error("m", [*limited, *disabled], (), 0.0).message
    assert message == (
        "No key can serve the model 'm' now: 8 keys: Rate limit reached, the first for 12.0 s; "
        "2 keys (label-8, label-9): invoice under review. Try again in 12.0 s."
    )


def test_fifty_keys_of_fifty_pools_make_one_short_clause() -> None:
    refused = [rejected(n, "headroom", f"0 requests free < 1 needed (pool-{n})", 60.0 - n) for n in range(50)]
    message = refused_error("m", refused, (), 0.0).message
    assert "50 keys: a limit has no room, the first for 11.0 s (such as label-0: 0 requests free" in message
    assert len(message) < 250


def test_the_names_of_keys_do_not_tell_reasons_apart() -> None:
    refused = [rejected(n, "model_not_served", f"label-{n} is registered for other models") for n in range(5)]
    message = refused_error("m", refused, (), 0.0).message
    assert "now: 5 keys: is registered for other models. Name another model" in message


def test_failures_are_grouped_as_refusals_are() -> None:
    def failed(number: int) -> tuple[AttemptFact, Failure]:
        fact = AttemptFact(f"key_{number}", f"label-{number}", "openai")
        message = f"Incorrect API key provided: number {number}."
        wrong = FailureClass.Auth
        return fact, Failure(wrong, Scope.Key, Billing.No, True, 401, None, message, None, None, False)

    error = refused_error("m", (), [failed(n) for n in range(6)], 0.0)
    assert (
        "6 keys: refused by the provider (such as label-0: auth: Incorrect API key provided: number 0)" in error.message
    )
    assert error.message.endswith("Replace the secret: apikeyrouter keys rotate.")
    assert error.reasons["key_5"] == "label-5: auth: Incorrect API key provided: number 5"


@pytest.mark.parametrize("kinds", [1, 2, 5, 6, 9])
def test_every_key_is_counted_once_and_clauses_are_few(kinds: int) -> None:
    reasons = [Reason(f"label-{n}", f"code_{n % kinds}", f"text {n % kinds}") for n in range(40)]
    text = told(reasons, 0.0)
    assert len(text.split("; ")) <= CLAUSES_MAX + 1
    assert sum(int(n) for n in re.findall(r"(\d+) (?:keys|more)", text)) == 40


def test_a_clause_for_one_key_is_its_own_sentence() -> None:
    assert told([Reason("a", "disabled", "invoice under review", None)], 0.0) == "a: invoice under review"


@pytest.mark.parametrize("wire", [Wire.Chat, Wire.Responses, Wire.Messages, Wire.Gemini])
def test_every_client_format_carries_the_same_short_message(wire: Wire) -> None:
    refused = [rejected(n, "disabled", "invoice under review") for n in range(50)]
    error = refused_error("m", refused, (), 0.0)
    body, _ = of_router_error(error).written(wire)
    assert body.count(b"invoice under review") == 1
    assert error.message in json.dumps(json.loads(body), ensure_ascii=False)
    assert b"apikeyrouter keys enable" in body
