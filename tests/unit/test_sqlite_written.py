"""Whether anybody has written to a database file: said too often rather than once too few."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from apikeyrouter.infrastructure.state_store.sqlite_shared import LOOK_EVERY_S, STILL_S, WrittenTo
from apikeyrouter.testing.virtual_time import ManualClock

NOON_S = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()


class File:
    """A database whose log was written to at the given time."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock(utc=datetime.fromtimestamp(NOON_S, UTC))
        self.log = folder / "x.db-wal"
        self.written = WrittenTo(folder / "x.db", self.clock)

    def write(self, at_s: float, content: bytes = b"page") -> None:
        self.log.write_bytes(content)
        os.utime(self.log, (at_s, at_s))

    def looks(self, count: int) -> list[bool]:
        """What is said at so many looks."""
        said = []
        for _ in range(count):
            self.clock.advance(LOOK_EVERY_S)
            said.append(self.written.since_last())
        return said


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path)


def test_of_a_log_that_nobody_touches_it_is_said_once_a_second(file: File) -> None:
    file.write(NOON_S - 100.0)
    said = file.looks(1000)
    assert said[0]
    assert sum(said) <= 1000 * LOOK_EVERY_S / STILL_S + 2
    looks = int(STILL_S / LOOK_EVERY_S) + 1
    assert all(any(said[at : at + looks]) for at in range(1000 - looks)), "for disks that take longer"


def test_each_write_is_told_at_the_next_look_and_for_as_long_as_it_may_be_on_its_way(file: File) -> None:
    file.write(NOON_S - 100.0)
    file.looks(30)
    for content in (b"page", b"pages", b"page"):
        file.write(file.clock.utc_now().timestamp(), content)
        assert all(file.looks(int(STILL_S / LOOK_EVERY_S)))
        assert not all(file.looks(10))


def test_a_new_log_of_the_same_length_and_time_is_another_one(file: File) -> None:
    file.write(NOON_S - 100.0)
    file.looks(5)
    file.log.rename(file.log.with_suffix(".old"))
    file.write(NOON_S - 100.0)
    assert file.looks(1) == [True]


def test_without_a_log_and_with_one_from_the_future_everything_is_looked_at(file: File) -> None:
    assert all(file.looks(50))
    file.write(NOON_S + 1e6)
    assert all(file.looks(50))
