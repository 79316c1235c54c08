"""The fault scoreboard: what users notice, and how often a bad key is asked, over real HTTP, in every format.

Each scenario starts a fresh proxy with three keys at the simulated provider, breaks something, and sends requests one
after another; it runs once for each pair of client and provider formats (`fault_formats.PAIRS`), of which two are
translated. Beside the results of OpenAI's format stands what was measured of others in the same scenario: the public
prototype of our name, and gateways (versions and methods: bench/README.md). `python -m bench faults` prints the table;
`--only openai` runs the pairs whose name contains that.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from bench.fault_formats import PAIRS, Pair
from tests.support.processes import ProxyProcess, proxy_process
from tests.support.sim import Sim, sim_process

__all__ = ["Result", "main"]

REQUESTS = 30


class Field(NamedTuple):
    """Where a scenario takes place."""

    sim: Sim
    proxy: ProxyProcess
    pair: Pair

    def sent(self, key: str | None = None) -> int:
        """Requests for replies that reached the provider (listing models does not count)."""
        return sum(self.pair.provider.asks(request["path"]) for request in self.sim.requests(key=key))

    def failures(self, count: int = REQUESTS) -> int:
        """How many of so many requests were not served, or not in the client's format."""
        failed = 0
        for _ in range(count):
            status, body = self.proxy.post(self.pair.client.path(self.pair.model), self.pair.body())
            failed += status != 200 or not self.pair.client.is_reply(body)
        return failed


class Result(NamedTuple):
    """`passed`: whether our own bar is met. `others`: what peers did, from the published measurement."""

    scenario: str
    ours: str
    bar: str
    others: str
    passed: bool


Scenario = Callable[[Field], Result]


def _one_bad_key(name: str, kind: str, asks_max: int, others: str, **details: object) -> Scenario:
    """One key of three fails in one way; no user may notice, and the key may be asked `asks_max` times at the most."""

    def scenario(field: Field) -> Result:
        bad = field.sim.keys[0]
        field.sim.fault(bad, kind, **details)
        failed = field.failures()
        asked = field.sent(bad)
        return Result(
            f"one key of 3: {name}",
            f"{failed} of {REQUESTS} fail; bad key asked {asked}x",
            f"0 fail, <= {asks_max}x",
            others,
            failed == 0 and asked <= asks_max,
        )

    return scenario


def client_error(field: Field) -> Result:
    """The client asks for something impossible."""
    pair = field.pair
    if not pair.provider.checks:
        field.sim.fault(None, "client_error", status=400)
    status, body = field.proxy.post(pair.client.path(pair.model), pair.impossible())
    asked = field.sent()
    told = pair.client.is_error(body)
    return Result(
        "client error (400)",
        f"status {status}, in its format: {told}; {asked} key asked",
        "status 400, <= 1 key",  # none where the provider's format cannot say it
        "-",
        (status, told) == (400, True) and asked <= 1,
    )


def all_cooling(field: Field) -> Result:
    """Every key answers 429."""
    sim, pair = field.sim, field.pair
    for key, wait_s in zip(sim.keys, (40, 25, 60), strict=True):
        sim.fault(key, "rate_limited", retry_after_s=wait_s)
    told = []
    for _ in range(5):
        status, _, headers = field.proxy.ask("POST", pair.client.path(pair.model), pair.body())
        told.append((status, int(headers.get("retry-after", 0))))
    asked = field.sent()
    right = all(status == 429 and 22 <= wait_s <= 29 for status, wait_s in told)
    return Result(
        "all 3 keys cooling 40, 25, 60 s",
        f"429, Retry-After {told[-1][1]}; {asked} asks for 5 requests",
        "429, 25 (+10 %), 3 asks",
        "-",
        right and asked == 3,
    )


def cut_stream(field: Field) -> Result:
    """The provider breaks off in the middle of a stream."""
    pair = field.pair
    field.sim.fault(None, "cut_stream", after_chunks=3)
    _, body = field.proxy.post(pair.client.path(pair.model, stream=True), pair.body(stream=True))
    _, state = field.proxy.get("/api/v1/state")
    asked = field.sent()
    said = pair.client.tells_error(str(body))
    return Result(
        "stream cut after 3 chunks",
        f"in-band error: {said}; sent {asked}x; open holds {state['open_holds']}",
        "said, sent 1x, settled",
        "several gateways end it as a success (reported, not measured by us)",
        said and asked == 1 and state["open_holds"] == 0,
    )


SCENARIOS: list[Scenario] = [
    _one_bad_key(
        "429, Retry-After 20",
        "rate_limited",
        1,
        "prototype: asked 25x; Portkey by weight: a quarter fail; LLM-API-Key-Proxy: 500 after 61 s",
        retry_after_s=20,
    ),
    _one_bad_key("revoked (401)", "revoked", 2, "prototype: 28 of 30 fail"),
    _one_bad_key("always 500", "server_error", 4, "prototype: tried first 20 of 20 times", status=500),
    _one_bad_key("insufficient_quota", "billing", 1, "-"),
    # a reset on a kept-alive connection may be its idle end: that send is repeated once with the same key
    _one_bad_key("connection reset", "reset", 6, "-"),
    client_error,
    all_cooling,
    cut_stream,
]


def run(pairs: Sequence[Pair] = PAIRS) -> list[tuple[Pair, Result]]:
    """Every scenario for each pair, each with a fresh proxy."""
    results = []
    with sim_process() as sim:
        for pair in pairs:
            for scenario in SCENARIOS:
                sim.reset()
                sim.clear_faults()
                with (
                    tempfile.TemporaryDirectory() as folder,
                    proxy_process(None, Path(folder), env=pair.provider.environment(sim)) as proxy,
                ):
                    results.append((pair, scenario(Field(sim, proxy, pair))))
    return results


def main(argv: Sequence[str] = ()) -> int:
    """Prints the scoreboard; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench faults", description="Failing keys, in every format.")
    parser.add_argument("--only", default="", help="pairs of formats whose name contains this")
    only = parser.parse_args(argv).only
    table = Table(title=f"Faults over HTTP ({REQUESTS} requests, one after another)")
    for heading in ("client -> provider", "scenario", "ours", "bar", "others (measured separately)", ""):
        table.add_column(heading)
    results = run([pair for pair in PAIRS if only in pair.name])
    for pair, result in results:
        others = result.others if pair is PAIRS[0] else ""
        verdict = "ok" if result.passed else "MISSED"
        table.add_row(pair.name, result.scenario, result.ours, result.bar, others, verdict)
    Console(width=170).print(table)
    return 0 if all(result.passed for _, result in results) else 1
