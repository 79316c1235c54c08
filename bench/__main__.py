"""`python -m bench COMMAND`: the one entry to all benchmarks.

Commands: `http` (gateways side by side), `startup` (import, cold start, memory, sizes), `decision` (cost of choosing
among many keys), `translation` (cost of translating formats, and what breaks it), `holds` (cost of holding money),
`faults` (scoreboard of failing keys), `cuts` (streams that break off), `limit-headers` (what is understood of recorded
limits), `replay` (recorded replies of real providers, judged by the SDKs), `race` (many processes on the same budgets),
`soak` (the same while workers and servers are killed), `waiting` (overload and fairness of the waiting room),
`quota-story` (four accounts over real HTTP, beside LiteLLM's proxy), `model_routing` (the predictor of difficulty and
the cascade, on outcomes they have not seen), `model-routing-overhead` (what `auto` costs a request),
`dashboard` (the page in a browser, and what an open one costs), `explained` (the plots of the explanations).
Without a command: `http`. Each prints a table; those that measure speed keep JSON under `.cache/bench/`.
"""

from __future__ import annotations

import importlib
import importlib.util
import signal
import sys

from bench import processes
from bench.targets import CACHE

COMMANDS = {
    "http": "bench.http_bench",
    "startup": "bench.startup",
    "decision": "bench.decision",
    "faults": "bench.faults",
    "cuts": "bench.cuts",
    "holds": "bench.holds",
    "translation": "bench.translation",
    "waiting": "bench.waiting",
    "limit-headers": "bench.limit_headers",
    "replay": "bench.replay",
    "race": "bench.race",
    "soak": "bench.soak",
    "quota-story": "bench.quota_story",
    "model_routing": "bench.model_routing",
    "model-routing-overhead": "bench.model_routing_overhead",
    "dashboard": "bench.dashboard",
    "explained": "bench.explained",
}


def main(argv: list[str]) -> int:
    """Hands the rest of the command line to the named benchmark; returns its exit code."""
    command = argv[0] if argv and not argv[0].startswith("-") else "http"
    if command not in COMMANDS:
        print(f"unknown benchmark {command!r}; known: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    rest = argv[1:] if argv and argv[0] == command else argv
    name = COMMANDS[command]
    if importlib.util.find_spec(name) is None:
        print(f"the benchmark {command!r} is not part of this checkout ({name})", file=sys.stderr)
        return 2
    module = importlib.import_module(name)
    with processes.exclusive(CACHE / "lock"):
        return int(module.main(rest) or 0)


if __name__ == "__main__":
    # An ended run must end what it started, some of which it may be holding still: so the signal becomes an exception.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    sys.exit(main(sys.argv[1:]))
