"""What clients ask for, and when: recorded (a CSV of arrivals), or made up (Poisson, steady, bursts), by a seed.

Main entries: `read_log`, `poisson`, `steady`, `bursts`; `Traffic.at_load` and `fit_pools` bring traffic and capacity
into a given proportion. Laws: arrivals are in order and begin at 0; the same arguments give the same traffic.
"""

from __future__ import annotations

import bisect
import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from apikeyrouter.simulation.world.spec import Charge, PoolSpec, World

__all__ = ["Sizes", "Traffic", "between", "bursts", "capacity_load", "fit_pools", "poisson", "read_log", "steady"]

_ARRIVAL = ("arrival", "timestamp", "time", "at_s", "at")
_INPUT = ("input", "contexttokens", "input_tokens", "prompt_tokens")
_OUTPUT = ("output", "generatedtokens", "output_tokens", "completion_tokens")
_TENANT = ("tenant", "user", "virtual_key")
CAP = 2048


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests in order of arrival. `at_s`: seconds from the start; `inputs`, `outputs`: tokens; `tenants`: numbers;
    `cap`: the `max_tokens` that each asks for, 0 for none."""

    at_s: list[float]
    inputs: list[int]
    outputs: list[int]
    tenants: list[int]
    cap: int = CAP

    def __len__(self) -> int:
        return len(self.at_s)

    @property
    def duration_s(self) -> float:
        """From the first arrival to the last."""
        return self.at_s[-1] - self.at_s[0] if self.at_s else 0.0

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(input, output) of each request."""
        return list(zip(self.inputs, self.outputs, strict=True))

    def head(self, count: int) -> Traffic:
        """The first `count` requests."""
        return replace(
            self,
            at_s=self.at_s[:count],
            inputs=self.inputs[:count],
            outputs=self.outputs[:count],
            tenants=self.tenants[:count],
        )

    def stretched(self, factor: float) -> Traffic:
        """The same requests, `factor` times as far apart."""
        return replace(self, at_s=[at * factor for at in self.at_s])

    def at_load(self, world: World, load: float) -> Traffic:
        """The same requests, faster or slower, so that they ask for `load` of what the pools can serve us."""
        return self.stretched(capacity_load(self, world) / load)

    def with_other(self, other: Traffic) -> Traffic:
        """Both, merged by time; the tenants of `other` come after ours."""
        shift = max(self.tenants, default=-1) + 1
        rows = list(zip(self.at_s, self.inputs, self.outputs, self.tenants, strict=True))
        rows += zip(other.at_s, other.inputs, other.outputs, [tenant + shift for tenant in other.tenants], strict=True)
        return _of_rows(sorted(rows), self.cap)


def _of_rows(rows: list[tuple[float, int, int, int]], cap: int = CAP) -> Traffic:
    """(arrival, input, output, tenant) of each request, in order."""
    return Traffic([r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows], [r[3] for r in rows], cap)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Log-normal lengths by median and spread; the longest are cut off. The usual values resemble chats."""

    input_median: float = 800.0
    input_sigma: float = 0.9
    output_median: float = 130.0
    output_sigma: float = 0.9
    input_max: int = 16_000
    output_max: int = 2_000

    def draw(self, rng: Random) -> tuple[int, int]:
        """(input, output) of one request."""
        drawn_in = rng.lognormvariate(math.log(self.input_median), self.input_sigma)
        drawn_out = rng.lognormvariate(math.log(self.output_median), self.output_sigma)
        return max(1, min(self.input_max, int(drawn_in))), max(1, min(self.output_max, int(drawn_out)))


def _made(at_s: list[float], rng: Random, sizes: Sizes, tenants: int) -> Traffic:
    drawn = [sizes.draw(rng) for _ in at_s]
    who = [rng.randrange(tenants) for _ in at_s] if tenants > 1 else [0] * len(at_s)
    return Traffic(at_s, [one[0] for one in drawn], [one[1] for one in drawn], who)


def poisson(rate_per_s: float, count: int, rng: Random, sizes: Sizes | None = None, *, tenants: int = 1) -> Traffic:
    """Independent arrivals."""
    at_s, now_s = [], 0.0
    for _ in range(count):
        at_s.append(now_s)
        now_s += rng.expovariate(rate_per_s)
    return _made(at_s, rng, sizes or Sizes(), tenants)


def steady(rate_per_s: float, count: int, rng: Random, sizes: Sizes | None = None, *, tenants: int = 1) -> Traffic:
    """Arrivals like clockwork."""
    return _made([number / rate_per_s for number in range(count)], rng, sizes or Sizes(), tenants)


def bursts(
    rate_per_s: float,
    count: int,
    rng: Random,
    sizes: Sizes | None = None,
    *,
    tenants: int = 1,
    on_s: float = 5.0,
    off_s: float = 15.0,
) -> Traffic:
    """On for about `on_s`, silent for about `off_s`; `rate_per_s` on the average of both."""
    at_s, now_s = [], 0.0
    until_s = rng.expovariate(1 / on_s)
    fast = rate_per_s * (on_s + off_s) / on_s
    for _ in range(count):
        at_s.append(now_s)
        now_s += rng.expovariate(fast)
        while now_s >= until_s:
            now_s += rng.expovariate(1 / off_s)
            until_s = now_s + rng.expovariate(1 / on_s)
    return _made(at_s, rng, sizes or Sizes(), tenants)


# -- load -------------------------------------------------------------------------------------------------------------


def _demand(traffic: Traffic) -> tuple[float, float, float]:
    """(requests, input, output) a minute."""
    minutes = max(traffic.duration_s, 1e-9) / 60.0
    return len(traffic) / minutes, sum(traffic.inputs) / minutes, sum(traffic.outputs) / minutes


def capacity_load(traffic: Traffic, world: World) -> float:
    """The share of what the pools can serve us (others' use taken off) that the traffic asks for, by the tightest
    limit; 0 where nothing is limited per minute."""
    requests, inputs, outputs = _demand(traffic)
    charged = requests * traffic.cap if world.charge is Charge.Cap else outputs
    loads = [0.0]
    for name, demand in (("rpm", requests), ("itpm", inputs), ("otpm", charged), ("tpm", inputs + charged)):
        limits = [getattr(pool, name) for pool in world.pools]
        if limits and None not in limits:
            loads.append(demand / sum(limits))
    return max(loads) / (1.0 - world.foreign_ratio)


def fit_pools(
    traffic: Traffic, weights: Sequence[float], load: float, *, foreign_ratio: float = 0.0, rpm_slack: float = 1.0
) -> tuple[PoolSpec, ...]:
    """Pools in the proportion of `weights` whose limits the traffic uses up to `load` of what others leave.
    `rpm_slack`: how many times as many requests as that are allowed."""
    requests, inputs, outputs = _demand(traffic)
    left = load * (1.0 - foreign_ratio) * sum(weights)
    return tuple(
        PoolSpec(f"p{number}", rpm=requests / left * weight * rpm_slack, tpm=(inputs + outputs) / left * weight)
        for number, weight in enumerate(weights)
    )


# -- logs -------------------------------------------------------------------------------------------------------------


def read_log(path: Path) -> Traffic:
    """A CSV with a header: arrival (seconds, or a date and time), input, output and, if wanted, tenant. The Azure LLM
    inference traces can be read as they are. Raises ValueError naming file and line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _traffic_of(path, csv.reader(file))
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text in UTF-8; expected a CSV file") from None
    except csv.Error as fault:
        raise ValueError(f"{path} is not CSV: {fault}") from None


def _traffic_of(path: Path, reader: Iterator[list[str]]) -> Traffic:
    header = [name.strip().lower() for name in next(reader, [])]
    columns = [_column(path, header, names) for names in (_ARRIVAL, _INPUT, _OUTPUT)]
    tenant_at = next((header.index(name) for name in _TENANT if name in header), None)
    rows: list[tuple[float, int, int, int]] = []
    tenants: dict[str, int] = {}
    for number, row in enumerate(reader, start=2):
        if not row or not any(cell.strip() for cell in row):
            continue
        if len(row) < len(header):
            raise ValueError(f"{path}, line {number}: {len(row)} columns where the header has {len(header)}")
        arrival, inputs, outputs = (row[at].strip() for at in columns)
        who = row[tenant_at].strip() if tenant_at is not None else ""
        tenant = tenants.setdefault(who, len(tenants))
        where = f"{path}, line {number}"
        rows.append((_moment(where, arrival), _tokens(where, inputs), _tokens(where, outputs), tenant))
    if not rows:
        raise ValueError(f"{path} has no requests: only a header, or nothing at all")
    rows.sort(key=lambda row: row[0])
    first_s = rows[0][0]
    return _of_rows([(at - first_s, inputs, outputs, tenant) for at, inputs, outputs, tenant in rows])


def _column(path: Path, header: list[str], names: tuple[str, ...]) -> int:
    for name in names:
        if name in header:
            return header.index(name)
    found = ", ".join(header) or "nothing"
    raise ValueError(
        f"{path}, line 1: no column {names[0]!r} (or {', '.join(names[1:])}); found {found}. "
        "Expected a header such as: arrival,input,output"
    )


def _moment(where: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        pass
    else:
        if math.isfinite(seconds):
            return seconds
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{where}: arrival {text!r} is neither seconds nor a date and time") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _tokens(where: str, text: str) -> int:
    if not text.isdecimal() or int(text) > 100_000_000:
        raise ValueError(f"{where}: {text!r} is not a whole number of tokens")
    return int(text)


def between(traffic: Traffic, begin_s: float, end_s: float) -> range:
    """Numbers of the requests that arrive from `begin_s` to before `end_s`."""
    return range(bisect.bisect_left(traffic.at_s, begin_s), bisect.bisect_left(traffic.at_s, end_s))
