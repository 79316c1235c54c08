"""What reached the simulated provider: counts per key, and the last requests for inspection.

Main entry: `Recorder.begin` and the `Visit` it returns. Laws: memory is bounded (requests kept, bytes per body, keys
counted one by one); credentials never get in, a request is filed under its key's label.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from apikeyrouter.simulation.api_errors import Headers

__all__ = ["KeyCounts", "Recorder", "Visit"]

_BODY_MAX_BYTES = 262_144
_KEYS_MAX = 10_000
_OTHER = "(other)"
_CREDENTIALS = frozenset(
    {b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key", b"cookie", b"proxy-authorization"}
)


@dataclass(slots=True)
class KeyCounts:
    """Counts of one key since the last reset. `by_status`: replies by status line, with "hang", "reset" and "close" for
    connections that got none. `disconnected`: the client left before the reply was complete. `cut`: streams that we
    broke off."""

    requests: int = 0
    in_flight: int = 0
    in_flight_max: int = 0
    disconnected: int = 0
    cut: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    by_status: Counter[str] = field(default_factory=Counter)

    def view(self) -> dict[str, Any]:
        """For JSON."""
        out = {name: getattr(self, name) for name in self.__slots__ if name != "by_status"}
        return {**out, "by_status": dict(self.by_status)}


class Visit:
    """One request, from its arrival to its end."""

    __slots__ = ("_ended", "_kept", "counts")

    def __init__(self, counts: KeyCounts, kept: dict[str, Any]) -> None:
        self.counts = counts
        self._kept = kept
        self._ended = False
        counts.requests += 1
        counts.in_flight += 1
        counts.in_flight_max = max(counts.in_flight_max, counts.in_flight)

    def answered(self, status: int | str) -> None:
        """Counts the status line, or the way in which there was none."""
        self.counts.by_status[str(status)] += 1
        self._kept["status"] = str(status)

    def used(self, usage: dict[str, Any]) -> None:
        """Counts tokens."""
        self.counts.prompt_tokens += usage.get("prompt_tokens", 0)
        self.counts.completion_tokens += usage.get("completion_tokens", 0)

    def end(self) -> None:
        """Marks the end. Idempotent."""
        if not self._ended:
            self._ended = True
            self.counts.in_flight -= 1


class Recorder:
    """All visits. `keep`: how many requests stay readable."""

    def __init__(self, keep: int) -> None:
        self._kept: deque[dict[str, Any]] = deque(maxlen=keep)
        self._keys: dict[str, KeyCounts] = {}
        self.requests = 0

    def begin(self, label: str, scope: dict[str, Any], body: bytes, at_utc_s: float) -> Visit:
        """Counts and keeps one request, which came at `at_utc_s` (Unix time)."""
        counts = self._keys.get(label)
        if counts is None:
            counts = self._keys.setdefault(label if len(self._keys) < _KEYS_MAX else _OTHER, KeyCounts())
        self.requests += 1
        kept = {
            "number": self.requests,
            "key": label,
            "at_utc_s": at_utc_s,
            "status": None,
            "scope": scope,
            "body": body[:_BODY_MAX_BYTES],
        }
        if self._kept.maxlen:
            self._kept.append(kept)
        return Visit(counts, kept)

    def keys_view(self, label: str | None = None) -> dict[str, dict[str, Any]]:
        """Counts by label: of one key (zeros when it was never seen), or of all."""
        if label is not None:
            return {label: self._keys.get(label, KeyCounts()).view()}
        return {name: counts.view() for name, counts in self._keys.items()}

    def requests_view(self, label: str | None = None) -> list[dict[str, Any]]:
        """The last requests, oldest first."""
        return [_readable(kept) for kept in self._kept if label is None or kept["key"] == label]


def _readable(kept: dict[str, Any]) -> dict[str, Any]:
    scope = kept["scope"]
    headers: Headers = scope["headers"]
    return {
        "number": kept["number"],
        "key": kept["key"],
        "at_utc_s": kept["at_utc_s"],
        "status": kept["status"],
        "method": scope["method"],
        "path": scope["path"],
        "query": scope.get("query_string", b"").decode("latin-1"),
        "headers": {n.decode("latin-1"): v.decode("latin-1") for n, v in headers if n.lower() not in _CREDENTIALS},
        "body": kept["body"].decode("utf-8", "replace"),
    }
