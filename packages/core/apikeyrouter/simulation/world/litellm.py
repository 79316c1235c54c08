"""LiteLLM's published routing strategies, written anew as policies of a simulated world.

Main entries: `SimpleShuffle`, `LeastBusy`, `UsageBased`, `LatencyBased`, rows of `LITELLM`. What is modelled: limits
per clock minute as typed in by the operator; a cooldown of 5 s, or as long as Retry-After says, after a 429, 401, 404
or 408 when there are other deployments; after other failures once more than half of at least 5 requests of a minute
failed; retries without a pause while a deployment is well, else with its exponential back-off. Sources: its docs
(routing, load balancing) and the notes of its 1.10x releases in reference 2.3; three retries instead of two, so that
all have four sends. Its cooldowns are seen at once here, which flatters it (#34836: up to 10 s late).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from random import Random

from apikeyrouter.simulation.world.policies import COOLDOWN_S, KeyView, Policy

__all__ = ["LITELLM", "LatencyBased", "LeastBusy", "LiteLLM", "SimpleShuffle", "UsageBased"]

_AT_ONCE = frozenset({401, 404, 408, 429})
_CLIENT = frozenset({400, 422})
_FAILURES_MIN = 5
_HINT_MAX_S = 60.0


class LiteLLM(Policy):
    """Cooldowns and retries, alike for all strategies; `choose` picks among the deployments that do not rest."""

    def __init__(self, keys: Sequence[KeyView], rng: Random) -> None:
        super().__init__(keys, rng)
        self._until_s = [0.0] * len(keys)
        self._minute = -1
        self._requests = [0] * len(keys)
        self._failures = [0] * len(keys)
        self.used_tokens = [0] * len(keys)

    def choose(self, now_s: float, tokens: int, well: list[int]) -> int | None:
        """One of the deployments that do not rest, or None."""
        raise NotImplementedError

    def pick(self, now_s: float, tokens: int, tried: set[int]) -> int | None:  # noqa: ARG002
        """See `Policy.pick`."""
        self._renew(now_s)
        well = [key for key, until_s in enumerate(self._until_s) if until_s <= now_s]
        return self.choose(now_s, tokens, well) if well else None

    def sent(self, now_s: float, key: int, tokens: int) -> None:  # noqa: ARG002
        """See `Policy.sent`."""
        self._requests[key] += 1

    def ended(self, now_s: float, key: int, status: int, *, took_s: float, tokens: int, hint_s: float | None) -> None:  # noqa: ARG002
        """See `Policy.ended`."""
        self._renew(now_s)
        self.used_tokens[key] += tokens
        if status == 200 or status in _CLIENT or status == 0:
            return  # a connection that was refused never cools
        self._failures[key] += 1
        tripped = self._requests[key] >= _FAILURES_MIN and self._failures[key] * 2 > self._requests[key]
        if len(self.keys) > 1 and (status in _AT_ONCE or tripped):
            told = hint_s is not None and 0 < hint_s <= _HINT_MAX_S
            self._until_s[key] = now_s + (hint_s or 0.0 if told else COOLDOWN_S)

    def pause_s(self, now_s: float, attempt: int, hint_s: float | None) -> float | None:
        """See `Policy.pause_s`."""
        if any(until_s <= now_s for until_s in self._until_s):
            return 0.0
        if hint_s is not None and 0 < hint_s <= _HINT_MAX_S:
            return hint_s
        return min(0.5 * 2.0**attempt, 8.0) + 0.75 * self.rng.random()

    def fits(self, key: int, tokens: int) -> bool:
        """Whether the limits that were typed in have room this minute."""
        view = self.keys[key]
        if view.tpm is not None and self.used_tokens[key] + tokens > view.tpm:
            return False
        return view.rpm is None or self._requests[key] + 1 <= view.rpm

    def _renew(self, now_s: float) -> None:
        minute = int(now_s // 60)
        if minute != self._minute:
            self._minute = minute
            self._requests = [0] * len(self.keys)
            self._failures = [0] * len(self.keys)
            self.used_tokens = [0] * len(self.keys)


class SimpleShuffle(LiteLLM):
    """Random, weighted by rpm, else by tpm."""

    def choose(self, now_s: float, tokens: int, well: list[int]) -> int | None:  # noqa: ARG002
        """See `LiteLLM.choose`."""
        weights = [self.keys[key].rpm or self.keys[key].tpm or 1.0 for key in well]
        return self.rng.choices(well, weights)[0]


class LeastBusy(LiteLLM):
    """The fewest requests under way; the first of equals."""

    def __init__(self, keys: Sequence[KeyView], rng: Random) -> None:
        super().__init__(keys, rng)
        self._busy = [0] * len(keys)

    def choose(self, now_s: float, tokens: int, well: list[int]) -> int | None:  # noqa: ARG002
        """See `LiteLLM.choose`."""
        return min(well, key=lambda key: self._busy[key])

    def sent(self, now_s: float, key: int, tokens: int) -> None:
        """See `Policy.sent`."""
        super().sent(now_s, key, tokens)
        self._busy[key] += 1

    def ended(self, now_s: float, key: int, status: int, *, took_s: float, tokens: int, hint_s: float | None) -> None:
        """See `Policy.ended`."""
        super().ended(now_s, key, status, took_s=took_s, tokens=tokens, hint_s=hint_s)
        self._busy[key] -= 1


class UsageBased(LiteLLM):
    """usage-based-routing-v2: the fewest tokens this minute among those whose limits have room."""

    def choose(self, now_s: float, tokens: int, well: list[int]) -> int | None:  # noqa: ARG002
        """See `LiteLLM.choose`."""
        fitting = [key for key in well if self.fits(key, tokens)]
        if not fitting:
            return None
        least = min(self.used_tokens[key] for key in fitting)
        return self.rng.choice([key for key in fitting if self.used_tokens[key] == least])


class LatencyBased(LiteLLM):
    """The lowest mean of the last 10 latencies, failures as slow; unknown ones first."""

    def __init__(self, keys: Sequence[KeyView], rng: Random) -> None:
        super().__init__(keys, rng)
        self._last: list[deque[float]] = [deque(maxlen=10) for _ in keys]

    def choose(self, now_s: float, tokens: int, well: list[int]) -> int | None:  # noqa: ARG002
        """See `LiteLLM.choose`."""
        fitting = [key for key in well if self.fits(key, tokens)]
        if not fitting:
            return None
        self.rng.shuffle(fitting)
        return min(fitting, key=lambda key: sum(self._last[key]) / len(self._last[key]) if self._last[key] else 0.0)

    def ended(self, now_s: float, key: int, status: int, *, took_s: float, tokens: int, hint_s: float | None) -> None:
        """See `Policy.ended`."""
        super().ended(now_s, key, status, took_s=took_s, tokens=tokens, hint_s=hint_s)
        if status == 200:
            self._last[key].append(took_s)


LITELLM: dict[str, Callable[[Sequence[KeyView], Random], Policy]] = {
    "litellm-shuffle": SimpleShuffle,
    "litellm-least-busy": LeastBusy,
    "litellm-usage": UsageBased,
    "litellm-latency": LatencyBased,
}
