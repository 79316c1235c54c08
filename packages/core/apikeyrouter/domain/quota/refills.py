"""How capacity comes back, read off the resets of replies: what they prove outweighs what is known of a provider.

Main entry: `shown_refill`. A token bucket of which C - R of C are out is full again after (C - R)/C of its period; a
rolling window that has just counted a request is whole again after all of its period; a clock window after what is left
of it. Who imitates OpenAI's headers need not count as OpenAI does.
Laws: pure; what was proven stays until something else is; a bucket is never taken for a window, whatever its capacity.
"""

from __future__ import annotations

from apikeyrouter.domain.quota.facts import Refill

__all__ = ["shown_refill"]

_SLACK_S = 1.5
_BUCKET_BELOW, _WINDOW_ABOVE = 1.5, 3.0
_WHOLE_RATIO = 0.8
_FIXED = Refill.Fixed


def shown_refill(
    before: Refill | None, *, limit: int, remaining: int, period_s: float, reset_s: float, bucket: bool
) -> Refill | None:
    """What a reply to a request that was let in proves; else `before`. `reset_s`: until everything is back; `bucket`:
    whether the provider is thought to have buckets anyway."""
    # without `max`: every reply asks
    full_after_s = (limit - remaining if limit > remaining else 0) / (limit if limit > 1 else 1) * period_s  # noqa: FURB136
    if reset_s > _WINDOW_ABOVE * full_after_s + 2 * _SLACK_S:
        if before is _FIXED or reset_s < _WHOLE_RATIO * period_s:
            return Refill.Fixed
        return Refill.Rolling
    likely = reset_s <= _BUCKET_BELOW * full_after_s + _SLACK_S
    # near empty a window looks the same as a bucket
    if before is None and not bucket and likely and remaining * 2 > limit:
        return Refill.Continuous
    return before
