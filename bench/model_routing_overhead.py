"""What `auto` costs a request: the proxy's CPU for requests that leave the model to it, beside those that name one.

Entry: `main(argv)` (`python -m bench model-routing-overhead [--rounds N] [--requests N]`). The main benchmark's target
(`apikeyrouter serve`: virtual key, 8 keys, SQLite) and its mock upstream, 16 connections that wait for their replies,
prompts of about 1 KB. Kinds in turns: a named model; `auto` with prompts never seen before; `auto` with one prompt over
and over.
Laws: the mean of a round is taken against the named requests of the same round, and the median of the rounds is told;
what a request costs the store's thread counts too; a reply that is not 200 ends the run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from bench import processes, report, targets
from bench.client import Connection, Reply, connect, request_bytes
from bench.http_bench import upstream
from bench.targets import CACHE

LIMIT_MS = 0.4
ROUNDS, REQUESTS = 7, 1_500
CONNECTIONS = 16
_KB = 1024
_WARM_UP = 300
_SENTENCES = (
    "Compare how both suppliers answer for late deliveries, and what either of them leaves open.",
    "The committee met on 14 March and put off every decision about the northern bridge.",
    "def total(rows): return sum(row.price * row.count for row in rows if row.count > 0)",
    "Which of the following statements is true of enzymes that work at low temperature?",
    "Bitte fasse die wichtigsten Punkte der Besprechung in drei kurzen Absätzen zusammen.",
    "A train leaves at 09:40 and covers 312 km in 2.5 hours; another starts 20 minutes later.",
    "My landlord says that he may keep the deposit because I never signed the second letter.",
    "She put the letters back into the drawer, one by one, as though none had been read.",
    "Rewrite the paragraph so that a customer who is angry feels heard, but promise nothing.",
    "If x^2 + 3x - 10 = 0, what are the values of x, and which of them fits the drawing?",
    "Explain why the index was not used although the query filters by its first column.",
    "None of the witnesses could say whether the light was red when the lorry turned.",
)
"""Of many kinds, so that no predictor's cache of words or shapes is favoured."""


def prompt(rng: Random) -> str:
    """About 1 KB that nobody has seen: sentences in some order, each with a number of its own."""
    said: list[str] = []
    while sum(map(len, said)) < _KB - 60:
        said.append(f"{rng.choice(_SENTENCES)} ({rng.getrandbits(40):x})")
    return " ".join(said)


def request_body(model: str, text: str) -> bytes:
    """As the main benchmark asks, with this model and prompt."""
    messages = [
        {"role": "system", "content": "You are a terse assistant. Answer in one paragraph."},
        {"role": "user", "content": text},
    ]
    return json.dumps({"model": model, "messages": messages, "temperature": 0.2, "max_tokens": 256}).encode()


def spent_us(target: targets.Target, bodies: Sequence[bytes]) -> float:
    """Mean CPU of the gateway for these requests, in microseconds. Raises RuntimeError for a reply that is not 200."""
    headers = dict(target.headers)
    requests = [request_bytes(target.port, "/v1/chat/completions", body, headers) for body in bodies]
    before = _cpu_us(target)
    asyncio.run(_send(target.port, requests))
    return (_cpu_us(target) - before) / len(bodies)


async def _send(port: int, requests: list[bytes]) -> None:
    """All of them over `CONNECTIONS` connections, each of which waits for its reply before it asks again."""
    left = len(requests)
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_done(connection: Connection, reply: Reply) -> None:
        nonlocal left
        left -= 1
        if reply.status != 200 and not done.done():
            done.set_exception(RuntimeError(f"status {reply.status} of the proxy"))
        elif requests:
            connection.send(requests.pop())
        elif not left and not done.done():
            done.set_result(None)

    connections = [await connect(port, lambda: Connection(on_done)) for _ in range(CONNECTIONS)]
    for connection in connections:
        connection.send(requests.pop())
    try:
        await done
    finally:
        for connection in connections:
            connection.close()


def _cpu_us(target: targets.Target) -> float:
    """CPU that the process's threads have had, to the nanosecond as the scheduler counts it."""
    if target.running is None:
        raise RuntimeError("the proxy is not running")
    tasks = Path(f"/proc/{target.running.process.pid}/task")
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e3


def kinds(model: str) -> dict[str, tuple[str, Callable[[Random], str]]]:
    """What is compared: name -> (the model asked for, how its prompts come). The first names its model."""
    again = prompt(Random(0))
    return {
        "named model": ("gpt-4o-mini", prompt),
        "auto, new prompts": (model, prompt),
        "auto, one prompt again": (model, lambda _: again),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table; 0 when `auto` with new prompts stays within the limit."""
    parser = argparse.ArgumentParser(prog="python -m bench model-routing-overhead", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--requests", type=int, default=REQUESTS, help="of each kind in each round")
    parser.add_argument("--model", default="auto", help="as it is asked for: auto, auto:cost, auto:balanced ...")
    options = parser.parse_args(argv)
    processes.raise_priority()
    if processes.LOAD_CORE in processes.available_cores():
        os.sched_setaffinity(0, {processes.LOAD_CORE})
    folder = CACHE / "model-routing-overhead"
    rng = Random(20261121)
    means: dict[str, list[float]] = {}
    with upstream(folder) as port:
        (target,) = targets.build(["ours"], port, folder)
        target.start()
        try:
            for number in range(options.rounds + 1):
                for kind, (model, ask) in kinds(options.model).items():
                    count = options.requests if number else _WARM_UP
                    spent = spent_us(target, [request_body(model, ask(rng)) for _ in range(count)])
                    if number:
                        means.setdefault(kind, []).append(spent)
        finally:
            target.stop()
    return _report(means, options.model)


def _report(means: dict[str, list[float]], model: str) -> int:
    named = means["named model"]
    rows, added = [], {}
    for kind, spent in means.items():
        more = [one - other for one, other in zip(spent, named, strict=True)]
        added[kind] = statistics.median(more) / 1e3
        spread = f"{min(more) / 1e3:.3f} to {max(more) / 1e3:.3f}" if kind != "named model" else ""
        rows.append([kind, f"{statistics.median(spent) / 1e3:.3f}", f"{added[kind]:.3f}", spread])
    print(f"CPU of the proxy, ms a request ({model}; median of {len(named)} rounds)")
    print(report.columns(["request", "all of it", "added by choosing", "over the rounds"], rows))
    goal = report.Goal("CPU added by auto, new prompts", added["auto, new prompts"], LIMIT_MS, True, "ms")
    print(f"{goal.label}: {goal.value:.3f} ms ({'met' if goal.met else 'MISSED'}: <= {goal.bound:g})")
    return 0 if goal.met else 1
