"""Making a request fit: the most output that some money still pays for, and the request asking for no more than that.

`largest_output_tokens` is the exact inverse of `upper_bound_nano_usd`; `with_max_tokens` edits the cap in the caller's
bytes and leaves every other byte alone (unknown members, order, spelling of numbers).

Each format has its own member for the cap: `max_tokens` or `max_completion_tokens` (chat, completions), `max_tokens`
(Messages), `max_output_tokens` (Responses), `generationConfig.maxOutputTokens` (Gemini).

Laws: bound(largest) <= free < bound(largest + 1); a cap is only ever lowered or added, never raised; only members of
the outermost object count (Gemini: of its `generationConfig`), and of a member given twice both are capped.
"""

from __future__ import annotations

import re

import msgspec

from apikeyrouter.domain.cost.estimate import bound_rates
from apikeyrouter.domain.interfaces.price_source import ModelPrice
from apikeyrouter.domain.models.call import Call, Operation, Peek

__all__ = ["UNLIMITED_OUTPUT_TOKENS", "can_be_capped", "cap_member", "largest_output_tokens", "with_max_tokens"]

UNLIMITED_OUTPUT_TOKENS = 2**31 - 1
"""Stands for "any": output is free of charge, or the money pays for more than any model writes."""


def largest_output_tokens(
    price: ModelPrice,
    input_bound: int,
    choices: int,
    free_nano_usd: int,
    *,
    extra_output: int = 0,
    text_only: bool = False,
) -> int:
    """The most output tokens per choice whose upper bound still fits into `free_nano_usd`; 0 when none does.

    0 also when even the input does not fit. `extra_output`: output tokens billed whatever the cap is (see `Demand`).
    At most `UNLIMITED_OUTPUT_TOKENS`.
    """
    rate_in, rate_out = bound_rates(price, input_bound, text_only=text_only)
    # bound = per_request + ceil(x / 10^6) <= free  <=>  x <= (free - per_request) x 10^6
    left = (free_nano_usd - price.per_request) * 1_000_000 - input_bound * rate_in - extra_output * rate_out
    if left < 0:
        return 0
    if rate_out == 0:
        return UNLIMITED_OUTPUT_TOKENS
    return min(left // (rate_out * max(1, choices)), UNLIMITED_OUTPUT_TOKENS)


_SPACE = rb"[ \t\r\n]*+"
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_KEY = re.compile(_SPACE + rb"(" + _STRING + rb")" + _SPACE + rb":" + _SPACE, re.DOTALL)
_SCALAR = re.compile(rb"[^,}\] \t\r\n]++")
_MARKS = re.compile(_STRING + rb"|[{}\[\]]", re.DOTALL)
_NEXT = re.compile(_SPACE + rb"([,}])")
_OPEN = re.compile(_SPACE + rb"\{" + _SPACE)

_CAPS = (b'"max_tokens"', b'"max_completion_tokens"')
_CAPS_MESSAGES = (b'"max_tokens"',)
_CAPS_RESPONSES = (b'"max_output_tokens"',)
_CAPS_GEMINI = (b'"maxOutputTokens"', b'"max_output_tokens"')
_CONFIGS = (b'"generationConfig"', b'"generation_config"')

# OpenAI's reasoning models refuse `max_tokens` (API reference, "max_tokens: deprecated, not compatible with o-series").
_REASONS = re.compile(r"(?:.*/)?(?:o\d|gpt-(?:[5-9]|\d\d)|codex|computer-use)")


_CAPPED = frozenset({
    Operation.Chat, Operation.Completions, Operation.Responses, Operation.Messages, Operation.Gemini
})  # fmt: skip


def can_be_capped(call: Call) -> bool:
    """Whether its format has a member that caps the output. Uploads and raw requests have none that we know."""
    return call.operation in _CAPPED


def cap_member(model: str) -> str:
    """The member that caps the output of a model: `max_completion_tokens` for OpenAI's reasoning families."""
    return "max_completion_tokens" if _REASONS.match(model) else "max_tokens"


def with_max_tokens(
    body: bytes, peek: Peek, limit: int, *, model: str | None = None, operation: Operation = Operation.Chat
) -> bytes:
    """The request with its output capped at `limit` tokens per choice.

    Lowers the caller's own caps where they are above; if none is given (or only as null), adds the member that the
    format of `operation` and the model have for it. `model`: the model that will serve it, else the one that `peek`
    names. The body is a JSON object that was peeked without an error; raises ValueError when it is not.
    """
    match operation:
        case Operation.Gemini:
            return _with_config(body, limit)
        case Operation.Responses:
            return _capped(body, _CAPS_RESPONSES, "max_output_tokens", limit)
        case Operation.Messages:
            return _capped(body, _CAPS_MESSAGES, "max_tokens", limit)
        case _:
            return _capped(body, _CAPS, cap_member(model or peek.model or ""), limit)


def _with_config(body: bytes, limit: int) -> bytes:
    """A Gemini request with the cap in each of its `generationConfig`s."""
    found = [(start, end) for name, start, end in _members(body) if name in _CONFIGS]
    if not found:
        return _with_first(body, "generationConfig", b'{"maxOutputTokens":%d}' % limit)
    for start, end in reversed(found):
        config = body[start:end] if body[start:end] != b"null" else b"{}"
        body = body[:start] + _capped(config, _CAPS_GEMINI, "maxOutputTokens", limit) + body[end:]
    return body


def _capped(body: bytes, caps: tuple[bytes, ...], own: str, limit: int) -> bytes:
    """An object with its caps lowered; with `own` added where it has none."""
    found = [(name, start, end) for name, start, end in _members(body) if name in caps]
    given = [one for one in found if body[one[1] : one[2]] != b"null"]
    text = b"%d" % limit
    if not given:
        quoted = f'"{own}"'.encode("ascii")
        nulls = [one for one in found if one[0] == quoted]
        if not nulls:
            return _with_first(body, own, text)
        for _, start, end in reversed(nulls):
            body = body[:start] + text + body[end:]
        return body
    for _, start, end in reversed(given):
        if _number(body[start:end]) > limit:
            body = body[:start] + text + body[end:]
    return body


def _number(text: bytes) -> float:
    value = msgspec.json.decode(text)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a cap on output tokens is not a number")  # noqa: TRY004 - wrong value, not type
    return value


def _with_first(body: bytes, name: str, value: bytes) -> bytes:
    opened = _OPEN.match(body)
    if opened is None:
        raise ValueError("the body is not a JSON object")
    at = opened.end()
    comma = b"" if body[at : at + 1] == b"}" else b","
    return body[:at] + b'"' + name.encode("ascii") + b'":' + value + comma + body[at:]


def _members(body: bytes) -> list[tuple[bytes, int, int]]:
    """(quoted name, start of value, end of value) of the outermost object's members, in order."""
    opened = _OPEN.match(body)
    if opened is None:
        raise ValueError("the body is not a JSON object")
    members: list[tuple[bytes, int, int]] = []
    at = opened.end()
    if body[at : at + 1] == b"}":
        return members
    while True:
        key = _KEY.match(body, at)
        if key is None:
            raise ValueError("the body is not a JSON object")
        name = key.group(1)
        if b"\\" in name:
            name = msgspec.json.encode(msgspec.json.decode(name))
        start = key.end()
        end = _end_of_value(body, start)
        members.append((name, start, end))
        after = _NEXT.match(body, end)
        if after is None:
            raise ValueError("the body is not a JSON object")
        if after.group(1) == b"}":
            return members
        at = after.end()


def _end_of_value(body: bytes, start: int) -> int:
    first = body[start : start + 1]
    if first not in (b"{", b"[", b'"'):
        scalar = _SCALAR.match(body, start)
        if scalar is None:
            raise ValueError("the body is not a JSON object")
        return scalar.end()
    depth = 0
    for mark in _MARKS.finditer(body, start):
        sign = mark.group()[:1]
        depth += (sign in b"{[") - (sign in b"}]")
        if depth == 0:
            return mark.end()
    raise ValueError("the body is not a JSON object")
