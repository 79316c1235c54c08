"""Trouble for the budget race: workers and servers are killed or frozen at random moments, and come back.

Main entry: `Trouble.run`, which `bench.race.run_race` calls while the race is on; `note` adds what it measured to the
verdict. Laws: a killed worker is replaced at once; a killed server is started again after 0.1 to 3 s, a frozen one
thawed after 1 to 5 s; nothing that it did not start is ever signalled.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Iterator

from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.domain.interfaces.state_store import StateStore
from bench.race import Plan, Racers
from bench.race_judge import Verdict
from tests.support.servers import PostgresServer, RedisServer

__all__ = ["Trouble"]

_POLL_S = 0.05
_LAST_OF_ALL_S = 30.0
"""Recoveries that are still awaited after the last kill are awaited for so long."""


class Trouble:
    """`kills`: of workers. `pauses`: of workers, until they are given up. `server_kills`: of the server, and half as
    many freezes. `seconds_max`: then the race is ended in order, whatever was reached."""

    def __init__(self, plan: Plan, server: PostgresServer | RedisServer | None, *, seed: int = 1) -> None:
        self.kills = 0
        self.pauses = 0
        self.server_kills = 0
        self.seconds_max = 900.0
        self._plan = plan
        self._server = server
        self._rng = random.Random(seed)
        self._killed: set[str] = set()
        self._awaited: dict[str, float] = {}
        self._recovered_s: list[float] = []
        self._gone_at_s: list[float] = []
        self._back_at_s: list[float] = []
        self._server_kills_done = 0
        self._faults: list[str] = []

    async def run(self, racers: Racers, store: StateStore) -> set[str]:
        """Makes trouble until all of it is done, the race is over, or time is up. Names of logs of killed processes."""
        over = asyncio.create_task(self._until_over(racers))
        looking = asyncio.create_task(self._look_for_recoveries(store))
        made = asyncio.gather(self._kill_workers(racers), self._pause_workers(racers), self._kill_server())
        limit = asyncio.create_task(asyncio.sleep(self.seconds_max))
        wanted = bool(self.kills or self.pauses or self.server_kills)
        try:
            await asyncio.wait((made, over, limit) if wanted else (over, limit), return_when=asyncio.FIRST_COMPLETED)
            if made.done():
                made.result()
            if not over.done():
                await self._until_recovered(over)
                racers.stop()
        finally:
            for task in (over, looking, limit, made):
                task.cancel()
            await asyncio.gather(over, looking, limit, made, return_exceptions=True)
            await self._mend()
        return self._killed

    async def _until_over(self, racers: Racers) -> None:
        """Ends when a process has ended by itself: then the budgets are used up."""
        while not any(one.returncode is not None for one in racers.running.values()):
            await asyncio.sleep(_POLL_S)

    async def _until_recovered(self, over: asyncio.Task[None]) -> None:
        """The living settle the dead. Where all have ended meanwhile, the sweep after the race does."""
        until_s = time.monotonic() + _LAST_OF_ALL_S
        while self._awaited and not over.done():
            if time.monotonic() > until_s:
                self._faults.append(f"{len(self._awaited)} killed workers were not settled within {_LAST_OF_ALL_S} s")
                return
            await asyncio.sleep(_POLL_S)

    # -- workers ----------------------------------------------------------------------------------------------------

    async def _kill_workers(self, racers: Racers) -> None:
        for _ in range(self.kills):
            await asyncio.sleep(self._rng.uniform(0.05, 0.8))
            number = await self._victim(racers, any_share=0.1)
            process = await racers.kill(number)
            if process is None:
                return
            log = f"{number}-{process.pid}.log"
            self._killed.add(log)
            worker_id = self._worker_id(log)
            if worker_id:
                self._awaited[worker_id] = time.monotonic()
            await racers.start(number)

    async def _pause_workers(self, racers: Racers) -> None:
        """SIGSTOP until the store has given it up, then SIGCONT."""
        for _ in range(self.pauses):
            await asyncio.sleep(self._rng.uniform(0.3, 1.0))
            number = await self._victim(racers)
            process = racers.running[number]
            log = f"{number}-{process.pid}.log"
            worker_id = self._worker_id(log)
            if process.returncode is not None or not worker_id:
                continue
            self._killed.add(log)
            self._awaited[worker_id] = time.monotonic()
            # one that stands still within a write keeps SQLite locked, and then nobody can end it
            until_s = time.monotonic() + 5 * self._plan.ttl_s
            process.send_signal(signal.SIGSTOP)
            try:
                while worker_id in self._awaited and time.monotonic() < until_s:
                    await asyncio.sleep(_POLL_S)
            finally:
                self._awaited.pop(worker_id, None)
                process.send_signal(signal.SIGCONT)

    async def _victim(self, racers: Racers, *, any_share: float = 0.0) -> int:
        """One that is at work; with the chance `any_share` any one, which may be just starting."""
        while True:
            running = sorted(racers.running.items())
            working = [number for number, one in running if self._has_held(f"{number}-{one.pid}.log")]
            if self._rng.random() < any_share:
                return self._rng.choice(running)[0]
            if working:
                return self._rng.choice(working)
            await asyncio.sleep(_POLL_S)

    def _has_held(self, log: str) -> bool:
        """Whether its log of any budget says something."""
        return any(path.stat().st_size for path in (self._plan.folder / "logs").glob(f"[0-9]*/{log}"))

    def _worker_id(self, log: str) -> str:
        """Under which id it ran last; "" when it was killed before it had one."""
        path = self._plan.folder / "logs" / "process" / log
        if not path.exists():
            return ""
        words = [text.split() for text in path.read_text().splitlines()]
        return next((one[2] for one in reversed(words) if len(one) > 2 and one[1] == "worker"), "")

    async def _look_for_recoveries(self, store: StateStore) -> None:
        seen: set[str] = set()
        while True:
            await asyncio.sleep(_POLL_S)
            try:
                known = {row.worker_id for row in await store.list_workers()}
            except StateStoreError:
                continue
            seen |= known
            for worker_id in [one for one in self._awaited if one not in known]:
                taken_s = time.monotonic() - self._awaited.pop(worker_id)
                if worker_id in seen:  # else it was killed before the store had heard of it
                    self._recovered_s.append(taken_s)

    # -- the server -------------------------------------------------------------------------------------------------

    async def _kill_server(self) -> None:
        server, chance = self._server, self._rng
        if server is None:
            return
        for number in range(self.server_kills + self.server_kills // 2):
            await asyncio.sleep(chance.uniform(0.5, 3.0))
            self._gone_at_s.append(time.monotonic())
            if number % 3 == 2:
                server.freeze()
                await asyncio.sleep(chance.uniform(1.0, 5.0))
                server.thaw()
            else:
                await asyncio.to_thread(server.kill)
                self._server_kills_done += 1
                await asyncio.sleep(chance.uniform(0.1, 3.0))
                await asyncio.to_thread(server.start)
            self._back_at_s.append(time.monotonic())

    async def _mend(self) -> None:
        """Whatever was under way, in the end the server runs."""
        if self._server is None or not self.server_kills:
            return
        if self._server.running:
            self._server.thaw()
        else:
            await asyncio.to_thread(self._server.start)

    # -- what was measured ------------------------------------------------------------------------------------------

    def note(self, verdict: Verdict) -> Verdict:
        """Adds it."""
        verdict.recovered_s = self._recovered_s
        verdict.server_kills = self._server_kills_done
        verdict.resumed_s = [one for log in self._process_logs() for one in self._resumptions(log)]
        verdict.faults += self._faults
        return verdict

    def _process_logs(self) -> Iterator[list[tuple[float, str]]]:
        for path in (self._plan.folder / "logs" / "process").glob("*.log"):
            words = [text.split(" ", 2) for text in path.read_text().splitlines()]
            yield [(float(one[0]), one[1]) for one in words if one[1] in ("down", "up")]

    def _resumptions(self, log: list[tuple[float, str]]) -> Iterator[float]:
        """For every return of the server: how long a process that was cut off then took to hear of it, if it was given
        the time."""
        for back_at_s in self._back_at_s:
            gone_at_s = next((at_s for at_s in self._gone_at_s if at_s > back_at_s), float("inf"))
            before = [what for at_s, what in log if at_s <= back_at_s]
            up_at_s = next((at_s for at_s, what in log if at_s > back_at_s and what == "up"), None)
            if before and before[-1] == "down" and up_at_s is not None and up_at_s < gone_at_s:
                yield up_at_s - back_at_s
