"""How much of what providers say about their limits is understood, on recorded replies, and what reading it costs.

`python -m bench limit-headers [--calls 50000]`. Needs the recordings (`APIKEYROUTER_DATA`, else ../shared/data). For
each host: replies, those that carry limits, those of which every limit header was accounted for (read into a fact, or
known to limit nothing that is counted), and facts found. Then microseconds for one reply of each kind, best of five
rounds, and how far OpenAI's resets agree with an evenly refilling bucket (used / limit x period).
"""

from __future__ import annotations

import argparse
import json
import timeit
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from apikeyrouter.domain.quota.dialects import limit_dialect
from apikeyrouter.domain.quota.facts import Dimension, LimitFact
from bench.recordings import data_folder

__all__ = ["main"]

_HOSTS = (
    ("anthropic.com", "anthropic"),
    ("azure.com", "azure"),
    ("api.openai.com", "openai"),
    ("groq.com", "groq"),
    ("mistral.ai", "mistral"),
    ("openrouter.ai", "openrouter"),
    ("deepseek.com", "deepseek"),
    ("together.", "together"),
    ("api.x.ai", "xai"),
    ("cohere.", "cohere"),
    ("cerebras.ai", "cerebras"),
    ("fireworks.ai", "fireworks"),
    ("googleapis.com", "gemini"),
)
_LIMIT_MARKS = (b"ratelimit", b"tokenlimit", b"call-limit", b"anthropic-fast-", b"anthropic-priority-")
_ROUNDS = 5
_OTHER_HEADERS = 14

Headers = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class _Host:
    dialect: str
    replies: int = 0
    carrying: int = 0
    read: int = 0
    facts: int = 0
    unread: set[str] = field(default_factory=set)


def _dialect(host: str) -> str:
    return next((name for mark, name in _HOSTS if mark in host), "generic")


def _exchanges() -> Iterator[tuple[str, Headers]]:
    with (data_folder() / "exchanges" / "dev.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            exchange = json.loads(line)
            headers = exchange.get("response_headers") or {}
            yield exchange["host"], [(name.lower().encode(), str(value).encode()) for name, value in headers.items()]


def _fully(limits: Headers, dialect: str, facts: list[LimitFact], host: _Host) -> bool:
    """Whether each limit header is understood and each number of those that are counted is in a fact."""
    known = limit_dialect(dialect)
    unknown = {name.decode() for name, _ in limits if not known.understands(name)}
    host.unread |= unknown
    numbers = {number for fact in facts for number in (fact.limit, fact.remaining)}
    ignored = known.table.ignored
    lost = {
        name.decode()
        for name, value in limits
        if name not in ignored
        and b"reset" not in name
        and b"renewal" not in name
        and b"anthropic-ratelimit-tokens" not in name  # a sum of two limits that are read
        and int(value) not in numbers
    }
    resets = all(fact.reset_s is not None for fact in facts) or not any(b"reset" in name for name, _ in limits)
    host.unread |= lost
    return not unknown and not lost and resets and bool(facts)


def _coverage() -> dict[str, _Host]:
    hosts: dict[str, _Host] = {}
    for host, headers in _exchanges():
        entry = hosts.setdefault(host, _Host(_dialect(host)))
        entry.replies += 1
        limits = [(name, value) for name, value in headers if any(mark in name for mark in _LIMIT_MARKS)]
        if not limits:
            continue
        entry.carrying += 1
        facts = list(limit_dialect(entry.dialect).of_reply(headers, utc_now=_recorded_at(headers)))
        entry.facts += len(facts)
        entry.read += _fully(limits, entry.dialect, facts, entry)
    return hosts


def _recorded_at(headers: Headers) -> datetime:
    """The moment of a recording, without which a reset of 2025 lies in the past: by its own earliest reset."""
    moments = [value.decode() for name, value in headers if name.startswith(b"anthropic-") and name.endswith(b"-reset")]
    return datetime.fromisoformat(min(moments)) if moments else datetime(2026, 11, 21, tzinfo=UTC)


def _refills() -> tuple[int, int]:
    """(replies that tell OpenAI's requests with some used, those whose reset fits an even refill of their period)."""
    told = fitting = 0
    for host, headers in _exchanges():
        if _dialect(host) != "openai":
            continue
        for fact in limit_dialect("openai").of_reply(headers, utc_now=_recorded_at(headers)):
            if fact.dimension is Dimension.Requests and fact.limit and fact.remaining is not None and fact.reset_s:
                used = fact.limit - fact.remaining
                least_s, most_s = ((n / fact.limit) * fact.period_s for n in (used - 1, used))
                told += 1
                fitting += least_s - 0.001 <= fact.reset_s <= most_s + 0.001
    return told, fitting


def _cost_us(dialect: str, headers: Headers, calls: int) -> float:
    read, now = limit_dialect(dialect).of_reply, datetime(2026, 11, 21, 12, tzinfo=UTC)
    return min(timeit.repeat(lambda: read(headers, utc_now=now), number=calls, repeat=_ROUNDS)) / calls * 1e6


def _samples() -> dict[str, tuple[str, Headers]]:
    """One reply of each kind: its limit headers among 14 others."""
    others: Headers = [(b"date", b"Sat, 21 Nov 2026 12:00:00 GMT")]
    others += [(b"x-other-header-%d" % number, b"value") for number in range(_OTHER_HEADERS - 1)]
    found: dict[str, tuple[str, Headers]] = {"gemini, no limits": ("gemini", others)}
    for host, headers in _exchanges():
        limits = [(name, value) for name, value in headers if any(mark in name for mark in _LIMIT_MARKS)]
        name = f"{_dialect(host)}, {len(limits)} limit headers"
        if limits and name not in found:
            found[name] = (_dialect(host), [*others[:7], *limits, *others[7:]])
    return found


def main(argv: list[str]) -> int:
    """Prints the tables; 1 when a header was not accounted for."""
    parser = argparse.ArgumentParser(prog="python -m bench limit-headers", description=__doc__)
    parser.add_argument("--calls", type=int, default=50_000, help="calls a round when measuring cost")
    calls = parser.parse_args(argv).calls
    if not (data_folder() / "exchanges" / "dev.jsonl").exists():
        print("data not found, skipped")
        return 0
    hosts = _coverage()
    print(f"{'host':44} {'dialect':10} {'replies':>7} {'limits':>6} {'fully':>6} {'facts':>6}")
    for host, entry in sorted(hosts.items(), key=lambda item: -item[1].carrying):
        if entry.carrying:
            print(f"{host:44} {entry.dialect:10} {entry.replies:7} {entry.carrying:6} {entry.read:6} {entry.facts:6}")
    carrying, read = (sum(getattr(entry, name) for entry in hosts.values()) for name in ("carrying", "read"))
    unread = sorted(set().union(*(entry.unread for entry in hosts.values())))
    print(f"{carrying} replies with limits, {read} fully read; not accounted for: {', '.join(unread) or 'nothing'}")
    told, fitting = _refills()
    print(f"OpenAI's requests: {fitting} of {told} resets fit an even refill of the period that was told\n")
    for name, (dialect, headers) in sorted(_samples().items()):
        print(f"{name:32} {_cost_us(dialect, headers, calls):6.2f} us a reply ({len(headers)} headers)")
    return 0 if read == carrying else 1
