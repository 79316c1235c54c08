"""What a simulated world is made of, as plain values: pools with limits, how they are enforced, what goes wrong when.

Main entries: `World`, `PoolSpec`, `Fault`, `Latency`; `parse_pool` and `parse_fault` read them from one line of text.
Laws: values are frozen, can be pickled and compared; everything random in a run comes from its seed, never from here.
Nothing of the router is imported: this side judges it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from enum import StrEnum

__all__ = ["Charge", "Enforcement", "Fault", "FaultKind", "Latency", "PoolSpec", "World", "parse_fault", "parse_pool"]


class Enforcement(StrEnum):
    """How a limit per minute is judged. Bucket: refilled all the time, `horizon_s` seconds of it at the most. Rolling:
    what was let in during the last 60 s. Minute: since the provider's clock minute began."""

    Bucket = "bucket"
    Rolling = "rolling"
    Minute = "minute"


class Charge(StrEnum):
    """What a request counts when it is let in. Use: input and true output. Cap: input and `max_tokens`, for good.
    Metered: input; its true output once it is generated, below zero if need be."""

    Use = "use"
    Cap = "cap"
    Metered = "metered"


class FaultKind(StrEnum):
    """Outage: every request is answered 503. Down: connections are refused. Gray: the share `value` is answered 500.
    Slow: the first token takes `value` times as long. Flap: an outage of `value` s, then as long none, and so on. Tier:
    the limits are `value` times as high."""

    Outage = "outage"
    Down = "down"
    Gray = "gray"
    Slow = "slow"
    Flap = "flap"
    Tier = "tier"


_USUAL_VALUE = {FaultKind.Gray: 0.3, FaultKind.Slow: 10.0, FaultKind.Flap: 20.0, FaultKind.Tier: 0.5}


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """Limits that `keys` keys share; None: no such limit. `rpm`, `tpm`, `itpm`, `otpm`: requests, all tokens, input and
    output tokens a minute. `concurrency`: requests under way. `dead_keys`: how many of the keys are answered 401.
    `provider`: pools of one name are one provider to the router. `usd_per_mtok`: price of a million tokens."""

    name: str
    rpm: float | None = None
    tpm: float | None = None
    itpm: float | None = None
    otpm: float | None = None
    concurrency: int | None = None
    keys: int = 1
    dead_keys: int = 0
    provider: str = "sim"
    usd_per_mtok: float = 1.0

    def scaled(self, factor: float) -> PoolSpec:
        """The same pool with limits per minute `factor` times as high."""
        return replace(
            self,
            rpm=None if self.rpm is None else self.rpm * factor,
            tpm=None if self.tpm is None else self.tpm * factor,
            itpm=None if self.itpm is None else self.itpm * factor,
            otpm=None if self.otpm is None else self.otpm * factor,
        )


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong between two times (seconds of the run). `pools`: their names, or all when empty."""

    kind: FaultKind
    begin_s: float
    end_s: float = math.inf
    value: float = 1.0
    pools: tuple[str, ...] = ()

    def text(self) -> str:
        """As `parse_fault` reads it."""
        end = "" if self.end_s == math.inf else f"{self.end_s:g}"
        value = f"={self.value:g}" if self.kind in _USUAL_VALUE else ""
        return f"{self.begin_s:g}-{end} {self.kind}{value} {','.join(self.pools)}".strip()


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds of a reply: log-normal time to the first token, reading the input, then writing. `refusal_s`: of a reply
    that is no success. `headers_first`: status and headers come with the first token, as for streams, else at the
    end."""

    ttft_s: float = 0.4
    ttft_sigma: float = 0.35
    input_tokens_per_s: float = 20_000.0
    output_tokens_per_s: float = 80.0
    refusal_s: float = 0.08
    headers_first: bool = True


@dataclass(frozen=True, slots=True)
class World:
    """One provider side. `refused_count`: a refused request takes one of the requests a minute.

    `headers`: replies carry limits as OpenAI's do; `horizon_told`: with what is left of the bucket that is enforced,
    else of the whole minute, which says nothing of bursts; `retry_after`: refusals say when to come back; `error_text`:
    and how far over the limit they are. `foreign_ratio`: the share of each limit that others use, unseen;
    `foreign_bursts`: in bursts, else evenly random. `limits_known`: whether the operator typed the limits in (else the
    router must learn them). `skew_s`: how far the provider's clock is ahead. `breaks_ratio`: replies that break off
    while they are read; `bad_ratio`: requests that are the client's own fault (400)."""

    pools: tuple[PoolSpec, ...]
    enforcement: Enforcement = Enforcement.Bucket
    horizon_s: float = 60.0
    refused_count: bool = False
    headers: bool = True
    horizon_told: bool = True
    retry_after: bool = True
    error_text: bool = True
    charge: Charge = Charge.Use
    foreign_ratio: float = 0.0
    foreign_bursts: bool = False
    limits_known: bool = False
    skew_s: float = 0.0
    faults: tuple[Fault, ...] = ()
    latency: Latency = field(default_factory=Latency)
    breaks_ratio: float = 0.0
    bad_ratio: float = 0.0

    @property
    def keys(self) -> int:
        """Keys of all pools together."""
        return sum(pool.keys for pool in self.pools)


_POOL_WORDS = {
    "rpm": "rpm", "tpm": "tpm", "itpm": "itpm", "otpm": "otpm", "concurrency": "concurrency", "keys": "keys",
    "dead": "dead_keys", "provider": "provider", "price": "usd_per_mtok", "name": "name",
}  # fmt: skip
_WHOLE = frozenset({"concurrency", "keys", "dead_keys"})
_TIMES = re.compile(r"\s*[x*]\s*(\d+)\s*$")


def parse_pool(text: str, first_number: int = 0) -> list[PoolSpec]:
    """`rpm=60,tpm=90000,keys=2 x4` -> four pools named p0, p1, ... from `first_number` on. Raises ValueError."""
    times = _TIMES.search(text)
    count = int(times.group(1)) if times else 1
    if not 1 <= count <= 10_000:
        raise ValueError(f"pool {text!r}: a pool is repeated 1 to 10000 times, not {count}")
    fields: dict[str, object] = {}
    for part in _TIMES.sub("", text).split(","):
        name, equals, value = (one.strip() for one in part.partition("="))
        if name not in _POOL_WORDS or not equals:
            raise ValueError(f"pool {text!r}: {part.strip()!r} is not NAME=VALUE with one of {', '.join(_POOL_WORDS)}")
        fields[_POOL_WORDS[name]] = value if name in ("name", "provider") else _number(text, name, value)
    named = str(fields.pop("name", "") or "")
    pools = []
    for number in range(count):
        name = f"p{first_number + number}" if not named else named if count == 1 else f"{named}{number}"
        pools.append(checked_pool(PoolSpec(name, **fields)))  # type: ignore[arg-type] # checked field by field above
    return pools


def _number(text: str, name: str, value: str) -> float | int:
    try:
        number = float(value.replace("_", "").replace("k", "e3").replace("M", "e6"))
    except ValueError:
        number = math.nan
    whole = _POOL_WORDS[name] in _WHOLE
    if not math.isfinite(number) or number < 0 or (whole and number != int(number)):
        raise ValueError(f"pool {text!r}: {name}={value} is not a {'whole ' if whole else ''}number from 0")
    return int(number) if whole else number


def checked_pool(pool: PoolSpec) -> PoolSpec:
    """The pool itself. Raises ValueError when it cannot serve anything."""
    limits = (pool.rpm, pool.tpm, pool.itpm, pool.otpm, pool.concurrency)
    if any(limit is not None and limit <= 0 for limit in limits):
        raise ValueError(f"pool {pool.name!r}: a limit must be above zero; leave it out for no limit")
    if not 1 <= pool.keys <= 100_000 or pool.dead_keys > pool.keys:
        raise ValueError(f"pool {pool.name!r}: needs 1 to 100000 keys, of which at most as many are dead")
    return pool


_FAULT = re.compile(r"^\s*([\d.]+)\s*-\s*([\d.]*)\s+([a-z]+)(?:=([\d.]+))?(?:\s+(\S+))?\s*$")


def parse_fault(text: str, known_pools: frozenset[str] = frozenset()) -> Fault:
    """`60-660 outage`, `60- gray=0.3 p0,p1`, `100-200 tier=0.5 p3`: begin, end (none: to the end), what, value, pools
    (none: all). Raises ValueError."""
    found = _FAULT.match(text)
    kinds = ", ".join(FaultKind)
    if found is None or found.group(3) not in list(FaultKind):
        raise ValueError(
            f"event {text!r} is not 'BEGIN-END KIND[=VALUE] [POOL,POOL]' in seconds, with one of {kinds}; for instance "
            "'60-360 gray=0.3 p0,p1'"
        )
    begin, end, word, value, pools = found.groups()
    kind = FaultKind(word)
    names = tuple(pools.split(",")) if pools else ()
    if known_pools and (missing := [name for name in names if name not in known_pools]):
        raise ValueError(f"event {text!r}: no pool is named {missing[0]!r}; there are {', '.join(sorted(known_pools))}")
    fault = Fault(
        kind,
        float(begin),
        float(end) if end else math.inf,
        float(value) if value else _USUAL_VALUE.get(kind, 1.0),
        names,
    )
    if fault.end_s <= fault.begin_s:
        raise ValueError(f"event {text!r}: it ends before it begins")
    if kind is FaultKind.Gray and not 0 < fault.value <= 1:
        raise ValueError(f"event {text!r}: the share that fails is above 0 and at most 1")
    if fault.value <= 0:
        raise ValueError(f"event {text!r}: the value must be above zero")
    return fault
