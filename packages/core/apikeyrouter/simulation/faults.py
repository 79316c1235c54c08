"""Failures on request: what goes wrong, for which key, how often. Decides without I/O; `asgi` and `breakage` act.

Main entry: `FaultBook.draw`, called once for each authenticated request. Faults of the key are looked at before those
for all keys, in the order they were set. Delays add up; of the faults that answer or break the connection the first
that fires wins; a fault with a `count` is used up when it fires.
Law: chances come from the given `random.Random` alone, so a run replays from its seed.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from apikeyrouter.simulation.labels import key_label

__all__ = ["CALM", "Fault", "FaultBook", "FaultKind", "Plan", "RetryAfterForm"]


class FaultKind(StrEnum):
    """What goes wrong. The fields that a kind reads stand behind it."""

    RateLimited = "rate_limited"  # 429 rate_limit_exceeded: retry_after_s, retry_after_form
    Revoked = "revoked"  # 401: code (invalid_api_key)
    Billing = "billing"  # 429 insufficient_quota
    ServerError = "server_error"  # status (500), body
    ClientError = "client_error"  # status (400), code, message, param
    LatencyS = "latency_s"  # delay_s before anything is sent
    SlowFirstToken = "slow_first_token"  # delay_s before the first token (a stream's headers come at once)
    SlowTokens = "slow_tokens"  # delay_s before each further token
    Hang = "hang"  # reads the request and never answers
    Reset = "reset"  # RST before any byte
    Close = "close"  # FIN before any byte
    CutStream = "cut_stream"  # connection drops after after_chunks events, without [DONE]; rst
    StreamError = "stream_error"  # an error event inside the stream after after_chunks events; code, message
    BadJson = "bad_json"  # 200 whose JSON is broken off (a stream: one broken event after after_chunks)
    WrongContentType = "wrong_content_type"  # 200 as text/plain; body="html": a page instead of the reply
    Huge = "huge"  # 200 with a body of size_bytes


class RetryAfterForm(StrEnum):
    """How a 429 says when to come back. `message` stands in the text alone, `none` nowhere."""

    Seconds = "seconds"
    HttpDate = "http_date"
    Milliseconds = "ms"
    Message = "message"
    NoHint = "none"


_Seconds = Annotated[float, Meta(ge=0, le=86_400)]
_DELAYS = frozenset({FaultKind.LatencyS, FaultKind.SlowFirstToken, FaultKind.SlowTokens})
_SHAPES = frozenset(
    {
        FaultKind.CutStream,
        FaultKind.StreamError,
        FaultKind.BadJson,
        FaultKind.WrongContentType,
        FaultKind.Huge,
    }
)


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One thing to go wrong. `key` None: every key (a label or the key itself otherwise). `count` None: until cleared;
    `for_s`: for so many seconds after it was set; `probability`: chance per request, 0..1; `path`: only requests whose
    path ends with this. The rest belongs to single kinds, see `FaultKind`."""

    kind: FaultKind
    key: str | None = None
    count: Annotated[int, Meta(ge=1)] | None = None
    for_s: _Seconds | None = None
    probability: Annotated[float, Meta(ge=0, le=1)] = 1.0
    path: str = ""
    retry_after_s: _Seconds | None = None
    retry_after_form: RetryAfterForm = RetryAfterForm.Seconds
    status: Annotated[int, Meta(ge=400, le=599)] | None = None
    body: Literal["json", "html", "empty"] = "json"
    delay_s: _Seconds = 1.0
    after_chunks: Annotated[int, Meta(ge=0, le=100_000)] = 1
    rst: bool = False
    code: str | None = None
    message: str | None = None
    param: str | None = None
    size_bytes: Annotated[int, Meta(ge=0, le=1 << 31)] = 8 << 20


@dataclass(slots=True)
class Plan:
    """What one request has to suffer. `instead`: answered or broken instead of served; `shape`: served, then spoilt.
    `remaining_s`: how long `instead` still lasts, None when it has no end."""

    latency_s: float = 0.0
    first_token_s: float = 0.0
    token_s: float = 0.0
    instead: Fault | None = None
    shape: Fault | None = None
    remaining_s: float | None = None


CALM = Plan()
"""Nothing goes wrong. Shared: never change it."""


class _Entry:
    __slots__ = ("ends_s", "fault", "fault_id", "fired", "label", "left")

    def __init__(self, fault: Fault, fault_id: int, now_s: float) -> None:
        self.fault = fault
        self.fault_id = fault_id
        self.label = None if fault.key is None else key_label(fault.key)
        self.left = fault.count
        self.ends_s = None if fault.for_s is None else now_s + fault.for_s
        self.fired = 0

    def over(self, now_s: float) -> bool:
        return self.left == 0 or (self.ends_s is not None and now_s >= self.ends_s)


class FaultBook:
    """The faults now in force."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._entries: list[_Entry] = []
        self._next_id = 1

    def add(self, fault: Fault, now_s: float) -> int:
        """Puts a fault in force and returns its id."""
        fault_id = self._next_id
        self._next_id += 1
        self._entries.append(_Entry(fault, fault_id, now_s))
        self._entries.sort(key=lambda entry: entry.label is None)  # stable: those of one key first
        return fault_id

    def clear(self, key: str | None = None, fault_id: int | None = None) -> int:
        """Ends faults: all, those set for one key, or one by id. Returns how many ended."""
        label = None if key is None else key_label(key)
        kept = [
            e
            for e in self._entries
            if (label is not None and e.label != label) or (fault_id is not None and e.fault_id != fault_id)
        ]
        ended = len(self._entries) - len(kept)
        self._entries = kept
        return ended

    def draw(self, label: str, path: str, now_s: float) -> Plan:
        """Decides what happens to one request of the key with this label."""
        if not self._entries:
            return CALM
        plan = Plan()
        for entry in self._entries:
            fault = entry.fault
            if entry.label not in (None, label) or entry.over(now_s) or not path.endswith(fault.path):
                continue
            if fault.kind not in _DELAYS and plan.instead is not None:
                continue
            if fault.kind in _SHAPES and plan.shape is not None:
                continue
            if fault.probability < 1.0 and self._rng.random() >= fault.probability:
                continue
            entry.fired += 1
            if entry.left is not None:
                entry.left -= 1
            _apply(plan, entry, now_s)
        self._entries = [e for e in self._entries if not e.over(now_s)]
        return plan

    def listing(self) -> list[dict[str, object]]:
        """The faults in force with their ids, how often they fired and how often they still may."""
        return [
            {"id": e.fault_id, "key": e.label, "kind": e.fault.kind.value, "fired": e.fired, "left": e.left}
            for e in self._entries
        ]


def _apply(plan: Plan, entry: _Entry, now_s: float) -> None:
    fault = entry.fault
    match fault.kind:
        case FaultKind.LatencyS:
            plan.latency_s += fault.delay_s
        case FaultKind.SlowFirstToken:
            plan.first_token_s += fault.delay_s
        case FaultKind.SlowTokens:
            plan.token_s += fault.delay_s
        case kind if kind in _SHAPES:
            plan.shape = fault
        case _:
            plan.instead = fault
            plan.remaining_s = None if entry.ends_s is None else entry.ends_s - now_s
