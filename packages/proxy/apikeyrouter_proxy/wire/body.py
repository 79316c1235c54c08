"""Reading a request body: bounded, decompressed if need be, peeked at, and refused with a reason."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from apikeyrouter.domain.models.call import Operation, Peek, peek
from apikeyrouter_proxy.wire.errors import WireError

__all__ = ["ClientGone", "check", "decoded", "read_body"]

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_RATIO_MAX = 20


class ClientGone(Exception):
    """The client hung up while sending."""


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
    """Peeks at the body. Raises WireError 400 naming what is wrong and how it should be."""
    try:
        peeked = peek(body)
    except msgspec.ValidationError as fault:
        raise WireError(400, f"The request body has a field of the wrong type: {fault}.", code="invalid_type") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        shown = "it is empty" if not body.strip() else str(fault)
        raise WireError(
            400,
            f"The request body is not valid JSON: {shown}. Send a JSON object such as "
            '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}]}.',
            code="invalid_json",
        ) from None
    if not peeked.model:
        raise WireError(400, "The field 'model' is missing or empty.", code="missing_required_parameter", param="model")
    if operation is Operation.Chat and peeked.messages is None:
        raise WireError(
            400,
            "The field 'messages' is missing: give a list of at least one message with role and content.",
            code="missing_required_parameter",
            param="messages",
        )
    return peeked


def _too_large(limit_bytes: int) -> WireError:
    return WireError(
        413, f"The request body is larger than the {limit_bytes} bytes that are accepted.", code="too_large"
    )
