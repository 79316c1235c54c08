"""Finished requests as lean rows, newest first, filtered, page by page: for lists that go back further than memory.

Main entry: `request_rows`. Memory holds the newest decisions of this process, the store (some later) those of all; rows
of both are one list, without doubles. Law: a page never skips a request that either of them knows: where the look
into the store is cut short, so is the page, and `next_before` says where the next one begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from heapq import nlargest
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import msgspec
from pydantic import BaseModel

from apikeyrouter.domain.interfaces.state_store import StateQuery
from apikeyrouter.domain.routing.explain import DecisionRecord

if TYPE_CHECKING:
    from apikeyrouter.router import ApiKeyRouter

__all__ = ["FAILED", "RequestRow", "RowFilter", "RowPage", "request_rows"]

FAILED = "failed"
"""An outcome to filter by: every one but "ok"."""

_Last = tuple[str, str, str, float | None]
_NOBODY: _Last = ("", "", "", None)
_Found = tuple[float, DecisionRecord | dict[str, Any]]

_STORE_PAGE = 500
_STORE_PAGES_MAX = 10


class RequestRow(BaseModel):
    """One request. `key_label`, `provider_id`: who answered, or was asked last. `caller`: a virtual key's name or id.
    `outcome`: "ok" or the error's code. `duration_s`: whole request; `ttft_s`: of the last attempt."""

    id: str
    request_id: str
    at: datetime
    model: str
    provider_id: str
    key_id: str
    key_label: str
    caller: str
    objective: str
    outcome: str
    stream: bool
    duration_s: float
    ttft_s: float | None
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: Decimal | None
    attempts: int
    considered: int


@dataclass(frozen=True, slots=True)
class RowFilter:
    """What to show; empty: everything. `outcome`: "ok", `FAILED`, or one code. `model`: a part of the name."""

    model: str = ""
    provider_id: str = ""
    key_id: str = ""
    outcome: str = ""
    caller: str = ""

    def takes(self, model: str, outcome: str, caller: str, last: _Last | None) -> bool:
        """Whether a request with these facts is wanted."""
        key_id, _, provider_id, _ = last or _NOBODY
        return (
            self.model.lower() in model.lower()
            and self.provider_id in ("", provider_id)
            and self.key_id in ("", key_id)
            and self.caller in ("", caller)
            and (self.outcome in ("", outcome) or (self.outcome == FAILED and outcome != "ok"))
        )


@dataclass(frozen=True, slots=True)
class RowPage:
    """Rows, newest first. `next_before_s`: Unix seconds to ask for the next page with; None when this is the last."""

    rows: list[RequestRow]
    next_before_s: float | None


async def request_rows(
    router: ApiKeyRouter, wanted: RowFilter, *, before_s: float | None = None, limit: int = 100
) -> RowPage:
    """The newest `limit` rows before a time. Raises StateStoreError."""
    found: dict[str, _Found] = {}
    for record in router.journal.records(before_s):
        if wanted.takes(record.model, record.outcome, record.caller, _last_of(record)):
            found[record.decision_id] = (record.at_utc_s, record)
    scanned_s = await _add_stored(router, wanted, found, before_s=before_s, limit=limit)
    wide = [one for one in found.values() if scanned_s is None or one[0] >= scanned_s]
    newest = nlargest(limit + 1, wide, key=itemgetter(0))
    rows = [_of_record(one) if isinstance(one, DecisionRecord) else _of_stored(one) for _, one in newest[:limit]]
    return RowPage(rows, newest[limit - 1][0] if len(newest) > limit else scanned_s)


async def _add_stored(
    router: ApiKeyRouter, wanted: RowFilter, found: dict[str, _Found], *, before_s: float | None, limit: int
) -> float | None:
    """Adds what the store has; returns the time down to which it was looked at, None when that is everything."""
    store = router.state_store
    if not store.persistent:
        return None
    until_s, hits = before_s, 0
    for _ in range(_STORE_PAGES_MAX):
        rows = await store.query_decisions(StateQuery("RoutingDecision", until_s=until_s, limit=_STORE_PAGE))
        for row in rows:
            facts = msgspec.json.decode(row.payload)
            if wanted.takes(facts["model"], facts["out"], facts.get("who", ""), _last_stored(facts)):
                hits += 1
                found.setdefault(row.decision_id, (row.at_s, facts))
        if len(rows) < _STORE_PAGE:
            return None
        until_s = rows[-1].at_s
        if hits > limit:
            break
    return until_s


def _last_of(record: DecisionRecord) -> _Last | None:
    if not record.attempts:
        return None
    last = record.attempts[-1]
    return last.key_id, last.label, last.provider_id, last.ttft_s


def _last_stored(facts: dict[str, Any]) -> _Last | None:
    if not facts["att"]:
        return None
    key_id, label, provider_id, _, _, _, ttft_s, _ = facts["att"][-1]
    return key_id, label, provider_id, ttft_s


def _of_record(record: DecisionRecord) -> RequestRow:
    return _row(
        record.decision_id, record.request_id, record.at_utc_s, record.model, record.objective.name,
        _last_of(record),
        caller=record.caller, outcome=record.outcome, stream=record.stream, duration_s=record.duration_s,
        tokens=(record.input_tokens, record.output_tokens), cost_nano_usd=record.cost_nano_usd,
        attempts=len(record.attempts), considered=record.considered,
    )  # fmt: skip


def _of_stored(stored: dict[str, Any]) -> RequestRow:
    return _row(
        stored["id"], stored["rid"], stored["at"], stored["model"], stored["obj"],
        _last_stored(stored),
        caller=stored.get("who", ""), outcome=stored["out"], stream=stored["stream"], duration_s=stored["dur"],
        tokens=(stored["in"], stored["outtok"]), cost_nano_usd=stored["cost"],
        attempts=len(stored["att"]), considered=stored["seen"],
    )  # fmt: skip


def _row(
    decision_id: str,
    request_id: str,
    at_s: float,
    model: str,
    objective: str,
    last: _Last | None,
    *,
    tokens: tuple[int | None, int | None],
    cost_nano_usd: int | None,
    **rest: Any,
) -> RequestRow:
    key_id, label, provider_id, ttft_s = last or _NOBODY
    return RequestRow.model_construct(
        id=decision_id,
        request_id=request_id,
        at=datetime.fromtimestamp(at_s, UTC),
        model=model,
        objective=objective,
        key_id=key_id,
        key_label=label,
        provider_id=provider_id,
        ttft_s=ttft_s,
        input_tokens=tokens[0],
        output_tokens=tokens[1],
        cost_usd=None if cost_nano_usd is None else Decimal(cost_nano_usd).scaleb(-9),
        **rest,
    )
