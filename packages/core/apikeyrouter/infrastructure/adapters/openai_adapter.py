"""OpenAI and every server that speaks its wire format.

Bodies go through unchanged: only the model name (when the caller wrote a prefix) and `stream_options` (to learn the
usage of a stream) are ever edited, as bytes. `OpenAIAdapter()` alone talks to OpenAI, or to `OPENAI_BASE_URL` when that
is set, as the official SDKs do.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping

import msgspec

from apikeyrouter.domain.cost.usage import Usage, UsageBody, usage_in, usage_of_openai
from apikeyrouter.domain.interfaces.provider_adapter import ProviderCapabilities, StreamReader
from apikeyrouter.domain.models.call import CONVERSATIONS, Call, Operation, Wire
from apikeyrouter.infrastructure.adapters.base import WireAdapter, checked_base_url, with_member
from apikeyrouter.wire.chat.reader import ChatStreamReader
from apikeyrouter.wire.losses import UntranslatableError

__all__ = ["OPENAI_BASE_URL", "OpenAIAdapter"]

OPENAI_BASE_URL = "https://api.openai.com/v1"

# Names that OpenAI gives to its own models (https://platform.openai.com/docs/models, read 2026-11).
_OWN_PREFIXES = (
    "gpt-", "chatgpt-", "o1", "o3", "o4", "text-embedding-", "text-davinci", "davinci", "babbage", "omni-", "dall-e",
    "whisper", "tts-", "codex-", "computer-use-", "ft:gpt-", "ft:o",
)  # fmt: skip
_OPENS_LIST = ord("[")
_USAGE_OPTION = b'"stream_options":{"include_usage":true}'

_BASICS = (Operation.Chat, Operation.Completions, Operation.Embeddings)
_BESIDES = (
    Operation.Responses, Operation.Moderations, Operation.Images, Operation.ImageEdits, Operation.Speech,
    Operation.Transcriptions, Operation.Translations,
)  # fmt: skip
_WITH_USAGE_OPTION = frozenset({Operation.Chat, Operation.Completions})
_RESPONSES = Operation.Responses  # a member of an enum class costs five times a global


_OF_RESPONSES = ("previous_response_id", "conversation", "prompt", "background", "item_reference")
_MAY_HAVE_IT = (
    "this server is asked for chat completions only: if it serves /responses itself, as vLLM and LM Studio do, "
    'add "responses" to the `operations` of its provider in apikeyrouter.yaml'
)
"""Said of what only a server of Responses can do. Which servers do cannot be told from a base URL, and what they have
there differs from server to server, so chat completions, which all of them have, are the default."""


class _Reply(msgspec.Struct, gc=False):
    error: msgspec.Raw = msgspec.Raw()
    choices: msgspec.Raw = msgspec.Raw()
    data: msgspec.Raw = msgspec.Raw()


class _Whole(UsageBody, gc=False):
    """A reply with its usage, read in one go."""

    error: msgspec.Raw = msgspec.Raw()
    choices: msgspec.Raw = msgspec.Raw()
    data: msgspec.Raw = msgspec.Raw()


_decode_reply = msgspec.json.Decoder(_Reply).decode
_decode_whole = msgspec.json.Decoder(_Whole).decode


class OpenAIAdapter(WireAdapter):
    """Speaks OpenAI's wire format.

    `base_url`: where the API lives, ending before `/chat/completions`; default `OPENAI_BASE_URL` from the environment,
    else OpenAI itself. `headers`: sent with each request (for instance `OpenAI-Organization`). `dialect`: how the
    server reports limits and errors; "openai" also suits servers that only imitate it. `claims_all`: serve any model
    when a request names no provider (for gateways and self-hosted servers). `capabilities`: what it can do.
    `operations`: which of OpenAI's endpoints the server has, default: all of OpenAI's own at OpenAI, else chat,
    completions and embeddings; other conversations are translated into chat completions, or, where the server has none,
    into the format that it has. Raises ConfigurationError when
    the base URL is not an absolute http(s) URL.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        dialect: str = "openai",
        claims_all: bool | None = None,
        capabilities: ProviderCapabilities | None = None,
        operations: Collection[Operation] | None = None,
    ) -> None:
        given = checked_base_url(base_url or os.environ.get("OPENAI_BASE_URL", "").strip() or OPENAI_BASE_URL)
        own = given == OPENAI_BASE_URL
        if operations is None:
            operations = (*_BASICS, *_BESIDES) if own else _BASICS
        super().__init__(
            given,
            dialect=dialect,
            wire=_wire_of(operations),
            native={operation: operation.value for operation in operations},
            headers=headers,
            capabilities=capabilities,
        )
        self._claims_all = not own if claims_all is None else claims_all

    def claims(self, model: str) -> bool:
        """Whether the model's name is one of OpenAI's; with another base URL than OpenAI's, any model."""
        return self._claims_all or model.startswith(_OWN_PREFIXES)

    def native_body(self, call: Call) -> bytes:
        """The caller's bytes, with the provider's model name, asking for the usage of streams, and without thoughts of
        other providers, which OpenAI would refuse."""
        # as the base's, for the call that nearly all are: written for this very model
        body = call.body if call.peek.model == call.model else super().native_body(call)
        if call.peek.stream and call.operation in _WITH_USAGE_OPTION and not call.peek.wants_usage:
            body = _asking_for_usage(body, has_options=call.peek.stream_options is not None)
        elif call.operation is _RESPONSES:
            from apikeyrouter.wire.responses import without_foreign_reasoning

            body = without_foreign_reasoning(body)
        return body

    def translated_body(self, call: Call) -> tuple[bytes, tuple[str, ...]]:
        """As the base's; what only a server of Responses can do names the setting that says that this is one."""
        try:
            return super().translated_body(call)
        except UntranslatableError as error:
            if call.operation is not Operation.Responses or not any(
                fault.startswith(_OF_RESPONSES) for fault in error.faults
            ):
                raise
            raise UntranslatableError(self.wire.value, [*error.faults, _MAY_HAVE_IT]) from None

    def read_reply(self, call: Call, body: bytes) -> tuple[bytes, Usage | None]:
        """See `ProviderAdapter.read_reply`."""
        if call.operation not in _BASICS or not self.passes(call.operation):
            return super().read_reply(call, body)
        reply: _Whole | _Reply
        try:
            reply = _decode_whole(body)
        except msgspec.ValidationError:  # an odd usage must not hide what the reply is
            reply = _reply_of(body)
        except msgspec.MsgspecError as fault:
            raise ValueError(f"the reply is not a JSON object: {fault}") from None
        if reply.error and bytes(reply.error) not in (b"null", b""):
            raise ValueError("the reply has status 200 and an error inside")
        if not (_begins_list(reply.choices) or _begins_list(reply.data)):
            raise ValueError("the reply has neither a list of choices nor one of embeddings")
        return body, usage_in(reply) if isinstance(reply, _Whole) else usage_of_openai(body)

    def native_usage(self, call: Call, body: bytes) -> Usage | None:  # noqa: ARG002 - the same for all of them
        """Pictures and transcripts tell it as conversations do; sound is no JSON and tells none."""
        return usage_of_openai(body) if body.lstrip()[:1] == b"{" else None

    def open_stream(self, call: Call) -> StreamReader:
        """See `ProviderAdapter.open_stream`."""
        if call.operation in _WITH_USAGE_OPTION and self.passes(call.operation):
            return ChatStreamReader(strip_usage=not call.peek.wants_usage)
        return super().open_stream(call)


def _begins_list(raw: msgspec.Raw) -> bool:
    return bool(raw) and memoryview(raw)[0] == _OPENS_LIST


def _reply_of(body: bytes) -> _Reply:
    """Raises ValueError for what is no object."""
    try:
        return _decode_reply(body)
    except msgspec.MsgspecError as fault:
        raise ValueError(f"the reply is not a JSON object: {fault}") from None


def _wire_of(operations: Collection[Operation]) -> Wire:
    """What conversations are translated into: chat completions, or the one format of a server that has others only."""
    if Operation.Chat in operations:
        return Wire.Chat
    return next((wire for operation, wire in CONVERSATIONS.items() if operation in operations), Wire.Chat)


def _asking_for_usage(body: bytes, *, has_options: bool) -> bytes:
    """The body with `stream_options.include_usage` set; spliced in front of the last brace when the member is
    absent."""
    if has_options:
        decoded = msgspec.json.decode(body)
        decoded["stream_options"] = {**(decoded.get("stream_options") or {}), "include_usage": True}
        return msgspec.json.encode(decoded)
    if b'"stream_options"' in body:  # present as null
        return with_member(body, "stream_options", {"include_usage": True})
    return body[: body.rindex(b"}")] + b"," + _USAGE_OPTION + b"}"
