"""When what was learned of bursts may be wrong: a request that the told limit allows is not refused for ever.

Entry: `doubt_burst`. What refusals teach of bursts is likely, not certain; it is put to the test by a request that is
larger, but only if no other pool could ever take it (`Sieve.doubt`), and only once in a while. Law: a limit that was
told is never doubted.
"""

from __future__ import annotations

from apikeyrouter.domain.quota.limits import QuotaWindow

__all__ = ["DOUBT_EVERY_S", "doubt_burst", "doubtful"]

DOUBT_EVERY_S = 300.0
"""As often as other things that refusals taught are tried anew (`learning.PROBE_AFTER_S`). Doubted by every request
that is larger, what was learned was forgotten most of the time: code trace, 80 % load, bursts of 6 s, refusals count
(seed 1): 51.1 % served, and 57.1 % so."""


def doubtful(window: QuotaWindow, need: int) -> bool:
    """Whether the told limit allows a request and only what was learned of bursts does not."""
    return window.burst is not None and need <= (window.limit or 0)


def doubt_burst(window: QuotaWindow, need: int, now_s: float) -> float:
    """When a request may be tried that is `doubtful`. `now_s`: from now on so much is taken to fit at once, until a
    refusal teaches the burst anew; later: the last doubt is too young."""
    again_s = window.doubted_at_s + DOUBT_EVERY_S
    if now_s < again_s:
        return again_s
    window.doubted_at_s = now_s
    empty = not window.account.used and not window.account.held
    window.hold_at_once(need, now_s)
    if empty:
        window.account.adjust_used(-window.account.used, now_s)
    return now_s
