"""Which files a configuration was read from, and whether they are still the same.

Main entry: `Stamps`: noted while files are read, so that a change between the reading and the first look is seen too.
A stamp is what tells a saved file from the one before: its time, size and number; content is not read. Laws: a file
that is not there has a stamp as well, so its coming is a change; a stamp is taken before the content is.
"""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Stamps"]

_Stamp = tuple[int, int, int] | None


@dataclass(slots=True)
class Stamps:
    """`files`: by path; `patterns`: what each `include` matched, so that a new file is seen."""

    files: dict[str, _Stamp] = field(default_factory=dict)
    patterns: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def note(self, path: object) -> None:
        """Takes the stamp of a file that is about to be read."""
        self.files[str(path)] = _stamp(str(path))

    def now(self) -> Stamps:
        """The same files as they are at this moment."""
        patterns = {one: tuple(sorted(glob.glob(one))) for one in self.patterns}  # noqa: PTH207 - as they are read
        return Stamps({path: _stamp(path) for path in self.files}, patterns)

    def joined(self, other: Stamps) -> Stamps:
        """Both; `other` goes before."""
        return Stamps({**self.files, **other.files}, {**self.patterns, **other.patterns})

    def as_rows(self) -> list[Any]:
        """For JSON."""
        return [dict(self.files), dict(self.patterns)]

    @classmethod
    def of_rows(cls, rows: list[Any]) -> Stamps:
        """What `as_rows` told."""
        files = {path: None if one is None else (one[0], one[1], one[2]) for path, one in rows[0].items()}
        return cls(files, {pattern: tuple(found) for pattern, found in rows[1].items()})


def _stamp(path: str) -> _Stamp:
    try:
        found = os.stat(path)  # noqa: PTH116 - once a second for every file
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
