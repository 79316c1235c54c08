"""The judge of the budget race: an independent, naive ledger that shares no code with the real one.

Main entry: `judge`. From the logs of all processes, replayed by time, and the store's last word it says whether any
instant had more spent and held than the limit (overspend), whether anybody was refused what fitted (false rejection),
and whether totals, presumed charges and entries are what they must be.

How much a killed process must and may have been charged, by the last line of each of its holds (`Owed`): held: nothing.
sending: nothing, or all of it. sent: all of it. settling: its charge, or all of it, or (in the instant between two
writes) both. settled: its charge.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from apikeyrouter.domain.interfaces.state_store import StateStore

__all__ = ["Race", "Verdict", "judge"]

Line = tuple[float, str, str, int, int]
"""When, which log, what, amount, number of the hold."""


@dataclass(frozen=True, slots=True)
class Race:
    """What is judged. `logs`: the folder. `ids`: budgets in order. `killed`: names of logs whose processes were killed.
    `exact`: black boxes were kept, so that charges for the dead are known to the nano-dollar."""

    logs: Path
    limit: int
    ids: Sequence[str]
    killed: frozenset[str] = frozenset()
    exact: bool = True


@dataclass(slots=True)
class Verdict:
    """What was found. Amounts in nano-USD, `overspend` the largest of any budget at any instant; `used_share`: mean
    part of the limits that was spent, of budgets that were raced to their end. `resumed_s`: per process and outage,
    from the server's return until the process had heard it."""

    reservations: int = 0
    refusals: int = 0
    timeouts: int = 0
    store_errors: int = 0
    overspend: int = 0
    false_rejections: int = 0
    presumed: int = 0
    presumed_most: int = 0
    round_trips: int = 0
    budgets: int = 0
    used_share: float = 0.0
    kills: int = 0
    server_kills: int = 0
    recovered_s: list[float] = field(default_factory=list)
    resumed_s: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether nothing was violated."""
        return not self.faults and self.overspend == 0 and self.false_rejections == 0


@dataclass(slots=True)
class _Owed:
    """One hold of one process."""

    need: int
    state: str = "held"
    actual: int = 0

    def bounds(self) -> tuple[int, int]:
        """(least, most) that its process's death leaves charged for it."""
        if self.state == "held":
            return 0, 0
        if self.state == "sending":
            return 0, self.need
        if self.state == "sent":
            return self.need, self.need
        return self.actual, self.need + self.actual

    def presumed(self) -> tuple[int, int]:
        """(least, most) of that which is charged as presumed."""
        return (self.need, self.need) if self.state == "sent" else (0, 0 if self.state == "held" else self.need)


async def judge(race: Race, store: StateStore) -> Verdict:
    """Reads the logs and the store."""
    verdict = Verdict(kills=len(race.killed))
    shares = []
    for place, budget_id in enumerate(race.ids):
        books = _Books(race, f"budget {place}", verdict)
        books.replay(_lines(race.logs / str(place)))
        found = await store.load_windows([(budget_id, 0, 0)])
        if not found:
            continue
        (totals,) = found
        verdict.budgets += 1
        verdict.presumed += totals.presumed
        books.compare(totals.spent, totals.presumed)
        if totals.held or totals.granted != totals.spent:
            verdict.faults.append(f"budget {place}: not at rest: {totals}")
        entries = await store.query_entries(budget_id, 0, 10_000_000)
        if sum(entry.amount for entry in entries) != totals.spent:
            verdict.faults.append(f"budget {place}: entries do not add up to {totals.spent}")
        if books.refused:
            shares.append(totals.spent / race.limit)
    verdict.used_share = sum(shares) / len(shares) if shares else 0.0
    for log in sorted((race.logs / "process").glob("*.log")):
        _read_process(log, race, verdict)
    return verdict


def _lines(folder: Path) -> list[Line]:
    lines = []
    for log in folder.glob("*.log"):
        for text in log.read_text().splitlines():
            at_s, what, amount, number = text.split()
            lines.append((float(at_s), log.name, what, int(amount), int(number)))
    lines.sort(key=lambda line: line[0])  # stable: lines of one log stay in their order
    return lines


def _read_process(log: Path, race: Race, verdict: Verdict) -> None:
    ended = False
    for text in log.read_text().splitlines():
        _, what, fact = text.split(" ", 2)
        if what == "end":
            ended = True
            verdict.round_trips += int(fact)
        elif what == "fault":
            verdict.faults.append(f"{log.name}: {fact}")
    if not ended and log.name not in race.killed:
        verdict.faults.append(f"{log.name}: did not end in order")


class _Books:
    """One budget. `spent` and what is open in `holds` never exceed the truth at any instant; `owed_most` is the most
    that the dead may have been charged for."""

    def __init__(self, race: Race, name: str, verdict: Verdict) -> None:
        self._race = race
        self._name = name
        self._verdict = verdict
        self._holds: dict[tuple[str, int], _Owed] = {}
        self._spent = 0
        self._held = 0
        self._settled = 0
        self._least = self._most = 0
        self._presumed_least = self._presumed_most = 0
        self.refused = 0

    def replay(self, lines: list[Line]) -> None:
        """Every line, oldest first; a killed process's holds are closed after its last one."""
        last = {log: place for place, (_, log, *_) in enumerate(lines) if log in self._race.killed}
        for place, (_, log, what, amount, number) in enumerate(lines):
            self._take(log, what, amount, number)
            over = self._spent + self._held - self._race.limit
            self._verdict.overspend = max(self._verdict.overspend, over)
            if last.get(log) == place:
                for key in [key for key in self._holds if key[0] == log]:
                    self._bury(self._holds.pop(key))
        for (log, number), hold in self._holds.items():
            self._verdict.faults.append(f"{self._name}: {log} left hold {number} {hold.state}")

    def _take(self, log: str, what: str, amount: int, number: int) -> None:
        verdict, key = self._verdict, (log, number)
        if what == "held":
            verdict.reservations += 1
            self._holds[key] = _Owed(amount)
            self._held += amount
        elif what == "released":
            self._held -= self._holds.pop(key).need
        elif what in ("sending", "sent"):
            self._holds[key].state = what
        elif what == "settling":
            hold = self._holds[key]
            hold.state, hold.actual = what, amount
            self._held -= hold.need
            self._spent += amount
        elif what == "settled":
            del self._holds[key]
            self._settled += amount
        elif what == "refused":
            self._judge_refusal(amount)
        elif what == "timeout":
            verdict.timeouts += 1
        elif what == "failed":
            verdict.store_errors += 1
        else:
            verdict.faults.append(f"{self._name}: {log} wrote {what!r}")

    def _bury(self, hold: _Owed) -> None:
        """Its process was killed."""
        least, most = hold.bounds()
        if hold.state == "settling":
            self._spent -= hold.actual  # it is part of `least` now
        else:
            self._held -= hold.need
        self._spent += least
        self._least += least
        self._most += most
        presumed = hold.presumed()
        self._presumed_least += presumed[0]
        self._presumed_most += presumed[1]

    def _judge_refusal(self, need: int) -> None:
        """It was right if `need` did not fit what may have been posted by then: what is only held is no reason."""
        self.refused += 1
        self._verdict.refusals += 1
        if not self._race.exact and self._race.killed:
            return  # whole slices of the dead are presumed, and nobody here knows how large they were
        posted_most = self._settled + self._most
        posted_most += sum([hold.actual for hold in self._holds.values() if hold.state == "settling"])
        if posted_most + need <= self._race.limit:
            self._verdict.false_rejections += 1
            self._verdict.faults.append(
                f"{self._name}: {need} refused with {posted_most} of {self._race.limit} spent at the most"
            )

    def compare(self, spent: int, presumed: int) -> None:
        """What the store says in the end."""
        verdict, name, race = self._verdict, self._name, self._race
        verdict.presumed_most += self._presumed_most
        verdict.overspend = max(verdict.overspend, spent - race.limit)
        least, most = self._settled + self._least, self._settled + self._most
        if not race.exact and race.killed:
            most, self._presumed_least, self._presumed_most = race.limit, 0, race.limit
        if not least <= spent <= most:
            verdict.faults.append(f"{name}: {least} to {most} were spent, the store says {spent}")
        if not self._presumed_least <= presumed <= self._presumed_most:
            between = f"{self._presumed_least} to {self._presumed_most}"
            verdict.faults.append(f"{name}: {between} must be presumed, the store says {presumed}")


def logs_of(folder: Path, pid: int) -> Iterator[Path]:
    """What the process wrote that belongs to no budget."""
    return folder.glob(f"process/*-{pid}.log")
