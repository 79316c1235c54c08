"""A stream on its way to the caller: it settles on its end, its failure, its closing and its cancellation.

`ReplyStream.chunks()` yields bytes for the wire, the first of them already received. It never ends without a terminal
event: when the provider breaks off, an in-band error follows, because SDKs take a cut stream for success. Nothing is
ever replayed (law L7): bytes have been passed on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from apikeyrouter.attempt import Attempt
from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.errors import ErrorCategory, SystemError
from apikeyrouter.domain.interfaces.provider_adapter import StreamReader
from apikeyrouter.domain.interfaces.transport import HttpReply, SendPhase, TransportError
from apikeyrouter.domain.models.call import Call, Operation
from apikeyrouter.domain.resilience.classify import classify_event, classify_transport
from apikeyrouter.domain.resilience.failures import Failure, category_of
from apikeyrouter.domain.routing.demand import Demand
from apikeyrouter.journal import Journal
from apikeyrouter.wire.facts import ErrorFact
from apikeyrouter.wire.translate import client_codec

__all__ = ["ReplyStream"]

_DONE = b"data: [DONE]\n\n"
_ENDED_BY_DONE = frozenset({Operation.Chat, Operation.Completions})


class ReplyStream:
    """One stream. Iterate `chunks()` once, or call `close()`; either settles it, exactly once.

    `failure`: why it broke off, or None. `usage`: what was charged, once it ended.
    """

    def __init__(
        self,
        call: Call,
        attempt: Attempt,
        reply: HttpReply,
        upstream: AsyncIterator[bytes],
        reader: StreamReader,
        *,
        first: bytes,
        demand: Demand,
        journal: Journal,
    ) -> None:
        self._call = call
        self._attempt = attempt
        self._reply = reply
        self._upstream = upstream
        self._first = first
        self._demand = demand
        self._journal = journal
        self.reader = reader
        self.usage: Usage | None = None
        self.failure: Failure | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Bytes for the caller, as they come."""
        reader = self.reader
        out = self._first
        try:
            if out:
                yield out
            if not self._broke():
                async for chunk in self._upstream:
                    piece = reader.feed(chunk)
                    if piece:
                        out = piece
                        yield piece
                    if self._broke():
                        break
                else:
                    piece = reader.finish()
                    if piece:
                        out = piece
                        yield piece
            failure = self._end()
            if failure is not None and not reader.done:
                yield self._last_word(failure, out)
        except TransportError as error:
            if reader.done and reader.error is None:  # only what says that the connection may be used again is missing
                self._end()
                return
            failure = classify_transport(_as_mid_reply(error))
            self._fail(failure)
            yield in_band_error(failure, self._call)
        finally:
            self.close()

    def _last_word(self, failure: Failure, out: bytes) -> bytes:
        """What ends a stream that failed, after `out`: the error, unless the provider's own has been passed on."""
        if self.reader.error is None:
            return in_band_error(failure, self._call)
        return _DONE if self._call.operation in _ENDED_BY_DONE and not out.endswith(_DONE) else b""

    def _broke(self) -> bool:
        return self.reader.error is not None

    def close(self) -> None:
        """The caller has no more interest. Idempotent; stops the provider if it is still writing."""
        self._reply.aclose()
        if self._attempt.open:
            self.usage = self._so_far()
            self._attempt.abandon("client_closed", self.usage)
            self._journal.ended(
                self._call, self._attempt.record, self._attempt.fact, self.usage, outcome="client_closed"
            )

    def discard(self) -> None:
        """Nobody will read it, since another reply to the same request was faster."""
        self._reply.aclose()
        if self._attempt.open:
            self._attempt.abandon("hedge_lost", self._so_far())

    def error(self) -> SystemError | None:
        """The failure as an exception, for callers that are not on a wire."""
        failure = self.failure
        if failure is None:
            return None
        return SystemError(
            category_of(failure) if failure.failure_class else ErrorCategory.ProviderError,
            f"The stream broke off: {failure.message}. What was received so far is charged; nothing was replayed.",
            provider_code=failure.code,
            retryable=False,
        )

    def _end(self) -> Failure | None:
        """The provider's stream is over: settle it as a success, or as the failure that it was."""
        reader = self.reader
        if reader.done and reader.error is None:
            if reader.usage is not None:
                ratios = self._attempt.learners.deltas
                ratios.record(self._provider_id, self._call.model, reader.deltas, reader.usage.output_tokens)
            self.usage = self._attempt.succeed(self._so_far())
            self._journal.ended(self._call, self._attempt.record, self._attempt.fact, self.usage)
            return None
        failure = None
        if reader.error is not None:
            dialect = self._attempt.taken.candidate.provider.adapter.dialect
            failure = classify_event(dialect, reader.error, utc_now=self._journal.utc_now())
        failure = failure or classify_transport(
            TransportError("cut", SendPhase.MidReply, "the provider ended the stream without a terminal event")
        )
        self._fail(failure)
        return failure

    def _fail(self, failure: Failure) -> None:
        self.failure = failure
        if self._attempt.open:
            self.usage = self._so_far()
            self._attempt.fail(failure, partial=self.usage)
            self._journal.ended(
                self._call, self._attempt.record, self._attempt.fact, self.usage, outcome=failure.failure_class.value
            )

    def _so_far(self) -> Usage:
        """The provider's usage if it came, else input as expected, and output as so many chunks usually are."""
        if self._call.free:
            return Usage()
        if self.reader.usage is not None:
            return self.reader.usage
        ratios = self._attempt.learners.deltas
        output = ratios.tokens(self._provider_id, self._call.model, self.reader.deltas)
        return Usage(input_tokens=self._demand.input_expected, output_tokens=output)

    @property
    def _provider_id(self) -> str:
        return self._attempt.taken.scored.provider_id


def in_band_error(failure: Failure, call: Call) -> bytes:
    """An error event in the caller's format, with its end: SDKs raise on it instead of taking the cut for an end."""
    error = ErrorFact(
        status=502,
        message=f"The provider's stream broke off: {failure.message} (request {call.request_id}). "
        "What was received is incomplete.",
        code=failure.code or "upstream_stream_error",
        param=failure.param,
        request_id=call.request_id,
    )
    return client_codec(call.operation).write_error_event(error)


def _as_mid_reply(error: TransportError) -> TransportError:
    if error.phase is SendPhase.MidReply:
        return error
    return TransportError(error.kind, SendPhase.MidReply, error.message)
