"""Shows where our proxy's CPU goes on the request path: the benchmark's own load, seen through a profiler.

Entry: `python -m bench.profile_proxy [--stream] [--seconds N] [--top N]`. With py-spy on the PATH the proxy runs at
full speed and is sampled from outside; otherwise it runs under cProfile, which makes small functions look dearer than
they are.
Law: a profile tells where to look, never how fast: figures come from `python -m bench http`.
"""

from __future__ import annotations

import argparse
import pstats
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from bench import http_load, processes, report, targets
from bench.http_bench import STREAM_CONNECTIONS, upstream
from bench.targets import CACHE

_UNDER_PROFILER = """
import cProfile, sys
from apikeyrouter_proxy.cli import main
sys.argv = ["apikeyrouter", *sys.argv[2:]]
profile = cProfile.Profile()
try:
    profile.runcall(main)
except SystemExit:
    pass
finally:
    profile.dump_stats({path!r})
"""


class Profiled(targets.Ours):
    """Ours, under cProfile; the figures are written when the server has stopped."""

    @property
    def stats_path(self) -> Path:
        return self.folder / "proxy.prof"

    def command(self) -> tuple[list[str], dict[str, str]]:
        command, env = super().command()
        return [sys.executable, "-c", _UNDER_PROFILER.format(path=str(self.stats_path)), *command], env


def load(target: targets.Target, seconds: float, folder: Path, *, stream: bool) -> None:
    """The saturating load of the benchmark."""
    if stream:
        http_load.stream(target, STREAM_CONNECTIONS, seconds, paced=False)
    else:
        http_load.saturate(target, 16, seconds, folder)


def by_sampling(port: int, folder: Path, seconds: float, top: int, *, stream: bool) -> str:
    """py-spy: share of the event loop's samples by function, alone and with callees, and each thread's CPU."""
    target = targets.Ours("ours", processes.free_port(), port, folder / "profile")
    target.start()
    try:
        load(target, 1.0, folder, stream=stream)
        if target.running is None:
            raise RuntimeError("the proxy is not running")
        raw = folder / "profile" / "stacks.txt"
        command = ["py-spy", "record", "-p", str(target.running.process.pid), "-d", str(int(seconds)), "-r", "500"]
        spy = subprocess.Popen(
            [*command, "-f", "raw", "-o", str(raw)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        before = target.running.thread_cpu_s()
        load(target, seconds + 0.5, folder, stream=stream)
        threads = {name: cpu_s - before.get(name, 0.0) for name, cpu_s in target.running.thread_cpu_s().items()}
        _, errors = spy.communicate(timeout=60)
        if spy.returncode != 0:
            raise RuntimeError(f"py-spy failed: {errors.decode(errors='replace')[-500:]}")
    finally:
        target.stop()
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for line in raw.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        # Lines of one function count together: "name (file:line)" without its line.
        if "asyncio/runners.py" not in stack:
            continue  # threads beside the loop mostly wait, which py-spy cannot always tell from work
        frames = [frame.rpartition(":")[0] + ")" if ":" in frame else frame for frame in stack.split(";")]
        own[frames[-1]] += int(count)
        for frame in set(frames):
            total[frame] += int(count)
    every = max(1, sum(own.values()))
    rows = [[name, f"{count / every:.1%}", f"{total[name] / every:.1%}"] for name, count in own.most_common(top)]
    busy = sorted(threads.items(), key=lambda item: -item[1])
    shares = ", ".join(f"{name} {cpu_s / max(1e-9, sum(threads.values())):.0%}" for name, cpu_s in busy)
    return report.columns(["function", "self", "with callees"], rows) + f"\n\nCPU by thread: {shares}"


def by_tracing(port: int, folder: Path, seconds: float, top: int, *, stream: bool) -> str:
    """cProfile: time inside each function while the load ran."""
    target = Profiled("ours", processes.free_port(), port, folder / "profile")
    try:
        target.start()
        load(target, seconds, folder, stream=stream)
    finally:
        target.stop()
    stats = pstats.Stats(str(target.stats_path))
    table: dict[tuple[str, int, str], tuple[int, int, float, float, object]] = stats.stats  # type: ignore[attr-defined]  # not in the stubs
    ordered = sorted(table.items(), key=lambda item: -item[1][2])[:top]
    every_s = sum(entry[2] for entry in table.values())
    rows = [
        [f"{_short(path)}:{line} {name}", f"{own_s / every_s:.1%}", f"{whole_s / every_s:.1%}", f"{calls:,}"]
        for (path, line, name), (_, calls, own_s, whole_s, _) in ordered
    ]
    return report.columns(["function", "self", "with callees", "calls"], rows)


def _short(path: str) -> str:
    return "/".join(Path(path).parts[-3:]) if "/" in path else path


def main(argv: list[str]) -> int:
    """Runs the load for `--seconds` and prints the `--top` functions."""
    parser = argparse.ArgumentParser(prog="python -m bench.profile_proxy", description="Where the proxy's CPU goes.")
    parser.add_argument("--stream", action="store_true", help="streams instead of JSON requests")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--top", type=int, default=40)
    arguments = parser.parse_args(argv)
    processes.raise_priority()
    folder = CACHE / "run-profile"
    folder.mkdir(parents=True, exist_ok=True)
    profile = by_sampling if shutil.which("py-spy") else by_tracing
    with upstream(folder) as port:
        print(profile(port, folder, arguments.seconds, arguments.top, stream=arguments.stream))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
