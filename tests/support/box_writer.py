"""Real processes that write black boxes and are killed: run as a script, one command a line, one answer a line.

    write DIRECTORY WORKER TRUTH DELAY_S   forks a writer, kills it (-9) after DELAY_S, answers "killed"
    leave DIRECTORY COUNT                  forks COUNT writers that end without closing their box, answers "left"
    rescue DIRECTORY COUNT                 COUNT processes take up wrecks at the same time; answers what each took
    churn DIRECTORY COUNT                  creates and closes COUNT boxes while another process sweeps; answers failures

Forking here is cheap and safe: this process has no threads and holds no box itself.
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from apikeyrouter.infrastructure.black_box import BlackBox, find_dead

STORE = "test store"
COST = 5
KEPT = 600
"""More windows at once than one chunk of the file has room for, so that it grows."""


def fork(work: Callable[[], None]) -> int:
    """Runs `work` in a child of its own, for at most 20 seconds."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return pid


def write(directory: Path, worker_id: str, truth: memoryview[int]) -> NoReturn:
    """Spends like a ledger, for ever. `truth`: [0] requests that have left, [1] lowest and [2] highest live window."""
    box = BlackBox.create(directory, worker_id, store_identity=STORE)
    cells = box.slot("steady", 7).cells
    spent = sent = number = 0
    live = {}
    while True:
        sent += COST
        cells[1] = sent
        truth[0] += 1
        if sent > 2 * COST:
            spent += COST
            cells[0] = spent
            sent -= COST
            cells[1] = sent
        number += 1
        live[number] = slot = box.slot(f"churn-{number}", number)
        truth[2] = number
        slot.cells[0] = number * 1000 + 1
        if len(live) > KEPT:
            truth[1] = number - KEPT + 1
            box.free(live.pop(number - KEPT))


def write_and_kill(directory: str, worker_id: str, truth_path: str, delay_s: str) -> str:
    with Path(truth_path).open("r+b") as file:
        truth = memoryview(mmap.mmap(file.fileno(), 24)).cast("q")
    pid = fork(lambda: write(Path(directory), worker_id, truth))
    select.select([], [], [], float(delay_s))
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return "killed" if os.WTERMSIG(status) == signal.SIGKILL else f"ended by itself: {status}"


def leave(directory: str, count: str) -> str:
    def end_badly(number: int) -> None:
        box = BlackBox.create(Path(directory), f"w{number}", store_identity=STORE)
        box.slot("b", number).cells[0] = number

    for number in range(int(count)):
        os.waitpid(fork(lambda number=number: end_badly(number)), 0)  # type: ignore[misc]  # bound now, not later
    return "left"


def rescue(directory: str, count: str) -> str:
    go_read, go_write = os.pipe()
    told_read, told_write = os.pipe()

    def take() -> None:
        os.close(go_write)
        os.read(go_read, 1)  # all begin when the other end is closed
        taken = find_dead(Path(directory), STORE)
        os.write(told_write, "".join(f"{wreck.worker_id} " for wreck in taken).encode())
        for wreck in taken:
            wreck.remove()

    pids = [fork(take) for _ in range(int(count))]
    os.close(go_write)
    failed = [pid for pid in pids if os.waitpid(pid, 0)[1]]
    os.close(told_write)
    with os.fdopen(told_read) as told:
        return f"failed {failed}" if failed else told.read().strip()


def churn(directory: str, count: str) -> str:
    def sweep() -> None:
        while True:
            found = find_dead(Path(directory), STORE)
            assert not found, "a living worker's box was taken up"

    sweeper = fork(sweep)
    failures = []
    for number in range(int(count)):
        try:
            BlackBox.create(Path(directory), f"c{number}", store_identity=STORE).close(clean=True)
        except OSError as error:
            failures.append(str(error))
    ended = os.waitpid(sweeper, os.WNOHANG)[0]
    if not ended:
        os.kill(sweeper, signal.SIGKILL)
        os.waitpid(sweeper, 0)
    return f"failures {failures} sweeper {'died' if ended else 'lives'}"


COMMANDS = {"write": write_and_kill, "leave": leave, "rescue": rescue, "churn": churn}

if __name__ == "__main__":
    for line in sys.stdin:
        name, *arguments = line.split()
        print(COMMANDS[name](*arguments), flush=True)
