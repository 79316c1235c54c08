"""One send and what came of it: step 6 of the path of a request, with the closing of its attempt (7 and 8).

`Sender.send` builds the request, sends it, and reads the reply: a `Reply`, whose stream may still run, or a `Failed`.
Whatever happens, cancellation too, the attempt is closed, or handed to the stream that will close it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

from msgspec import Struct

from apikeyrouter.attempt import Attempt, Learners
from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.interfaces.provider_adapter import ProviderAdapter, StreamReader, passes_for
from apikeyrouter.domain.interfaces.transport import (
    Headers,
    HttpReply,
    HttpRequest,
    Timeouts,
    Transport,
    TransportError,
)
from apikeyrouter.domain.models.call import CONVERSATIONS, Call, Operation
from apikeyrouter.domain.resilience.classify import classify_event, classify_reply, classify_transport
from apikeyrouter.domain.resilience.failures import Failure, bad_reply, of_raw_path, unsupported
from apikeyrouter.domain.routing.candidates import Group
from apikeyrouter.domain.routing.choose import Taken
from apikeyrouter.domain.routing.demand import Demand
from apikeyrouter.domain.routing.explain import AttemptFact, DecisionRecord
from apikeyrouter.domain.routing.fallbacks import call_for
from apikeyrouter.journal import Journal
from apikeyrouter.streaming import ReplyStream
from apikeyrouter.wire.codec import MalformedError
from apikeyrouter.wire.losses import UntranslatableError
from apikeyrouter.wire.whole import EitherReader, WholeReader

__all__ = ["Failed", "Limits", "Order", "Reply", "Sender"]


@dataclass(frozen=True, slots=True)
class Limits:
    """`attempts_max`: sends per request at the most that a provider's fault may cost (5xx, connections, time-outs);
    keys that are refused for their own sake do not count, up to 12 sends in all. `retry_unanswered`: whether a request
    that was sent and got no byte back may be sent again; it may then be billed twice, and both are charged to the
    ledger. `tenant_wait_s`: how long a caller over its own limits may wait for them."""

    attempts_max: int = 3
    retry_unanswered: bool = True
    tenant_wait_s: float = 0.0
    timeouts: Timeouts = field(default_factory=Timeouts)


class Reply(Struct, eq=False):
    """What the caller gets: a body, or a stream whose first events are already here. `dropped`: what the request asked
    for and the provider's format cannot say."""

    record: DecisionRecord
    taken: Taken
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    usage: Usage | None = None
    fact: AttemptFact | None = None
    stream: ReplyStream | None = None
    dropped: tuple[str, ...] = ()

    def discard(self) -> None:
        """Another reply was faster: this one is charged for what it used, and nobody reads it."""
        if self.stream is not None:
            self.stream.discard()


class Failed(Struct, frozen=True, eq=False):
    """A send that failed. `body`: the provider's error body and its content type, where there was one in the caller's
    own format."""

    failure: Failure
    fact: AttemptFact
    body: tuple[bytes, str | None] | None = None


class Order(Struct, frozen=True, eq=False):
    """What is to be sent: the caller's `call`, its sizes, the decision that it belongs to, who was taken for
    it, and from whom."""

    call: Call
    demand: Demand
    record: DecisionRecord
    taken: Taken
    group: Group


class Sender:
    """Sends over one transport."""

    def __init__(self, transport: Transport, learners: Learners, journal: Journal, limits: Limits) -> None:
        self._transport = transport
        self._learners = learners
        self._clock = learners.clock
        self._journal = journal
        self._limits = limits

    async def send(self, order: Order) -> Reply | Failed:
        """Never raises but for cancellation and faults of ours."""
        taken, record, call = order.taken, order.record, order.call
        candidate = taken.candidate
        if candidate.model != call.model:
            call = call_for(call, candidate)
        call.at_utc_s = record.at_utc_s
        attempt = Attempt(self._learners, call, taken, order.demand, record)
        adapter = candidate.provider.adapter
        reply: HttpReply | None = None
        raw = b""
        try:
            request = adapter.build_request(call, attempt.secret, base_url=candidate.record.base_url)
            request.timeouts = self._limits.timeouts
            try:
                reply = await self._transport.send(request)
            except TransportError as error:
                reply = await self._again(request, error)
            now_s = attempt.first_byte()
            if 200 <= reply.status < 300:
                attempt.heard(reply.headers, now_s)
                attempt.accepted(now_s)
                if call.peek.stream and (reader := _reader_of(adapter, call, reply)) is not None:
                    return await self._begin_stream(order, reader, attempt, reply, request.dropped)
                raw = await reply.read()
                body, usage = adapter.read_reply(call, raw)
                charged = attempt.succeed(Usage() if call.free else usage)
                return Reply(
                    record, taken, reply.status, reply.headers, body, charged, attempt.fact, None, request.dropped
                )
            return await self._read_failure(order, attempt, reply)
        except TransportError as error:
            return _failed(order, attempt, classify_transport(error))
        except (UntranslatableError, MalformedError) as fault:
            return _failed(order, attempt, _unsaid(fault))
        except ValueError as fault:
            return self._unusable(order, attempt, reply, raw, str(fault))
        finally:
            if attempt.open and not attempt.fact.outcome.startswith("stream"):
                attempt.abandon("cancelled")
                if reply is not None:
                    reply.aclose()

    async def _again(self, request: HttpRequest, error: TransportError) -> HttpReply:
        """Sends once more when a kept-alive connection turns out to have been closed under our hands.

        A provider closes idle connections at any time, also in the instant in which we write: that is no answer to the
        request, and no reason to blame the key. Only where unanswered requests may be sent again.
        """
        if not (error.reused and error.kind == "reset" and self._limits.retry_unanswered):
            raise error
        return await self._transport.send(request)

    async def _begin_stream(
        self, order: Order, reader: StreamReader, attempt: Attempt, reply: HttpReply, dropped: tuple[str, ...]
    ) -> Reply | Failed:
        """Waits for the first event: until then another key may still take over."""
        adapter = attempt.taken.candidate.provider.adapter
        chunks = reply.chunks()
        first = b""
        try:
            while not first and not reader.done and reader.error is None:
                first = reader.feed(await anext(chunks))
        except StopAsyncIteration:
            first += reader.finish()
            if not reader.done and reader.error is None:
                return _failed(order, attempt, _bad_reply("the stream ended before its first event", reply))
        if reader.error is not None and not reader.deltas:
            failure = classify_event(adapter.dialect, reader.error, utc_now=self._clock.utc_now())
            reply.aclose()
            return _failed(order, attempt, failure or _bad_reply("the stream began with an error", reply))
        attempt.fact.outcome = "streaming"
        stream = ReplyStream(
            order.call, attempt, reply, chunks, reader, first=first, demand=order.demand, journal=self._journal
        )
        headers = _as_events(reply.headers) if order.call.operation in CONVERSATIONS else reply.headers
        return Reply(order.record, attempt.taken, 200, headers, fact=attempt.fact, stream=stream, dropped=dropped)

    def _unusable(self, order: Order, attempt: Attempt, reply: HttpReply | None, raw: bytes, why: str) -> Failed:
        """A success that is none: an error inside (Azure's content filter answers 200 so), or no reply at all."""
        adapter = attempt.taken.candidate.provider.adapter
        inside = classify_event(adapter.dialect, raw, utc_now=self._clock.utc_now()) if raw else None
        if inside is None:
            return _failed(order, attempt, _bad_reply(why, reply))
        passes = passes_for(adapter, order.call.operation, attempt.taken.candidate.model)
        return _failed(order, attempt, inside, (raw, "application/json") if passes else None)

    async def _read_failure(self, order: Order, attempt: Attempt, reply: HttpReply) -> Failed:
        body = await reply.read()
        adapter = attempt.taken.candidate.provider.adapter
        failure = classify_reply(adapter.dialect, reply.status, reply.headers, body, utc_now=self._clock.utc_now())
        if order.call.operation is Operation.Raw:
            failure = of_raw_path(failure)
        attempt.refused(failure, reply.headers, body)
        if not passes_for(adapter, order.call.operation, attempt.taken.candidate.model):
            return _failed(order, attempt, failure)
        kind = reply.header(b"content-type")
        return _failed(order, attempt, failure, (body, kind.decode("latin-1") if kind else None))


def _unsaid(fault: UntranslatableError | MalformedError) -> Failure:
    """A request that cannot be written in the provider's format; the member at fault is told as a provider would."""
    if isinstance(fault, MalformedError):
        return replace(unsupported(str(fault), elsewhere=False), param=fault.param)
    member, told, _ = fault.faults[0].partition(": ") if fault.faults else ("", "", "")
    return replace(unsupported(str(fault), elsewhere=True), param=member if told and " " not in member else None)


def _failed(order: Order, attempt: Attempt, failure: Failure, body: tuple[bytes, str | None] | None = None) -> Failed:
    attempt.fail(failure, peers=order.group.peers_of(order.taken.candidate))
    return Failed(failure, attempt.fact, body)


_TYPE, _EVENTS = b"content-type", b"text/event-stream"
_EVENT_STREAMS = (_EVENTS, b"application/vnd.amazon.eventstream")


def _reader_of(adapter: ProviderAdapter, call: Call, reply: HttpReply) -> StreamReader | None:
    """What reads a reply to a call for a stream; None for one that is no reply to it, which is read whole. Servers that
    do not stream answer with JSON: clients get it as the events that they wait for. Some name their events wrongly."""
    kind = (reply.header(_TYPE) or b"").lower()
    if kind.startswith(_EVENT_STREAMS):
        return adapter.open_stream(call)
    if call.operation not in CONVERSATIONS or kind.startswith(b"text/html"):
        return None
    whole = WholeReader(call, partial(adapter.read_reply, call))
    return whole if kind.startswith(b"application/json") else EitherReader(adapter.open_stream(call), whole)


def _as_events(headers: Headers) -> Headers:
    """With the content type that clients expect of a conversation, whatever the provider called its stream."""
    if any(name == _TYPE and value.lower().startswith(_EVENTS) for name, value in headers):
        return headers
    return [*((name, value) for name, value in headers if name != _TYPE), (_TYPE, _EVENTS)]


def _bad_reply(why: str, reply: HttpReply | None) -> Failure:
    return bad_reply(why, reply.status if reply is not None else None)
