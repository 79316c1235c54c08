"""What it costs to have the product: import, cold start, idle memory, installed size, dependencies.

Entry: `main(argv)` (`python -m bench startup [--sizes]`). `--sizes` installs both packages into fresh environments
under `.cache/bench/` (a minute) and adds up the files.
Laws: each import is a process of its own and the median is shown; memory is what the process holds after the import,
with the interpreter's own share printed beside it. `import apikeyrouter` is lazy, so what a first router costs is
shown too.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

from bench import local_http, processes, report, targets
from bench.targets import CACHE, ROOT

_PROBE = """
import sys, time
began = time.perf_counter()
{statement}
took_s = time.perf_counter() - began
import os
rss = int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
print("PROBE", took_s, rss, len(sys.modules))
"""


def import_cost(statement: str, runs: int, python: str = sys.executable) -> dict[str, float]:
    """Median seconds, MiB and modules of a fresh process after `statement`."""
    seconds, memory, modules = [], [], []
    for _ in range(runs):
        command = [python, "-c", _PROBE.format(statement=statement)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
        if done.returncode != 0:
            raise RuntimeError(f"`{statement}` failed:\n{done.stderr[-1500:]}")
        _, took_s, rss, count = done.stdout.split()
        seconds.append(float(took_s))
        memory.append(int(rss) / 2**20)
        modules.append(int(count))
    return {
        "seconds": statistics.median(seconds),
        "rss_mib": statistics.median(memory),
        "modules": statistics.median(modules),
    }


def import_time(module: str, statement: str, runs: int) -> tuple[float, list[tuple[str, float]]]:
    """Median total of `-X importtime` for `module` in seconds, and the dearest of all imports that `statement` makes.

    The dearest are ten (name, own time in ms) of the last run.
    """
    totals: list[float] = []
    rows: list[tuple[str, float]] = []
    for _ in range(runs):
        command = [sys.executable, "-X", "importtime", "-c", statement]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
        rows = []
        total_us = 0.0
        for line in done.stderr.splitlines():
            fields = line.removeprefix("import time:").split("|")
            if len(fields) == 3 and fields[0].strip().isdigit():
                rows.append((fields[2].strip(), int(fields[0]) / 1e3))
                if fields[2].strip() == module:
                    total_us = float(fields[1])
        totals.append(total_us / 1e6)
    return statistics.median(totals), sorted(rows, key=lambda row: -row[1])[:10]


def cold_start(runs: int) -> dict[str, float]:
    """From `exec` of `apikeyrouter serve` to /readyz saying 200, and the memory two seconds later; medians."""
    ready, memory = [], []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            port = processes.free_port()
            ours = targets.Ours("ours", port, processes.free_port(), Path(folder))
            command, env = ours.command()
            began = time.perf_counter()
            running = processes.start(
                "ours", command, core=processes.GATEWAY_CORE, log=Path(folder) / "out.log", env=env, cwd=Path(folder)
            )
            try:
                local_http.wait_ok(port, "/readyz", limit_s=30)
                ready.append(time.perf_counter() - began)
                time.sleep(2.0)
                memory.append(running.rss_mib())
            except RuntimeError as error:
                raise RuntimeError(f"{error}\n{running.log_tail()}") from None
            finally:
                running.stop()
    return {"ready_s": statistics.median(ready), "rss_idle_mib": statistics.median(memory)}


def direct_dependencies(package: str) -> int:
    """How many distributions `packages/<package>` names as its own requirements."""
    with (ROOT / "packages" / package / "pyproject.toml").open("rb") as file:
        return len(tomllib.load(file)["project"]["dependencies"])


def installed_size(packages: list[str]) -> dict[str, float]:
    """Installs packages of this repository afresh; MB (10^6 bytes, without bytecode) and distributions.

    pip, setuptools and wheel, which every environment has, are left out.
    """
    home = CACHE / ("sizes-" + "-".join(packages))
    shutil.rmtree(home, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    site = next((home / "lib").glob("python*")) / "site-packages"
    command = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python"), "install", "-q", "--no-compile"]
    command += ["--disable-pip-version-check", *[str(ROOT / "packages" / package) for package in packages]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"pip failed:\n{done.stderr[-1500:]}")
    files = [path for path in site.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return {
        "mb": sum(path.stat().st_size for path in files) / 1e6,
        "distributions": float(len(list(site.glob("*.dist-info")))),
    }


def main(argv: list[str]) -> int:
    """Command line: `--sizes` adds installed sizes (needs the package index), `--runs N`."""
    parser = argparse.ArgumentParser(prog="python -m bench startup", description="Import, cold start, memory, size.")
    parser.add_argument(
        "--sizes", action="store_true", help="install both packages into fresh environments and weigh them"
    )
    parser.add_argument("--runs", type=int, default=9, help="processes a figure (median)")
    arguments = parser.parse_args(argv)
    processes.raise_priority()
    bare = import_cost("pass", arguments.runs)
    core = import_cost("import apikeyrouter", arguments.runs)
    used = import_cost("from apikeyrouter import ApiKeyRouter; ApiKeyRouter()", arguments.runs)
    total_s, _ = import_time("apikeyrouter", "import apikeyrouter", arguments.runs)
    _, dearest = import_time("apikeyrouter", "from apikeyrouter import ApiKeyRouter; ApiKeyRouter()", 1)
    result: dict[str, Any] = {"bare": bare, "import": core, "used": used, "importtime_s": total_s}
    goals = [
        report.Goal("import apikeyrouter", core["seconds"] * 1e3, 150, at_most=True, unit="ms"),
        report.Goal("  the same by -X importtime", total_s * 1e3, 150, at_most=True, unit="ms"),
        report.Goal("  memory after it", core["rss_mib"], 40, at_most=True, unit="MiB"),
        report.Goal("  of which the bare interpreter", bare["rss_mib"], None, at_most=True, unit="MiB"),
        report.Goal("ApiKeyRouter() made, from nothing", used["seconds"] * 1e3, None, at_most=True, unit="ms"),
        report.Goal("  memory after it", used["rss_mib"], None, at_most=True, unit="MiB"),
        report.Goal("core: direct dependencies", direct_dependencies("core"), 8, at_most=True),
    ]
    try:
        result["serve"] = served = cold_start(min(5, arguments.runs))
        goals.append(report.Goal("proxy cold start to first 200", served["ready_s"], 1.5, at_most=True, unit="s"))
        goals.append(report.Goal("proxy memory idle", served["rss_idle_mib"], 90, at_most=True, unit="MiB"))
    except (OSError, RuntimeError) as error:
        result["serve_error"] = str(error)
        print(f"proxy not measured: {error}\n")
    if arguments.sizes:
        for name, packages, bound in (("core", ["core"], 40), ("proxy with core", ["core", "proxy"], 90)):
            result[f"size {name}"] = size = installed_size(packages)
            goals.append(report.Goal(f"{name}: installed", size["mb"], bound, at_most=True, unit="MB"))
            goals.append(report.Goal("  distributions, itself included", size["distributions"], None, at_most=True))
    print(report.figures_table(goals))
    print(
        "\ndearest imports of a first router (own time, ms): " + ", ".join(f"{name} {ms:.1f}" for name, ms in dearest)
    )
    print(f"\nfigures: {report.save('startup', json.loads(json.dumps(result)))}")
    return 0
