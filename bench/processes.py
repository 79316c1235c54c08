"""Processes under measurement: started on a given core, watched through /proc, ended with all their children.

Entry: `start()` and the `Running` it returns. Linux only (taskset, /proc).
Laws: only processes started here are ever signalled, by pid; CPU and memory are those of the whole tree, so that a
gateway which forks workers pays for them.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

GATEWAY_CORE = 0
LOAD_CORE = 1
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A loopback port nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def pinned(core: int, command: Sequence[str]) -> list[str]:
    """The command, held on one core where the machine has it (on a single core everything shares)."""
    return ["taskset", "-c", str(core), *command] if core in os.sched_getaffinity(0) else list(command)


def available_cores() -> list[int]:
    """The cores this process may use."""
    return sorted(os.sched_getaffinity(0))


@contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Waits until no other benchmark of this checkout runs: two at once would measure each other."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another benchmark runs here; waiting for it to end", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def raise_priority() -> bool:
    """Lifts this session's autogroup above other work on the machine (needs root). False where that is not possible.

    Without it a neighbour's test run changes results by up to four times; `nice` alone does not help under autogroup
    scheduling.
    """
    try:
        Path("/proc/self/autogroup").write_text("-10")
    except OSError:
        return False
    return True


@dataclass(slots=True)
class Running:
    """A started process and where its output goes."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pids(self) -> list[int]:
        """The process and all its descendants, parents first."""
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                parent = _stat_field(int(entry.name), 1)
                if parent is not None:
                    children.setdefault(int(parent), []).append(int(entry.name))
        found = [self.process.pid]
        for pid in found:
            found.extend(children.get(pid, ()))
        return found

    def cpu_s(self) -> float:
        """User and system seconds of the living tree since it began (10 ms steps)."""
        ticks = 0
        for pid in self.pids:
            ticks += int(_stat_field(pid, 11) or 0) + int(_stat_field(pid, 12) or 0)
        return ticks / _TICKS_PER_S

    def thread_cpu_s(self) -> dict[str, float]:
        """User and system seconds of each thread of the process itself, by "name/id"."""
        found = {}
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            fields = (task / "stat").read_text().rpartition(")")[2].split()
            name = (task / "comm").read_text().strip()
            found[f"{name}/{task.name}"] = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
        return found

    def rss_mib(self) -> float:
        """Resident memory of the tree in MiB; pages shared between its processes count once each."""
        pages = 0
        for pid in self.pids:
            try:
                pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            except OSError:
                continue
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def log_tail(self, lines: int = 15) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def pause(self) -> None:
        """Stops the tree where it stands, so that it takes nothing from whoever is measured now."""
        for pid in self.pids:
            os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Lets a paused tree go on. Harmless when it was not paused."""
        for pid in self.pids:
            os.kill(pid, signal.SIGCONT)

    def stop(self, patience_s: float = 8.0) -> None:
        """Asks the tree to end, then makes it."""
        born = {pid: _stat_field(pid, 19) for pid in self.pids}
        if self.process.poll() is None:
            self.resume()  # a paused process would not hear the request to end
            self.process.terminate()
        try:
            self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(patience_s)
        for pid, start_ticks in born.items():
            # The start time tells a child that outlived its parent from a stranger who was given its number.
            if start_ticks is not None and _stat_field(pid, 19) == start_ticks:
                os.kill(pid, signal.SIGKILL)


def _stat_field(pid: int, index: int) -> str | None:
    """A field of /proc/<pid>/stat, counted from the state letter (1: parent, 11 and 12: user and system ticks)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()[index]


def start(
    name: str,
    command: Sequence[str],
    *,
    core: int,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Running:
    """Starts a command on a core with its output in `log`; `env` is added to ours."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        process = subprocess.Popen(
            pinned(core, command),
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(env or {})},
            cwd=cwd,
        )
    return Running(name, process, log)


def wait_listening(running: Running, port: int, *, limit_s: float = 60.0) -> float:
    """Seconds until the port accepts; raises RuntimeError with the log's end if the process dies or never listens."""
    began = time.perf_counter()
    while time.perf_counter() - began < limit_s:
        if running.process.poll() is not None:
            raise RuntimeError(f"{running.name} ended with {running.process.returncode}:\n{running.log_tail()}")
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=0.5):
                return time.perf_counter() - began
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"{running.name} did not listen on {port} within {limit_s} s:\n{running.log_tail()}")
