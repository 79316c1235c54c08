"""What the parts of the adapter suite share: whose adapter it is, what its provider says, and calls to build.

Main entry: `AdapterSuite`; everything a subclass may override is here. Samples of replies and streams come from our own
codec of `wire`; an adapter of another format brings its own.
Law: nothing of a test framework is imported, and `python -O` takes no check away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.interfaces.provider_adapter import ProviderAdapter, StreamReader
from apikeyrouter.domain.interfaces.transport import HttpRequest
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.models.call import CONVERSATIONS, WITHOUT_MODEL_MEMBER, Call, Operation, Peek, Wire
from apikeyrouter.wire.codec import codec_of
from apikeyrouter.wire.facts import (
    Answer,
    Choice,
    ErrorFact,
    Event,
    Finished,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    Stop,
    Text,
    UsageTold,
)

__all__ = ["REPLY_TEXT", "SECRET", "AdapterSuite", "must"]

SECRET = "kit-" + "credential-8c1f2a"
"""What the kit uses as a key. It looks like no provider's own."""

REPLY_TEXT = "Four words, in reply."
_USAGE = Usage(input_tokens=11, output_tokens=7)
_FORM = b"multipart/form-data; boundary=kit"
_REQUEST_ID = "kit-request-5d3e"
_TAGS = {"team": "kit-team-77b0"}
_SESSION = "kit-session-9a41"
OURS = (_REQUEST_ID, _SESSION, "kit-team-77b0", "provider_id")
"""What belongs to the router alone."""


def must(holds: object, why: str) -> None:
    """Raises AssertionError unless it holds; unlike `assert` also under `python -O`."""
    if not holds:
        raise AssertionError(why)


class AdapterSuite:
    """What the kit knows about an adapter. Override what differs.

    `model`: a name that callers use. `sent_model`: what the provider is asked for then; None: the same. `auth_header`:
    the header in which the key travels, and `auth_value` what stands there, with `{}` for the key; None: any header.
    `secret_in_query`: the API knows no other place for its keys. `wire`: the format of the provider's conversations,
    from which samples are made; default: that of a `WireAdapter`, else OpenAI's. `other_models`: operations that
    it offers for other models than this one. `cut_step`: streams are cut at each such number of bytes.
    """

    model = "kit-model"
    sent_model: str | None = None
    auth_header: str | None = None
    auth_value = "{}"
    secret_in_query = False
    wire: Wire | None = None
    other_models: frozenset[Operation] = frozenset()
    cut_step = 1

    def adapter(self) -> ProviderAdapter:
        """The adapter, new at each call. Override this."""
        raise NotImplementedError("derive a class and say how to make your adapter")

    # -- what the provider says ---------------------------------------------------------------------------------------

    @property
    def format(self) -> Wire:
        """The format that samples are made in."""
        found: Wire = self.wire if self.wire is not None else getattr(self.adapter(), "wire", Wire.Chat)
        return found

    def wire_of(self, operation: Operation) -> Wire:
        """The format in which the provider answers: the caller's where it passes, else its own."""
        return CONVERSATIONS[operation] if self.adapter().passes(operation) else self.format

    def answer_of(self, operation: Operation) -> Answer:
        """What the provider answers, in nobody's words yet: `REPLY_TEXT`, with the usage of `usage_of`."""
        return Answer("kit-1", self.model, [Choice([Text(REPLY_TEXT)])], self.usage_of(operation), 1_700_000_000)

    def reply_of(self, operation: Operation) -> bytes:
        """That answer as a whole reply of the provider."""
        return codec_of(self.wire_of(operation)).write_answer(self.answer_of(operation), self.model)

    def usage_of(self, operation: Operation) -> Usage:  # noqa: ARG002 - subclasses look at it
        """What the samples say was used."""
        return _USAGE

    def events_of(self, operation: Operation) -> Sequence[Event]:
        """The same answer in pieces."""
        half, used = len(REPLY_TEXT) // 2, self.usage_of(operation)
        return (
            Started("kit-1", self.model, Usage(input_tokens=used.input_tokens), 1_700_000_000),
            PartStarted(0, Text("")),
            PartDelta(0, REPLY_TEXT[:half]),
            PartDelta(0, REPLY_TEXT[half:]),
            PartEnded(0),
            UsageTold(used),
            Finished(Stop.End),
        )

    def stream_of(self, operation: Operation) -> bytes:
        """Those as the provider streams them."""
        encoder = codec_of(self.wire_of(operation)).encoder(self.model, want_usage=True)
        return b"".join([*map(encoder.encode, self.events_of(operation)), encoder.finish()])

    def stream_error_of(self, operation: Operation) -> bytes:
        """How the provider says inside a stream that it is overloaded."""
        fault = ErrorFact(503, "The model is overloaded.", "overloaded")
        return codec_of(self.wire_of(operation)).write_error_event(fault)

    def error_of(self, status: int, code: str, message: str) -> bytes:
        """The body of an error."""
        return codec_of(self.format).write_error(ErrorFact(status, message, code))

    def models_reply(self) -> tuple[bytes, Sequence[str]]:
        """A reply that lists models, and their ids; none for an API without models."""
        ids = ("kit-model-a", "kit-model-b")
        if self.format is Wire.Gemini:
            return msgspec.json.encode({"models": [{"name": f"models/{one}"} for one in ids]}), ids
        return msgspec.json.encode({"object": "list", "data": [{"id": one, "object": "model"} for one in ids]}), ids

    # -- calls ------------------------------------------------------------------------------------------------------

    @cached_property
    def offered(self) -> tuple[Operation, ...]:
        """What the adapter says it serves, for the model of the kit."""
        return tuple(o for o in self.adapter().get_capabilities().operations if o not in self.other_models)

    @cached_property
    def conversations(self) -> tuple[Operation, ...]:
        """The conversations among them."""
        return tuple(one for one in self.offered if one in CONVERSATIONS)

    def call(
        self,
        operation: Operation,
        *,
        stream: bool = False,
        body: bytes | None = None,
        written: str | None = None,
        model: str | None = None,
    ) -> Call:
        """A small valid call. `body`: instead of the usual one. `written`: the model as the caller wrote it."""
        name = self.model if model is None else model
        given, kind = (body, b"application/json") if body is not None else _body(operation, written or name, stream)
        try:
            peek = msgspec.json.decode(given, type=Peek) if given[:1] == b"{" else Peek()
        except msgspec.MsgspecError:
            peek = Peek()
        if peek.model is None:
            peek.model = written or name
        peek.stream = stream
        raw = operation is Operation.Raw
        return Call(
            _REQUEST_ID, operation, name, given, peek, 0.0, 60.0, provider_id="kit", tags=_TAGS, session=_SESSION,
            method="GET" if raw else "POST", path="kit/path" if raw else "", content_type=kind,
        )  # fmt: skip

    def request(self, call: Call, secret: str = SECRET, *, base_url: str | None = None) -> HttpRequest:
        """What a new adapter makes of a call."""
        return self.adapter().build_request(call, Secret(secret), base_url=base_url)

    def requests(self) -> Iterator[tuple[Operation, Call, HttpRequest]]:
        """One request for everything that is offered, conversations also streamed."""
        streaming = self.adapter().get_capabilities().supports_streaming
        for operation in self.offered:
            for stream in (False, True) if operation in CONVERSATIONS and streaming else (False,):
                call = self.call(operation, stream=stream)
                yield operation, call, self.request(call)

    def streamed(self) -> tuple[Operation, ...]:
        """The conversations that can be streamed."""
        return self.conversations if self.adapter().get_capabilities().supports_streaming else ()

    def reader(self, operation: Operation) -> StreamReader:
        """A reader for one stream of that conversation."""
        return self.adapter().open_stream(self.call(operation, stream=True))


_SAY = "Say four words."
_BODIES: Mapping[Operation, dict[str, Any]] = {
    Operation.Chat: {"messages": [{"role": "user", "content": _SAY}], "max_tokens": 16},
    Operation.Completions: {"prompt": _SAY, "max_tokens": 16},
    Operation.Embeddings: {"input": _SAY},
    Operation.Responses: {"input": _SAY, "max_output_tokens": 16},
    Operation.Messages: {"max_tokens": 16, "messages": [{"role": "user", "content": _SAY}]},
    Operation.CountTokens: {"messages": [{"role": "user", "content": _SAY}]},
    Operation.Gemini: {"contents": [{"role": "user", "parts": [{"text": _SAY}]}]},
    Operation.GeminiCountTokens: {"contents": [{"role": "user", "parts": [{"text": _SAY}]}]},
    Operation.GeminiEmbed: {"content": {"parts": [{"text": _SAY}]}},
    Operation.Moderations: {"input": _SAY},
    Operation.Images: {"prompt": _SAY},
    Operation.Speech: {"input": _SAY, "voice": "kit"},
    Operation.Rerank: {"query": _SAY, "documents": ["one", "two"]},
}
_FORMS = frozenset({Operation.ImageEdits, Operation.Transcriptions, Operation.Translations})
_STREAM_MEMBER = frozenset({Operation.Chat, Operation.Completions, Operation.Responses, Operation.Messages})


def _body(operation: Operation, model: str, stream: bool) -> tuple[bytes, bytes]:
    """A body of that operation, and its content type."""
    if operation is Operation.Raw:
        return b"", b"application/json"
    if operation in _FORMS:
        fields = {"model": model, "prompt": _SAY}
        parts = [f'--kit\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in fields.items()]
        return ("".join(parts) + "--kit--\r\n").encode(), _FORM
    members: dict[str, Any] = {} if operation in WITHOUT_MODEL_MEMBER else {"model": model}
    members |= _BODIES.get(operation, {"input": _SAY})
    if stream and operation in _STREAM_MEMBER:
        members["stream"] = True
    if stream and operation is Operation.Chat:
        members["stream_options"] = {"include_usage": True}
    return msgspec.json.encode(members), b"application/json"
