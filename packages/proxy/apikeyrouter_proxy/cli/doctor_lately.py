"""What `doctor` learns from what happened: how the last hour's requests ended, quota that runs dry, and clocks.

Main entries: `requests`, `quota`, `client_key` and `clock`. Nothing is sent to a provider but a request without a key,
for the time in its answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from apikeyrouter_proxy.cli import http
from apikeyrouter_proxy.cli.environment import CLIENT_KEY_NAME
from apikeyrouter_proxy.cli.findings import Finding, fail, ok, warn
from apikeyrouter_proxy.cli.service import Service

__all__ = ["addresses", "client_key", "clock", "quota", "requests"]

_MINUTES = 60
_ANSWER_WITHIN_S = 5.0
SKEW_ODD_S, SKEW_WRONG_S = 30.0, 300.0
"""Signed requests are refused when clocks differ by five minutes (Amazon's signatures, webhooks)."""

_SHOWN = 3
_LIMITS = "`apikeyrouter quota` says when which pool is back; add a key of another account, or a fallback."
_REFUSED = "A provider refuses a key: the lines above say which; `apikeyrouter keys rotate LABEL`."
_NAMES = "`apikeyrouter doctor --model NAME` tells the nearest names; `apikeyrouter models` lists all."
_SLOW = "Raise REQUEST_TIMEOUT (APIKEYROUTER_FIRST_BYTE_TIMEOUT_S for slow starts), or ask a faster model."
_ILL = "The provider is ill: see its status page, and add a fallback."
_FIXES = (
    (("budget",), "`apikeyrouter budgets list` shows which budget; raise it, or wait for its next period."),
    (("price",), "A hard budget needs the model's price: `apikeyrouter prices set`."),
    (("insufficient", "billing", "quota_exceeded"), "Add credit at the provider, or a key of another account."),
    (("rate", "quota", "capacity", "limit_"), _LIMITS),
    (("auth", "api_key", "permission"), _REFUSED),
    (("model", "not_registered"), _NAMES),
    (("timeout",), _SLOW),
    (("context_length",), "A shorter prompt, a larger model, or a group with one."),
    (("store",), "The store did not answer: the line about the store tells more."),
    (("network", "provider", "server", "overload", "upstream"), _ILL),
)
"""What to do, by words that stand in an outcome; the first that does counts."""

_QUIET = {"ok", "cancelled"}


def requests(service: Service) -> Iterator[Finding]:
    """How the last hour's requests ended, the most frequent failures with what to do about them."""
    answer = service.ask("GET", f"/api/v1/recent?minutes={_MINUTES}")
    told = answer.json()
    if answer.status != 200 or not isinstance(told, dict):
        return  # an older proxy
    outcomes = told["outcomes"]
    total = sum(one["requests"] for one in outcomes)
    bad = [one for one in outcomes if one["outcome"] not in _QUIET]
    if total and not bad:
        yield ok("Requests", f"all {total} of the last hour ended well")
    for one in bad[:_SHOWN]:
        code = str(one["outcome"])
        where = ", ".join(one["models"][:_SHOWN])
        yield warn(
            "Requests",
            f"{one['requests']} of {total} in the last hour ended with {code} ({where})",
            f"{_fix(code)} Why: `apikeyrouter decisions show {one['decision_id']}`.",
        )


def _fix(code: str) -> str:
    for words, what in _FIXES:
        if any(word in code for word in words):
            return what
    return "The error's message says what was wrong with the request."


def quota(service: Service) -> Iterator[Finding]:
    """Pools that are dry, or will be soon."""
    answer = service.ask("GET", f"/api/v1/quota?order=urgency&limit={_SHOWN}")
    told = answer.json()
    if answer.status != 200 or not isinstance(told, dict):
        return
    for pool in told["data"]:
        if pool["capacity_state"] in ("critical", "exhausted"):
            names = ", ".join(pool["key_labels"][:_SHOWN])
            advice = "Add a key of another account (`apikeyrouter keys add`), a fallback, or slow down."
            yield warn("Rate limits", f"those of {names} ({pool['pool_id']}): {pool['outlook']}", advice)


def client_key(service: Service, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Whether the key that this user's programs would send to the proxy is one of its keys."""
    key = environ.get(CLIENT_KEY_NAME, "").strip()
    if service.origin is None or not key:
        return
    answer = service.ask("GET", "/v1/models", prompt=False)
    if answer.status == 401:
        advice = (
            "Give your program a virtual key of this proxy (`apikeyrouter virtual-keys create NAME`), or its admin "
            "key; a provider's key is not one, and belongs into `apikeyrouter keys add`."
        )
        yield fail("Client key", f"the proxy does not know the key in {CLIENT_KEY_NAME} (401)", advice)
    elif answer.status < 400:
        yield ok("Client key", f"the proxy takes the key in {CLIENT_KEY_NAME}")


def clock(urls: Iterable[str], now: datetime | None = None) -> Finding | None:
    """This machine's clock against that of the first server which tells the time; None when none does. `now`: in UTC,
    default the clock's."""
    from apikeyrouter.infrastructure.clock import SystemClock

    for url in urls:
        parts = urlsplit(url)
        try:
            answer = http.ask(f"{parts.scheme}://{parts.netloc}", "GET", parts.path or "/", timeout_s=_ANSWER_WITHIN_S)
            there = parsedate_to_datetime(answer.headers.get("date", ""))
        except (http.Unreachable, ValueError):
            continue
        if there.tzinfo is None:
            there = there.replace(tzinfo=UTC)
        ahead_s = ((now or SystemClock().utc_now()) - there).total_seconds()
        return _clock_told(ahead_s, parts.hostname or "")
    return None


def _clock_told(ahead_s: float, host: str) -> Finding:
    way = "ahead of" if ahead_s > 0 else "behind"
    meaning = f"this machine's is {abs(ahead_s):.0f} s {way} that of {host}"
    advice = (
        "Set it by the network (timedatectl set-ntp true): signatures, resets of limits and budgets' days go by it."
    )
    if abs(ahead_s) >= SKEW_WRONG_S:
        return fail("Clock", meaning, advice)
    if abs(ahead_s) >= SKEW_ODD_S:
        return warn("Clock", meaning, advice)
    return ok("Clock", f"it agrees with that of {host}")


def addresses(service: Service) -> list[str]:
    """Where the time may be asked for: the proxy when it is another machine's, then the providers."""
    own: list[Any] = [service.origin] if service.origin else []
    return own + [provider["base_url"] for provider in service.get("/api/v1/providers")["data"]]
