"""Reading the configuration again whenever one of its files was saved: APIKEYROUTER_CONFIG_WATCH.

Main entry: `FileWatch.look`, called by the proxy's housekeeping; what it begins is the reload that SIGHUP begins, so a
file with faults changes nothing and is told once. Laws: files that still change are left alone until two looks in a
row see the same, since editors save in steps; only stamps are compared, no file is opened; with several workers the
first one looks, and the others hear of what it applied.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from apikeyrouter_proxy.config.stamps import Stamps

__all__ = ["FileWatch", "seconds_between"]

_log = logging.getLogger("apikeyrouter_proxy.config")

_LEAST_S, _MOST_S = 0.25, 3600.0
_WORDS = {"on": 1.0, "true": 1.0, "yes": 1.0, "off": 0.0, "false": 0.0, "no": 0.0, "0": 0.0}
_AGAIN_LOOKS = 30
"""After so many looks a reload that came to nothing, as while the store was down, is tried again."""


def seconds_between(text: str) -> float:
    """Seconds between two looks, 0 for none. Raises ValueError."""
    known = _WORDS.get(text.lower())
    if known is not None:
        return known
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not _LEAST_S <= found <= _MOST_S:
        raise ValueError("expected on, off, or the seconds between two looks at the file, from 0.25 to 3600")
    return found


class FileWatch:
    """Looks at files every `every` calls. `read`: what the configuration in force was read from. `besides`: more files.
    `changed`: begins a reload."""

    def __init__(self, every: int, read: Stamps, besides: tuple[str, ...], changed: Callable[[], None]) -> None:
        self._every = every
        self._besides = besides
        self._changed = changed
        self._calls = 0
        self._wait = 0
        self._last: Stamps | None = None
        self.expect(read)

    def expect(self, read: Stamps) -> None:
        """These were read, whether they could be used or not: only what comes after them is a change."""
        self._read = read.joined(Stamps())
        for path in self._besides:
            self._read.note(path)
        self._wait = 0

    async def look(self) -> None:
        """Once per round of the housekeeping."""
        self._calls += 1
        if self._calls % self._every:
            return
        before, self._last = self._last, await asyncio.to_thread(self._read.now)
        if self._last == self._read or self._last != before:
            return
        if self._wait:
            self._wait -= 1
            return
        self._wait = _AGAIN_LOOKS
        _log.info("Configuration: %s.", _told(self._read, self._last))
        self._changed()


def _told(before: Stamps, now: Stamps) -> str:
    """Which files, in words."""
    found = [path for path, one in now.files.items() if one != before.files.get(path)]
    found += [pattern for pattern, one in now.patterns.items() if one != before.patterns.get(pattern)]
    rest = len(found) - 3
    return f"{', '.join(found[:3])}{f' and {rest} more' if rest > 0 else ''} changed; it is read again"
