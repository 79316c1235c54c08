"""Adaptive throttling of one model at one provider: when it takes only a part of what is sent, less is sent.

Main entry: `Throttle`. `start` counts a send, `refuse` says that one of them was refused, `rejects` whether the next
one should stay at home. The share that stays is SRE's p = max(0, (asked - K x accepted) / (asked + 1)), so that about K
sends are made for each accepted one. What stayed at home is not counted but inferred: a send that passed with
probability 1 - p stands for 1 / (1 - p) that were asked for.
Laws: a send counts as accepted from its start until it is known to be refused, so that slow replies never look like
refusals (a breaker that counted at completion dropped too much, go-zero#5011); `rejects` changes nothing; at least one
send per `FLOOR_S` passes; every call is O(1), and without refusals `start` is a comparison and two additions.
Beside the breaker: the breaker answers a provider that is down, the throttle one that is merely full. It lives in the
breaker, acts while that is closed, and starts anew when it opens, so that it never slows a return.
Sources: SRE book, "Handling Overload", equation 21-1; K = 1.5 since attempts may cost money (design notes 2.6). The
window is the breaker's: over 120 s, as the book has it, the breaker opens before the throttle says a word.
"""

from __future__ import annotations

__all__ = ["Throttle"]

K = 1.5
"""Sends per accepted send: at 1.5 a third of what is sent may be refused before anything stays at home."""
WINDOW_S = 30.0
SLOTS = 10
SAMPLES_MIN = 20
"""Sends in the window before it acts: below that, chance speaks."""
STANDS_FOR_MAX = 100.0
"""Requests that one send may stand for: a floor send passes whatever the share is."""
FLOOR_S = 5.0
"""However bad it is, one send in so many seconds finds out whether it is over."""

_SLOTS_PER_S = SLOTS / WINDOW_S
_GOLDEN = 0.6180339887498949


class Throttle:
    """One provider and model. `share`: of the sends that stay at home now, 0..1; lower is better."""

    __slots__ = (
        "_asked", "_asked_sum", "_last_s", "_refused", "_refused_sum", "_sent", "_sent_sum", "_slot", "_slot_ends_s",
        "share",
    )  # fmt: skip

    def __init__(self) -> None:
        self.share = 0.0
        self._last_s = 0.0
        self._slot = 0
        self._slot_ends_s = 0.0
        self._asked = [0.0] * SLOTS
        self._sent = [0] * SLOTS
        self._refused = [0] * SLOTS
        self._asked_sum = 0.0
        self._sent_sum = self._refused_sum = 0

    def start(self, now_s: float) -> None:
        """A send begins."""
        if now_s >= self._slot_ends_s:
            self._turn(now_s)
        slot = self._slot
        self._sent[slot] += 1
        self._sent_sum += 1
        if self._refused_sum:
            self._last_s = now_s
            asked = min(STANDS_FOR_MAX, 1.0 / (1.0 - self.share))
            self._asked[slot] += asked
            self._asked_sum += asked
            self._weigh()
        else:
            self._asked[slot] += 1.0

    def refuse(self, now_s: float) -> None:
        """A send of late was refused: the provider was full, or faulty, whoever asked."""
        if now_s >= self._slot_ends_s:
            self._turn(now_s)
        if not self._refused_sum:
            self._asked_sum = sum(self._asked)
        if self._refused_sum < self._sent_sum:
            self._refused[self._slot] += 1
            self._refused_sum += 1
        self._last_s = max(self._last_s, now_s)
        self._weigh()

    def rejects(self, now_s: float) -> bool:
        """Whether a send that would begin now should stay at home. The same for every caller at the same time."""
        share = self.share
        if share <= 0.0 or now_s - self._last_s >= FLOOR_S:
            return False
        if now_s >= self._slot_ends_s + WINDOW_S:
            return False
        return (now_s * 1e6 * _GOLDEN) % 1.0 < share

    def reset(self) -> None:
        """Forgets everything."""
        self.share = 0.0
        self._asked = [0.0] * SLOTS
        self._sent = [0] * SLOTS
        self._refused = [0] * SLOTS
        self._asked_sum = 0.0
        self._sent_sum = self._refused_sum = 0

    def _weigh(self) -> None:
        sent, asked = self._sent_sum, self._asked_sum
        if sent < SAMPLES_MIN or not self._refused_sum:
            self.share = 0.0
            return
        self.share = max(0.0, (asked - K * max(0, sent - self._refused_sum)) / (asked + 1.0))

    def _turn(self, now_s: float) -> None:
        """Begins the slot of `now_s`; slots that have left the window are emptied on the way."""
        new = int(now_s * _SLOTS_PER_S)
        old = round(self._slot_ends_s * _SLOTS_PER_S) - 1
        for passed in range(max(old + 1, new - SLOTS + 1), new + 1):
            self._asked[passed % SLOTS] = 0.0
            self._sent[passed % SLOTS] = 0
            self._refused[passed % SLOTS] = 0
        self._slot = new % SLOTS
        self._slot_ends_s = (new + 1) / _SLOTS_PER_S
        self._asked_sum = sum(self._asked)
        self._sent_sum = sum(self._sent)
        self._refused_sum = sum(self._refused)
        self._weigh()

    def __repr__(self) -> str:
        return f"<Throttle {self.share:.0%} stay at home>"
