"""The IETF's rate limit fields, in all their drafts: structured, dictionary and the old trio.

Main entry: `structured_facts`. Forms: `RateLimit: "default";r=50;t=30` with `RateLimit-Policy: "default";q=100;w=60`
(drafts 8 and later), `RateLimit: limit=100, remaining=50, reset=30` with `RateLimit-Policy: 100;w=60` (draft 7),
`RateLimit-Limit: 100, 100;w=60`, `RateLimit-Remaining`, `RateLimit-Reset` (up to draft 6; seconds, or in the wild a
Unix time). Source: draft-ietf-httpapi-ratelimit-headers. Laws: never raises; an item that makes no sense is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from apikeyrouter.domain.interfaces.transport import Headers
from apikeyrouter.domain.quota.dialects.values import RESET_MAX_S, count, reset_s
from apikeyrouter.domain.quota.facts import MINUTE_S, Dimension, LimitFact

__all__ = ["STRUCTURED_NAMES", "structured_facts"]

STRUCTURED_NAMES = (b"ratelimit", b"ratelimit-policy", b"ratelimit-limit", b"ratelimit-remaining", b"ratelimit-reset")

_FIELD_MAX = 1_024
_ITEMS_MAX = 8
_PARAMETER = re.compile(r';\s*([a-z][a-z0-9_-]{0,15})\s*=\s*("[^"]{0,64}"|[0-9.]{1,20})')
_MEMBER = re.compile(r"\b(limit|remaining|reset)\s*=\s*([0-9.]{1,20})")


def structured_facts(headers: Headers, utc_now: datetime) -> list[LimitFact]:
    """What the fields say, as facts of windows that end."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if len(name) <= 19 and name[:9].lower() == b"ratelimit":
            found.setdefault(name.lower(), value[:_FIELD_MAX])
    if not found:
        return []
    policies = _items(found.get(b"ratelimit-policy", b""))
    current = found.get(b"ratelimit", b"")
    members = dict(_MEMBER.findall(current.decode("latin-1")))
    if members:
        told = {name: value.encode() for name, value in members.items()}
        window_s = _window_s(next(iter(policies.values()), {}))
        return _fact("", told.get("limit"), told.get("remaining"), told.get("reset"), window_s, headers, utc_now)
    if current:
        facts: list[LimitFact] = []
        for label, item in _items(current).items():
            policy = policies.get(label, {})
            told = {key: value.encode() for key, value in {**policy, **item}.items()}
            unit = f"{policy.get('qu', '')} {label}"
            facts += _fact(unit, told.get("q"), told.get("r"), told.get("t"), _window_s(policy), headers, utc_now)
        return facts
    limit = found.get(b"ratelimit-limit")
    window_s = _window_s(_policy_of(policies, limit))
    left = found.get(b"ratelimit-remaining")
    return _fact("", limit, left, found.get(b"ratelimit-reset"), window_s, headers, utc_now)


def _items(field: bytes) -> dict[str, Mapping[str, str]]:
    """The members of a list by their names (or numbers), each with its parameters."""
    items: dict[str, Mapping[str, str]] = {}
    for part in field.decode("latin-1").split(",")[:_ITEMS_MAX]:
        name, _, _ = part.partition(";")
        label, parameters = name.strip().strip('"').lower(), {k: v.strip('"') for k, v in _PARAMETER.findall(part)}
        if not items.get(label):  # in "100, 100;w=60" the second says more
            items[label] = parameters
    return items


def _policy_of(policies: Mapping[str, Mapping[str, str]], limit: bytes | None) -> Mapping[str, str]:
    """The parameters that go with the old trio: of a policy field, else those behind the limit itself."""
    told = [*policies.values(), *(_items(limit) if limit else {}).values()]
    return next((parameters for parameters in told if "w" in parameters), {})


def _window_s(parameters: Mapping[str, str]) -> float | None:
    window = count(parameters.get("w", "").encode())
    return float(window) if window is not None and 0 < window <= RESET_MAX_S else None


def _fact(
    unit: str,
    limit: bytes | None,
    left: bytes | None,
    reset: bytes | None,
    window_s: float | None,
    headers: Headers,
    utc_now: datetime,
) -> list[LimitFact]:
    quota, remaining = count(limit), count(left)
    if quota is None and remaining is None:
        return []
    wait_s = reset_s(reset, headers, utc_now)
    if quota is not None and remaining is not None:
        remaining = min(remaining, quota)
    if "concurren" in unit:
        return [LimitFact(Dimension.Concurrency, 0.0, quota, remaining, wait_s, "next")]
    if "byte" in unit:
        return []
    dimension = Dimension.Tokens if "token" in unit else Dimension.Requests
    if window_s is None:
        window_s = next((p for p in (MINUTE_S, 3_600.0, 86_400.0) if (wait_s or 0.0) <= p), 30 * 86_400.0)
    return [LimitFact(dimension, window_s, quota, remaining, wait_s, "window")]
