"""The quota story over real HTTP and in real time: four accounts of 60 requests a minute, ours beside LiteLLM's proxy.

    A  200 requests a minute, which fit                      D  600 a minute where the limits refill all the time
    B  300 a minute where 240 fit                            E  as C, where everything comes back with the clock minute
    C  200 in the last 10 s of a clock minute, and           F  300 a minute where no account takes more at once than
       200 in the first 10 s of the next: 240 fit               comes back in 6 s
    B+ and C+: as B and C, but requests may wait as long as the default says

Entry: `python -m bench quota-story [--only A B ...] [--targets ...]`. In A, B and C no 60 s may hold more than 60
requests of an account (rolling), the strictest kind. "ours" knows the limits from key metadata, "ours, learned" from
headers. In A requests may wait as is default, which none needs to; the others refuse at once, so that what is told can
be held against what happens.
Laws: open loop, requests leave on their timetable whatever comes back; the gateways of one scenario run side by side
with the same timetable, each before a provider of its own; the provider counts, see `story_judge`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import processes, report
from bench.client import Connection, Reply, connect, percentile, request_bytes
from bench.story_judge import Call, Verdict, judge
from bench.story_targets import MODEL, WARM_KEY, OursForQuota, Provider, gateway
from bench.targets import CACHE, Target

OURS = ("ours", "ours, learned")
PEERS = ("litellm usage", "litellm shuffle")
_ANSWER_WITHIN_S = 90.0
_LEAD_S = 5.0
_SAID_BYTES = 500

ROLLING = {"rpm": 60, "tpm": None, "refill": "rolling"}
CONTINUOUS = {"rpm": 60, "tpm": None, "refill": "continuous"}


def evenly(rate_per_min: int, duration_s: float = 60.0) -> list[float]:
    """Offsets of requests, one every 60/rate seconds."""
    return [n * 60.0 / rate_per_min for n in range(int(rate_per_min * duration_s / 60.0))]


@dataclass(frozen=True, slots=True)
class Scenario:
    """`second`: of a clock minute at which offset 0 lies, None for any; `wait_s`: how long requests may wait (ours);
    None: the default. `goal_429`: the most upstream 429s, None for none set."""

    name: str
    what: str
    limits: dict[str, Any]
    offsets: list[float]
    targets: tuple[str, ...]
    wait_s: float | None = 0.0
    second: float | None = 30.0
    goal_429: int | None = None


_BORDER = evenly(1200, 20.0)  # begins 10 s before a clock minute ends
SCENARIOS = {
    one.name: one
    for one in (
        Scenario("A", "200/min, fit", ROLLING, evenly(200), OURS + PEERS, wait_s=None, goal_429=0),
        Scenario("B", "300/min, 240 fit", ROLLING, evenly(300), OURS + PEERS, goal_429=2),
        Scenario("B+", "300/min, may wait", ROLLING, evenly(300), OURS[:1], wait_s=None),
        Scenario("C", "200 + 200 at a border", ROLLING, _BORDER, OURS + PEERS, second=50.0, goal_429=2),
        Scenario("C+", "the same, may wait", ROLLING, _BORDER, OURS[:1], wait_s=None, second=50.0),
        Scenario("D", "600/min, continuous", CONTINUOUS, evenly(600), OURS),
        Scenario("E", "as C, clock minutes", {**ROLLING, "refill": "fixed"}, _BORDER, OURS, second=50.0),
        Scenario("F", "300/min, 6 s bursts", {**CONTINUOUS, "burst_s": 6}, evenly(300), OURS),
    )
}
# Run together: those that begin at the same second, and not too many processes at once.
_ROUNDS = (("A",), ("B", "B+"), ("C", "C+"), ("D", "F"), ("E",))


class _Caller(Connection):
    """A connection that also keeps the headers of the reply, and its body."""

    __slots__ = ("body", "told")

    def __init__(self, on_done: Callable[[Connection, Reply], None]) -> None:
        super().__init__(on_done)
        self.told: dict[str, str] = {}
        self.body = b""

    def send(self, request: bytes) -> None:
        self.told = {}
        self.body = b""
        super().send(request)

    def on_body(self, body: bytes) -> None:
        """A part of the body came."""
        self.body += body

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header came."""
        self.told[name.decode().lower()] = value.decode()


class Client:
    """Sends requests to one gateway; connections are kept and used again."""

    def __init__(self, port: int, headers: dict[str, str]) -> None:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 16}
        self._port = port
        self._request = request_bytes(port, "/v1/chat/completions", json.dumps(body).encode(), headers)
        self._idle: list[_Caller] = []
        self._answers: dict[Connection, asyncio.Future[Reply]] = {}

    async def call(self, due_s: float) -> Call:
        """Sends one request at `due_s` (Unix time) and waits for the reply; status 0 for none."""
        await asyncio.sleep(max(0.0, due_s - time.time()))
        connection = await self._connection()
        answer = self._answers[connection] = asyncio.get_running_loop().create_future()
        connection.send(self._request)
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                reply = await answer
        except TimeoutError:
            connection.close()
            return Call(due_s, time.time(), 0)
        if connection.usable:
            self._idle.append(connection)
        exact = connection.told.get("retry-after-ms")
        coarse = connection.told.get("retry-after")
        told_s = float(exact) / 1000 if exact else float(coarse) if coarse else None
        said = "" if reply.status == 200 else connection.body[:_SAID_BYTES].decode(errors="replace")
        return Call(due_s, time.time(), reply.status, told_s, whole=exact is None, said=said)

    async def _connection(self) -> _Caller:
        while self._idle:
            found = self._idle.pop()
            if found.usable:
                return found
        return await connect(self._port, lambda: _Caller(self._done))

    def close(self) -> None:
        """Ends what is idle."""
        for connection in self._idle:
            connection.close()

    def _done(self, connection: Connection, reply: Reply) -> None:
        answer = self._answers.pop(connection, None)
        if answer is not None and not answer.done():
            answer.set_result(reply)


@dataclass(slots=True)
class Stage:
    """One gateway before its provider, in one scenario."""

    scenario: Scenario
    provider: Provider
    target: Target

    def start(self) -> None:
        """Both, and warm."""
        self.provider.start()
        self.target.start()

    def stop(self) -> None:
        """Both."""
        self.target.stop()
        self.provider.stop()

    async def play(self, began_s: float) -> Verdict:
        """The whole timetable, from `began_s` (Unix time)."""
        uncounted = {"Authorization": f"Bearer {WARM_KEY}"}
        straight = await _calls(self.provider.port, uncounted, time.time() + 0.2, evenly(1200, 2.0))
        calls = await _calls(self.target.port, self.target.headers, began_s, self.scenario.offsets)
        visits = await asyncio.to_thread(self.provider.visits)
        direct_ms = percentile([(call.ended_s - call.due_s) * 1000 for call in straight], 0.5)
        verdict = judge(self.scenario.limits, calls, visits, direct_ms)
        if isinstance(self.target, OursForQuota):
            verdict.notes["quota"] = await asyncio.to_thread(self.target.manage, "GET", "quota")
        return verdict


async def _calls(port: int, headers: dict[str, str], began_s: float, offsets: Sequence[float]) -> list[Call]:
    client = Client(port, headers)
    calls = await asyncio.gather(*[client.call(began_s + offset_s) for offset_s in offsets])
    client.close()
    return calls


def begin_s(second: float | None, now_s: float) -> float:
    """The next time, a little ahead, that is so many seconds into a clock minute."""
    soonest_s = now_s + _LEAD_S
    return soonest_s if second is None else soonest_s + (second - soonest_s) % 60.0


async def play_round(names: Sequence[str], targets: Sequence[str], folder: Path) -> list[tuple[str, str, Verdict]]:
    """The scenarios side by side."""
    stages = []
    for name in names:
        scenario = SCENARIOS[name]
        for target in scenario.targets:
            place = folder / f"{name} {target}".replace(" ", "-").replace(",", "")
            if target in targets:
                provider = Provider(scenario.limits, place)
                stages.append(Stage(scenario, provider, gateway(target, provider, place, wait_s=scenario.wait_s)))
    missing = {stage.target.name: why for stage in stages if (why := stage.target.missing())}
    for name, why in missing.items():
        print(f"left out: {name}: {why}", flush=True)
    stages = [stage for stage in stages if stage.target.name not in missing]
    try:
        await asyncio.gather(*[asyncio.to_thread(stage.start) for stage in stages])
        now_s = time.time()
        found = await asyncio.gather(*[stage.play(begin_s(stage.scenario.second, now_s)) for stage in stages])
    finally:
        for stage in stages:
            with contextlib.suppress(OSError):
                stage.stop()
    return [(stage.scenario.name, stage.target.name, verdict) for stage, verdict in zip(stages, found, strict=True)]


def table(results: Sequence[tuple[str, str, Verdict]]) -> str:
    """For people."""
    header = [
        "scenario",
        "gateway",
        "offered",
        "fit",
        "served",
        "429",
        "other",
        "upstream 429",
        "true",
        "added p50/p99 ms",
        "",
    ]
    rows = []
    for name, target, told in results:
        scenario = SCENARIOS[name]
        verdict = ""
        if target in OURS and scenario.goal_429 is not None:
            verdict = "met" if met(scenario, told) else "NOT met"
        true = f"{told.told_true}/{told.refused}" if told.refused else "-"
        rows.append(
            [
                f"{name}  {scenario.what}",
                target,
                *(str(n) for n in (told.offered, told.fits, told.served, told.refused, sum(told.errors.values()))),
                str(len(told.upstream_429_s)),
                true,
                f"{told.added_p50_ms:.1f}/{told.added_p99_ms:.0f}",
                verdict,
            ]
        )
    return report.columns(header, rows)


def met(scenario: Scenario, told: Verdict) -> bool:
    """The issue's words: all that fits is served, the rest is told 429 with a true Retry-After, few upstream 429s."""
    return (
        told.served == told.fits
        and not told.errors
        and len(told.upstream_429_s) <= (scenario.goal_429 or 0)
        and told.told_true == told.refused
    )


def main(argv: list[str]) -> int:
    """Plays the story; 1 when ours misses a goal."""
    parser = argparse.ArgumentParser(prog="bench quota-story", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", nargs="+", choices=list(SCENARIOS), default=list(SCENARIOS))
    parser.add_argument("--targets", nargs="+", choices=OURS + PEERS, default=list(OURS + PEERS))
    options = parser.parse_args(argv)
    processes.raise_priority()
    folder = CACHE / "quota-story" / str(os.getpid())
    results: list[tuple[str, str, Verdict]] = []
    try:
        for names in _ROUNDS:
            wanted = [name for name in names if name in options.only]
            if wanted:
                print(f"playing {', '.join(wanted)} ...", flush=True)
                results += asyncio.run(play_round(wanted, options.targets, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(table(results))
    print('"true": refusals whose Retry-After was within 20 % of the time until an account had room again')
    rows = [{"scenario": name, "gateway": target, **asdict(told)} for name, target, told in results]
    print(f"all figures: {report.save('quota-story', {'rows': rows})}")
    return (
        0
        if all(met(SCENARIOS[n], told) for n, t, told in results if t in OURS and SCENARIOS[n].goal_429 is not None)
        else 1
    )
