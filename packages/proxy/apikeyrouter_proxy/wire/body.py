"""Reading a request body: bounded, decompressed if need be, peeked at, and refused with a reason."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import msgspec

from apikeyrouter.domain.models.call import WITHOUT_MODEL_MEMBER, Operation, Peek, peek
from apikeyrouter.wire.codec import MalformedError
from apikeyrouter.wire.losses import UntranslatableError
from apikeyrouter_proxy.wire.errors import WireError

__all__ = ["MODERATION_MODEL", "ClientGone", "check", "check_length", "decoded", "items_as_chat", "read_body"]

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_RATIO_MAX = 20
_NULL = msgspec.Raw(b"null")

MODERATION_MODEL = "omni-moderation-latest"
"""What OpenAI takes when a request names none (API reference, "Create moderation", read 2026-11-21)."""

_MODEL_OPTIONAL = WITHOUT_MODEL_MEMBER | {Operation.Moderations}
_CHAT_EXAMPLE = '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}]}'
_GEMINI_EXAMPLE = '{"contents": [{"role": "user", "parts": [{"text": "Hello!"}]}]}'
_EXAMPLES = defaultdict(
    lambda: _CHAT_EXAMPLE,
    {
        Operation.Messages: _CHAT_EXAMPLE[:-1] + ', "max_tokens": 1024}',
        Operation.Responses: '{"model": "gpt-4o-mini", "input": "Hello!"}',
        Operation.Embeddings: '{"model": "text-embedding-3-small", "input": "Hello!"}',
        Operation.Gemini: _GEMINI_EXAMPLE,
        Operation.GeminiCountTokens: _GEMINI_EXAMPLE,
        Operation.GeminiEmbed: '{"content": {"parts": [{"text": "Hello!"}]}}',
        Operation.Images: '{"model": "gpt-image-1", "prompt": "A red bird"}',
        Operation.Speech: '{"model": "tts-1", "input": "Hello!", "voice": "alloy"}',
        Operation.Rerank: '{"model": "rerank-v3.5", "query": "Which?", "documents": ["One", "Two"]}',
    },
)
_TALK_WORDS = "give a list of at least one message with role and content"
_TALKS = frozenset({Operation.Chat, Operation.Messages, Operation.CountTokens})
_NEEDS: Mapping[Operation, tuple[tuple[str, ...], str]] = {
    Operation.Chat: (("messages", "input"), _TALK_WORDS),
    Operation.Messages: (("messages",), _TALK_WORDS),
    Operation.CountTokens: (("messages",), _TALK_WORDS),
    Operation.Responses: (
        ("input", "previous_response_id", "prompt", "conversation"),
        "give a text or a list of items (or previous_response_id, prompt or conversation)",
    ),
    Operation.Gemini: (("contents",), "give a list of at least one content with parts"),
    Operation.GeminiCountTokens: (
        ("contents", "generateContentRequest", "generate_content_request"),
        "give a list of contents",
    ),
    Operation.GeminiEmbed: (("content", "requests"), "give the content to embed"),
    Operation.Embeddings: (("input",), "give a text, a list of texts, or token ids"),
    Operation.Moderations: (("input",), "give a text or a list of texts"),
    Operation.Images: (("prompt",), "say what to draw"),
    Operation.Speech: (("input",), "give the text to speak"),
    Operation.Rerank: (("query",), "say what the documents are ranked by"),
}
"""What each operation is about: one of these members, the first of them named in the error."""


class ClientGone(Exception):
    """The client hung up while sending."""


def check_length(headers: Mapping[bytes, bytes], limit_bytes: int) -> None:
    """Raises WireError 413 for a body that is said to be larger than the limit, before any of it is read: a client that
    waits to be asked for it (`Expect: 100-continue`, RFC 9110, section 10.1.1) is not asked. The connection ends with
    that answer, since the client may send the body or leave it out."""
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length[:20]) > limit_bytes:
        error = _too_large(limit_bytes)
        if b"expect" in headers:
            error.headers.append((b"connection", b"close"))
        raise error


async def read_body(receive: Receive, limit_bytes: int) -> bytes:
    """The whole body. Raises WireError 413 beyond the limit, and ClientGone."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        parts = [body]
        size = len(body)
        while message.get("more_body"):
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            part = message.get("body", b"")
            size += len(part)
            if size > limit_bytes:
                raise _too_large(limit_bytes)
            parts.append(part)
        body = b"".join(parts)
    if len(body) > limit_bytes:
        raise _too_large(limit_bytes)
    return body


def decoded(body: bytes, encoding: bytes, limit_bytes: int) -> bytes:
    """The body without its content-encoding (gzip or deflate). Raises WireError 413 for bombs, 415 for other
    encodings."""
    name = encoding.strip().lower()
    if name in (b"", b"identity"):
        return body
    if name not in (b"gzip", b"x-gzip", b"deflate"):
        shown = name.decode("latin-1")
        raise WireError(415, f"Content-Encoding {shown!r} is not supported; send gzip, deflate or none.")
    most = min(limit_bytes, max(1024, len(body) * _RATIO_MAX))
    try:
        inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)
        plain = inflater.decompress(body, most + 1)
    except zlib.error:
        raise WireError(400, "The compressed body cannot be decompressed: it is damaged or cut off.") from None
    if len(plain) > most:
        raise WireError(413, f"The body decompresses to more than {most} bytes, which is more than is accepted.")
    return plain


def check(operation: Operation, body: bytes) -> Peek:
    """Peeks at the body. Raises WireError 400 naming what is wrong and how it should be.

    Chat completions without `messages` but with `input` are let through: some clients post there what belongs to
    Responses. Moderations may lack the model.
    """
    try:
        peeked = peek(body)
    except msgspec.ValidationError as fault:
        raise WireError(
            400,
            f"The request body has a field of the wrong type: {fault}.",
            code="invalid_type",
            param=str(fault).partition(" - at `$.")[2].rstrip("`") or None,
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        shown = "it is empty" if not body.strip() else str(fault)
        raise WireError(
            400,
            f"The request body is not valid JSON: {shown}. Send a JSON object such as {_EXAMPLES[operation]}.",
            code="invalid_json",
        ) from None
    if not peeked.model and operation not in _MODEL_OPTIONAL:
        raise _missing("model", "The field 'model' is missing or empty.")
    if peeked.messages is None or operation not in _TALKS:
        _check_members(operation, body)
    if operation is Operation.Messages and peeked.max_tokens is None:
        raise _missing("max_tokens", "max_tokens: Field required; say how many tokens the reply may have at the most.")
    return peeked


def items_as_chat(body: bytes, peeked: Peek) -> tuple[bytes, tuple[str, ...]]:
    """A Responses request as a chat completion, and the names of what was left out. Raises WireError 400."""
    from apikeyrouter.wire.responses.detect import as_chat, looks_like_responses  # few clients need it

    if not looks_like_responses(peeked, body):
        raise _missing("messages", f"The field 'messages' is missing: {_NEEDS[Operation.Chat][1]}.")
    try:
        return as_chat(body, model=peeked.model or "", stream=bool(peeked.stream))
    except (MalformedError, UntranslatableError, msgspec.MsgspecError) as fault:
        raise WireError(
            400, f"The items of 'input' cannot be served as chat completions: {fault}", code="invalid_request"
        ) from None


def _check_members(operation: Operation, body: bytes) -> None:
    """Raises WireError 400 when the body lacks what the operation is about."""
    needs = _NEEDS.get(operation)
    if needs is None:
        return
    names, words = needs
    if any(b'"%s"' % name.encode() in body for name in names) and operation not in _TALKS:
        return  # the provider looks closer
    members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    if all(bytes(members.get(name, _NULL)) == b"null" for name in names):
        raise _missing(names[0], f"The field {names[0]!r} is missing: {words}.")


def _missing(param: str, message: str) -> WireError:
    return WireError(400, message, code="missing_required_parameter", param=param)


def _too_large(limit_bytes: int) -> WireError:
    return WireError(
        413, f"The request body is larger than the {limit_bytes} bytes that are accepted.", code="too_large"
    )
