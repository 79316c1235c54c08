"""How others choose keys: the baselines that run beside ours, in the same world with the same seeds.

Main entries: `Policy` and its rows in `POLICIES`. A policy sees what a client sees: its keys, the limits that were
typed in, the replies. Sources: reference notes 2.6, 2.9 and 2.11. LiteLLM's are in `litellm`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

__all__ = ["POLICIES", "KeyView", "LeastUsed", "Policy", "RandomKey", "ReactiveCooldown", "RoundRobin"]

COOLDOWN_S = 5.0


@dataclass(frozen=True, slots=True)
class KeyView:
    """What an operator knows of a key: its share of its pool's limits a minute (None: none), its price."""

    number: int
    rpm: float | None
    tpm: float | None
    usd_per_mtok: float = 1.0


class Policy:
    """Chooses a key for each send and learns from the replies. `attempts_max`: sends per request."""

    attempts_max = 4

    def __init__(self, keys: Sequence[KeyView], rng: Random) -> None:
        self.keys = keys
        self.rng = rng

    def pick(self, now_s: float, tokens: int, tried: set[int]) -> int | None:
        """The key's number, or None when there is none to try now. `tokens`: input; `tried`: keys that failed it."""
        raise NotImplementedError

    def sent(self, now_s: float, key: int, tokens: int) -> None:
        """A request went out."""

    def ended(self, now_s: float, key: int, status: int, *, took_s: float, tokens: int, hint_s: float | None) -> None:
        """Its reply came. `tokens`: what it used, 0 when it failed; `hint_s`: Retry-After."""

    def pause_s(self, now_s: float, attempt: int, hint_s: float | None) -> float | None:  # noqa: ARG002
        """Seconds before another try, after `attempt` sends; None: it is given up when nobody is left."""
        return 0.0


class RoundRobin(Policy):
    """Each key in turn; a failure goes to the next one at once."""

    def __init__(self, keys: Sequence[KeyView], rng: Random) -> None:
        super().__init__(keys, rng)
        self._next = 0

    def pick(self, now_s: float, tokens: int, tried: set[int]) -> int | None:  # noqa: ARG002
        """See `Policy.pick`."""
        key = self._next
        self._next = (key + 1) % len(self.keys)
        return key


class LeastUsed(Policy):
    """The key with the fewest tokens used so far in this clock minute."""

    def __init__(self, keys: Sequence[KeyView], rng: Random) -> None:
        super().__init__(keys, rng)
        self._used = [0] * len(keys)
        self._minute = -1

    def pick(self, now_s: float, tokens: int, tried: set[int]) -> int | None:  # noqa: ARG002
        """See `Policy.pick`."""
        minute = int(now_s // 60)
        if minute != self._minute:
            self._minute = minute
            self._used = [0] * len(self.keys)
        left = [key for key in range(len(self.keys)) if key not in tried] or list(range(len(self.keys)))
        return min(left, key=lambda key: (self._used[key], key))

    def ended(self, now_s: float, key: int, status: int, *, took_s: float, tokens: int, hint_s: float | None) -> None:  # noqa: ARG002
        """See `Policy.ended`."""
        self._used[key] += tokens


class RandomKey(Policy):
    """Any key, evenly."""

    def pick(self, now_s: float, tokens: int, tried: set[int]) -> int | None:  # noqa: ARG002
        """See `Policy.pick`."""
        return self.rng.randrange(len(self.keys))


class ReactiveCooldown(Policy):
    """Each key in turn; one that failed rests for 5 s; while all rest, requests fail at once."""

    def __init__(self, keys: Sequence[KeyView], rng: Random) -> None:
        super().__init__(keys, rng)
        self._next = 0
        self._until_s = [0.0] * len(keys)

    def pick(self, now_s: float, tokens: int, tried: set[int]) -> int | None:  # noqa: ARG002
        """See `Policy.pick`."""
        count = len(self.keys)
        for step in range(count):
            key = (self._next + step) % count
            if self._until_s[key] <= now_s:
                self._next = (key + 1) % count
                return key
        return None

    def ended(self, now_s: float, key: int, status: int, *, took_s: float, tokens: int, hint_s: float | None) -> None:  # noqa: ARG002
        """See `Policy.ended`."""
        if status not in (200, 400):
            self._until_s[key] = now_s + COOLDOWN_S

    def pause_s(self, now_s: float, attempt: int, hint_s: float | None) -> float | None:  # noqa: ARG002
        """Nobody is waited for."""
        return 0.0 if any(until <= now_s for until in self._until_s) else None


POLICIES: dict[str, Callable[[Sequence[KeyView], Random], Policy]] = {
    "round-robin": RoundRobin,
    "least-used": LeastUsed,
    "random": RandomKey,
    "cooldown": ReactiveCooldown,
}
