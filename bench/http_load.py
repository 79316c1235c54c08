"""Runs the three loads against a target and reads what the target's process spent on them.

Entry: `saturate()` (wrk, closed loop), `offer()` (fixed rate, open loop), `stream()` (SSE), `check()` (is the reply
right at all?).
Laws: the load runs on the load's core with the mock; CPU is that of the gateway's process tree, divided by replies
counted by the load.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench import local_http, processes
from bench.targets import ROOT, Target
from bench.upstream import ANSWER, BURST_MODEL, DELTA, EVENTS, PACED_EVENTS, PACED_MODEL

_QUESTION = "Which of my keys should answer this, and how sure are you that its limits will hold for the next minute? "


def body(model: str = BURST_MODEL, *, stream: bool = False) -> str:
    """A chat request of about 1 KB."""
    value: dict[str, object] = {
        "model": model,
        "messages": [
            {"role": "system", "content": "You are a terse assistant. Answer in one paragraph."},
            {"role": "user", "content": _QUESTION * 8},
        ],
        "temperature": 0.2,
        "max_tokens": 256,
    }
    if stream:
        value["stream"] = True
    return json.dumps(value)


@dataclass(slots=True)
class Sample:
    """One measurement: the load's own figures and the gateway's CPU seconds during it."""

    values: dict[str, float]
    bad: dict[str, int]
    cpu_s: float


def check(target: Target) -> list[str]:
    """What is wrong with the target's replies; an empty list means that it may be measured."""
    faults: list[str] = []
    reply = json.loads(_post(target, body()))
    if reply["choices"][0]["message"]["content"] != ANSWER:
        faults.append("the answer's text differs from the upstream's")
    if reply.get("usage", {}).get("total_tokens") != 310:
        faults.append(f"usage differs: {reply.get('usage')}")
    for model, count in ((BURST_MODEL, EVENTS), (PACED_MODEL, PACED_EVENTS)):
        lines = [
            line for line in _post(target, body(model, stream=True)).decode().split("\n") if line.startswith("data: ")
        ]
        deltas = [json.loads(line[6:]) for line in lines if line != "data: [DONE]"]
        text = "".join(choice["delta"].get("content") or "" for delta in deltas for choice in delta["choices"])
        if text != DELTA * (count - 1):
            faults.append(f"{model}: the streamed text differs ({len(text)} characters)")
        if len(lines) != count + 1 or lines[-1] != "data: [DONE]":
            faults.append(f"{model}: {len(lines)} events instead of {count + 1}")
    return faults


def _post(target: Target, text: str) -> bytes:
    headers = {**target.headers, "Content-Type": "application/json"}
    status, content = local_http.call(target.port, "POST", "/v1/chat/completions", body=text.encode(), headers=headers)
    if status != 200:
        raise RuntimeError(f"status {status}: {content[:300].decode(errors='replace')}")
    return content


def saturate(target: Target, connections: int, duration_s: float, folder: Path) -> Sample:
    """As many JSON requests as `connections` clients can make, each waiting for its reply: wrk."""
    payload = folder / "body.json"
    payload.write_text(body())
    env = {
        **os.environ,
        "BENCH_BODY": str(payload),
        "BENCH_HEADERS": "\n".join(f"{name}: {value}" for name, value in target.headers.items()),
    }
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(duration_s))}s", "--timeout", "30s"]
    command += ["-s", str(ROOT / "bench" / "post.lua"), f"{target.base_url}/chat/completions"]
    before_s = _cpu_s(target)
    done = subprocess.run(
        processes.pinned(processes.LOAD_CORE, command), env=env, capture_output=True, text=True, check=True
    )
    cpu_s = _cpu_s(target) - before_s
    line = next(line for line in done.stdout.splitlines() if line.startswith("BENCH "))
    result = json.loads(line[6:])
    good = result["requests"] - result["bad_status"]
    values = {
        "rps": good / result["duration_s"],
        "p50_ms": result["p50_ms"],
        "p99_ms": result["p99_ms"],
        "requests": result["requests"],
    }
    bad = {name: int(result[name]) for name in ("bad_status", "broken") if result[name]}
    return Sample(values, bad, cpu_s)


def offer(target: Target, rate_per_s: int, duration_s: float) -> Sample:
    """`rate_per_s` JSON requests a second, on a timetable."""
    return _generator("bench.fixed_rate", target, {"body": body(), "rate_per_s": rate_per_s, "duration_s": duration_s})


def stream(target: Target, connections: int, duration_s: float, *, paced: bool) -> Sample:
    """Streams on `connections` connections: paced ones show the time to the first event, bursts events/s."""
    model, count = (PACED_MODEL, PACED_EVENTS) if paced else (BURST_MODEL, EVENTS)
    job = {"body": body(model, stream=True), "connections": connections, "duration_s": duration_s, "events": count + 1}
    return _generator("bench.stream_load", target, job)


def _generator(module: str, target: Target, job: dict[str, object]) -> Sample:
    job |= {"port": target.port, "headers": target.headers}
    before_s = _cpu_s(target)
    done = subprocess.run(
        processes.pinned(processes.LOAD_CORE, [sys.executable, "-m", module]),
        input=json.dumps(job),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{module} against {target.name} failed:\n{done.stderr[-1500:]}")
    cpu_s = _cpu_s(target) - before_s
    result = json.loads(done.stdout)
    bad = {str(name): int(count) for name, count in result.pop("bad").items()}
    return Sample({name: float(value) for name, value in result.items()}, bad, cpu_s)


def _cpu_s(target: Target) -> float:
    return target.running.cpu_s() if target.running is not None else 0.0
