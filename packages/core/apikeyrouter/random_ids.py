"""Random ids for requests and decisions: 24 hexadecimal digits (96 random bits) each.

Main entry: `random_id`. The system is asked for many at once: each question is a system call, at which other threads
may take over. Laws: no id comes twice, in threads and in forked processes too; they are random, not secret.
"""

from __future__ import annotations

import os

__all__ = ["random_id"]

_DIGITS = 24
_AT_ONCE = 256

_ids: list[str] = []
os.register_at_fork(after_in_child=_ids.clear)


def random_id() -> str:
    """A new id. Any thread may ask: taking from a list is one step."""
    try:
        return _ids.pop()
    except IndexError:
        digits = os.urandom(_AT_ONCE * _DIGITS // 2).hex()
        fresh = [digits[at : at + _DIGITS] for at in range(0, len(digits), _DIGITS)]
        found = fresh.pop()
        _ids.extend(fresh)
        return found
