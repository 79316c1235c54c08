"""Recorded exchanges with real providers, replayed through the router and judged by the clients' own SDKs.

`python -m bench replay [--limit N] [--only NAME] [--show N]`. Needs recordings (`exchanges/dev.jsonl` below
`APIKEYROUTER_DATA`, else ../shared/data; `--file` names another file of the same shape). Each recorded reply is served
by a server on loopback at its provider's own path (`replay_server`); the router calls it over HTTP with the provider's
adapter (`replay_providers`), once as it was asked and once for each format of clients; what comes out is given to the
official SDK of that format (`replay_clients`), and its tokens and reasons to end are compared with an independent
reading (`replay_reading`).
Laws: a reply is read, or refused with a category that docs/reference/errors.md names; nothing else may happen. Every
call has a router of its own, so that no recording rests the keys of the next.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import traceback
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from apikeyrouter import ApiKeyRouter
from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.errors import ErrorCategory, SystemError
from apikeyrouter.domain.models.call import CONVERSATIONS, Call, Operation, peek
from apikeyrouter.wire.facts import ErrorFact
from apikeyrouter.wire.translate import client_codec
from bench import report
from bench.recordings import data_folder
from bench.replay_clients import OPERATIONS, SdkError, asked, google_sdk, understood
from bench.replay_providers import Plan, planned
from bench.replay_reading import Reading, Tokens, reading
from bench.replay_server import Framing, ReplayServer, body_of, is_stream
from bench.replay_words import agree

__all__ = ["Judgement", "Replayed", "main", "replayed"]


@dataclass(slots=True)
class Judgement:
    """One call. `client`: the format in which it was asked, or the recorded path. `outcome`: "read", or the category of
    the refusal. `faults`: what is wrong, in words."""

    number: int
    provider: str
    client: str
    framing: str
    outcome: str
    faults: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Came:
    """What a client gets. `usage`: as charged. `refusal`: the error, where there is no reply."""

    status: int
    content_type: str
    body: bytes
    usage: Usage | None = None
    refusal: SystemError | None = None


@dataclass(slots=True)
class Replayed:
    """All judgements; `providers` by number of exchange."""

    judgements: list[Judgement] = field(default_factory=list)
    providers: dict[int, str] = field(default_factory=dict)
    strangers: list[str] = field(default_factory=list)


def exchanges(path: Path) -> list[dict[str, Any]]:
    """Every recorded exchange of a file."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


async def replayed(found: Sequence[Mapping[str, Any]], numbers: Sequence[int]) -> Replayed:
    """Replays the exchanges of these numbers."""
    result = Replayed()
    async with ReplayServer(found) as server:
        for number in numbers:
            plan = planned(found[number])
            result.providers[number] = plan.name
            calls = [plan.operation]
            if plan.wire is not None:
                calls += [one for one in OPERATIONS.values() if one is not plan.operation]
            for place, operation in enumerate(calls):
                framing = Framing((number + place) % len(Framing))
                if framing is Framing.Ids and place == 0:  # see `Framing`
                    framing = Framing.Recorded
                result.judgements.append(await _judged(server, found[number], number, plan, operation, framing))
        result.strangers = server.strangers
    return result


async def _judged(
    server: ReplayServer, exchange: Mapping[str, Any], number: int, plan: Plan, operation: Operation, framing: Framing
) -> Judgement:
    stream = is_stream(exchange)
    judgement = Judgement(number, plan.name, operation.value, framing.name, "read")
    try:
        async with ApiKeyRouter(config=_SETTINGS, environ={}) as router:
            await router.register_provider("replayed", plan.adapter(server.origin(number, framing)))
            await router.register_key("replay-key-0001", "replayed")
            call = _call(router, exchange, plan, operation, stream=stream)
            came = await _came(router, call)
        _judge(judgement, exchange, plan, operation, came, stream=stream)
    except Exception as fault:  # noqa: BLE001 - anything but a documented refusal is a finding
        place = traceback.extract_tb(fault.__traceback__)[-1]
        where = f"{place.filename.rpartition('/')[2]}:{place.lineno}"
        judgement.outcome = "broken"
        judgement.faults.append(f"{type(fault).__name__} at {where}: {' '.join(str(fault).split())[:200]}")
    return judgement


_SETTINGS = {"attempts_max": 1}


def _call(router: ApiKeyRouter, exchange: Mapping[str, Any], plan: Plan, operation: Operation, *, stream: bool) -> Call:
    """The recorded request where it is asked as it was, else a small one in the client's format."""
    fields: dict[str, Any] = {"provider_id": "replayed", "model": plan.model or "m"}
    recorded = exchange["request"]
    wire = CONVERSATIONS.get(operation)
    if operation is Operation.Raw:
        body = recorded.encode() if isinstance(recorded, str) else json.dumps(recorded).encode()
        root, _, name = plan.path.partition(plan.model)
        fields |= {"path": root + quote(plan.model, safe="") + name if plan.model and name else plan.path}
        fields |= {"query": (exchange.get("query") or "").lstrip("?")}
    elif operation is plan.operation and isinstance(recorded, dict) and plan.name not in ("gemini", "vertex", "cohere"):
        body = json.dumps(recorded).encode()
    elif wire is None:
        several = (recorded.get("requests") or recorded.get("texts")) if isinstance(recorded, dict) else None
        texts = len(several or ["one"])
        about = {"prompt": "text"} if operation is Operation.Completions else {"input": ["text"] * texts}
        body = json.dumps({"model": plan.model, **about}).encode()
    else:
        body = asked(wire, plan.model or "m", stream=stream)
    try:
        peeked = peek(body)
    except msgspec.MsgspecError:
        peeked = peek(b"{}")
    peeked.stream = stream
    return router.new_call(operation, body, peeked, **fields)


async def _came(router: ApiKeyRouter, call: Call) -> Came:
    """What the proxy would send."""
    try:
        reply = await router.serve(call, router.objective(None))
    except SystemError as error:
        if error.provider_body is not None:
            kind = error.provider_content_type or "application/json"
            return Came(error.status, kind, error.provider_body, refusal=error)
        told = ErrorFact(error.status, error.message, error.provider_code or error.category.value)
        body = client_codec(call.operation).write_error(told)
        return Came(error.status, "application/json", body, refusal=error)
    kind = next((value.decode("latin-1") for name, value in reply.headers if name == b"content-type"), "")
    if reply.stream is None:
        return Came(reply.status, kind, reply.body, reply.usage)
    body = b"".join([chunk async for chunk in reply.stream.chunks()])
    return Came(reply.status, kind, body, reply.stream.usage)


def _judge(
    judgement: Judgement, exchange: Mapping[str, Any], plan: Plan, operation: Operation, came: Came, *, stream: bool
) -> None:
    """Adds what is wrong."""
    raw = operation is Operation.Raw
    expected = Reading(None, [], failed=exchange["status"] != 200)
    if exchange["status"] == 200 and plan.dialect != "other":
        expected = reading(plan.dialect, body_of(exchange), stream=stream)
    if expected.unfinished and operation is not plan.operation:
        expected = expected._replace(failed=True)
    streams = stream and came.refusal is None
    try:
        understood_as = (
            None
            if raw
            else understood(
                operation,
                came.status,
                came.content_type,
                came.body,
                stream=streams,
                strict=operation is not plan.operation,
            )
        )
    except SdkError as error:
        judgement.outcome = came.refusal.category.value if came.refusal is not None else "in-band error"
        if not expected.failed:
            judgement.faults.append(f"refused a good reply: {error}"[:300])
        elif came.refusal is None and exchange["status"] != 200:
            judgement.faults.append("an error reply came out as a success")
        elif error.status != came.status:
            judgement.faults.append(f"the SDK saw status {error.status} instead of {came.status}")
        return
    if came.refusal is not None:
        judgement.outcome = came.refusal.category.value
        if judgement.outcome not in set(ErrorCategory):
            judgement.faults.append(f"{judgement.outcome} is no documented category")
        if not expected.failed:
            judgement.faults.append(f"refused a good reply: {came.refusal.message}"[:300])
        return
    if expected.failed:
        judgement.faults.append("an error came out as a success")
    if raw and came.body != body_of(exchange) and judgement.framing in ("Recorded", "Gzip", "Pieces"):
        judgement.faults.append("a raw reply was changed")
    _compare(judgement, expected, came.usage, understood_as, operation, plan)


def _compare(
    judgement: Judgement,
    expected: Reading,
    charged: Usage | None,
    seen: Reading | None,
    operation: Operation,
    plan: Plan,
) -> None:
    if expected.tokens is not None:
        told = None if charged is None else Tokens(
            charged.input_tokens, charged.output_tokens, charged.cached_input_tokens, charged.cache_write_tokens,
            charged.reasoning_tokens,
        )  # fmt: skip
        if told != expected.tokens:
            judgement.faults.append(f"charged {_short(told)}, independent reading {_short(expected.tokens)}")
    if seen is None or seen.reasons == [] == expected.reasons:
        return
    wire = CONVERSATIONS.get(operation)
    if wire is None:
        return
    judgement.faults += agree(wire, expected, seen, native=operation is plan.operation)


def _short(tokens: Tokens | None) -> str:
    return "nothing" if tokens is None else "/".join(str(one) for one in tokens)


def rows(result: Replayed) -> list[list[str]]:
    """A row for each provider: exchanges, calls, read, refused by category, at fault."""
    by: dict[str, list[Judgement]] = defaultdict(list)
    for judgement in result.judgements:
        by[judgement.provider].append(judgement)
    count = Counter(result.providers.values())
    table = []
    for name in sorted(by):
        calls = by[name]
        refused = Counter(one.outcome for one in calls if one.outcome not in ("read", "broken"))
        table.append(
            [
                name, f"{count[name]:,}", f"{len(calls):,}", f"{sum(one.outcome == 'read' for one in calls):,}",
                ", ".join(f"{times} {what}" for what, times in sorted(refused.items())) or "-",
                f"{sum(bool(one.faults) for one in calls):,}",
            ]
        )  # fmt: skip
    return table


def main(argv: list[str]) -> int:
    """Prints the table; 1 when anything was read wrongly or broke."""
    parser = argparse.ArgumentParser(prog="python -m bench replay", description="Recorded replies of real providers.")
    parser.add_argument("--file", type=Path, help="recordings, one JSON object a line")
    parser.add_argument("--only", help="providers whose name contains this")
    parser.add_argument("--limit", type=int, help="so many exchanges at the most")
    parser.add_argument("--show", type=int, default=40, help="so many faults at the most are printed")
    arguments = parser.parse_args(argv)
    path = arguments.file or data_folder() / "exchanges" / "dev.jsonl"
    if not path.exists():
        print("data not found, skipped")
        return 0
    logging.getLogger("apikeyrouter").setLevel(logging.CRITICAL)
    found = exchanges(path)
    numbers = [n for n, one in enumerate(found) if not arguments.only or arguments.only in planned(one).name]
    result = asyncio.run(replayed(found, numbers[: arguments.limit]))
    heads = ["provider", "exchanges", "calls", "read", "refused", "at fault"]
    table = rows(result)
    print(report.columns(heads, table))
    calls, wrong = len(result.judgements), [one for one in result.judgements if one.faults]
    judge = "google-genai" if google_sdk() is not None else "its published members"
    print(f"\n{len(result.providers):,} exchanges, {calls:,} calls; Gemini's format judged by {judge}")
    print(f"{len(wrong)} at fault; {len(set(result.strangers))} paths that no recording has")
    for what in sorted(set(result.strangers))[:10]:
        print(f"  {what}")
    for one in wrong[: arguments.show]:
        print(f"  #{one.number} {one.provider} as {one.client}, {one.framing}: {'; '.join(one.faults)}")
    kept = {"rows": [dict(zip(heads, row, strict=True)) for row in table], "at_fault": [asdict(one) for one in wrong]}
    print(f"\nfigures: {report.save('replay', kept)}")
    return 1 if wrong or result.strangers else 0
