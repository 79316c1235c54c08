"""Any provider that speaks OpenAI's format, by its row in the catalogue: quirks are edits of a body, made when needed.

    adapter = CompatibleAdapter(find_row("groq"))

Main entry: `CompatibleAdapter`, usually made by `catalogue.provider`. A body without anything that the row's quirks are
about passes as it came, byte for byte; else its members are split once, and only those concerned are written anew.
Laws: nothing that changes an answer is left out unsaid: it is refused by name (another provider is tried), or dropped
where the caller allows it, and reported.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from apikeyrouter.domain.interfaces.provider_adapter import ProviderCapabilities
from apikeyrouter.domain.interfaces.transport import Headers, HttpRequest
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.models.call import CONVERSATIONS, Call, Operation
from apikeyrouter.infrastructure.adapters.base import WireAdapter
from apikeyrouter.infrastructure.adapters.openai_adapter import OpenAIAdapter
from apikeyrouter.infrastructure.catalogue.names import is_open_model, makers_of
from apikeyrouter.infrastructure.catalogue.provider_row import KEYLESS, ProviderRow, Quirk
from apikeyrouter.wire.codec import MalformedError
from apikeyrouter.wire.losses import Losses

__all__ = ["CompatibleAdapter"]

_HINTS = frozenset({"user", "store", "metadata", "service_tier", "prompt_cache_key", "safety_identifier"})
"""Members whose absence changes no answer; where a server rejects them they are always left out, and reported."""

_NEEDLES = {
    Quirk.NoStreamOptions: b'"stream_options"',
    Quirk.MaxTokens: b'"max_completion_tokens"',
    Quirk.NoDeveloperRole: b'"developer"',
    Quirk.NoParallelToolCalls: b'"parallel_tool_calls"',
    Quirk.NoJsonSchema: b'"json_schema"',
    Quirk.TextOnly: b'"type"',
    Quirk.AssistantPrefix: b'"assistant"',
    Quirk.LastIsUser: b'"assistant"',
}
"""What stands in a body that a quirk is about; where it is absent, nothing needs to be parsed."""

_EMPTY = (b"null", b"{}", b"[]", b"false")
_DEFAULTS = {"n": b"1", "frequency_penalty": b"0", "presence_penalty": b"0", "top_logprobs": b"0"}
"""What says no more than an absent member."""

_Members = dict[str, msgspec.Raw]
_decode_members = msgspec.json.Decoder(_Members).decode
_encode = msgspec.json.encode


class CompatibleAdapter(OpenAIAdapter):
    """Serves what its row says.

    `base_url`: default the row's, which must then leave nothing open. `claims_all`: serve any model when a request
    names no provider; None: the row's own models, and open models where the row hosts them. Raises ConfigurationError
    for a malformed URL.
    """

    def __init__(self, row: ProviderRow, base_url: str | None = None, *, claims_all: bool | None = None) -> None:
        conversations = tuple(CONVERSATIONS) if any(one in row.operations for one in CONVERSATIONS) else ()
        super().__init__(
            base_url or row.address({}),
            headers=row.headers,
            dialect=row.dialect,
            claims_all=bool(claims_all),
            operations=row.operations,
            capabilities=ProviderCapabilities(
                supports_streaming=row.streaming,
                supports_tools=row.tools,
                supports_images=row.images and Quirk.TextOnly not in row.quirks,
                supports_structured_output=Quirk.NoJsonSchema not in row.quirks,
                operations=tuple(dict.fromkeys((*row.operations, *conversations, Operation.Raw))),
            ),
        )
        self.row = row
        self.native = dict(row.operations)
        self._needles = [(_NEEDLES[quirk], quirk) for quirk in row.quirks]
        self._refused = [(needle := f'"{name}"'.encode(), re.compile(needle + rb"\s*:"), name) for name in row.refuses]
        self._header = row.header.lower().encode()
        self._scheme = f"{row.scheme} ".encode() if row.scheme else b""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.row.id!r}, {self.base_url!r})"

    def claims(self, model: str) -> bool:
        """Whether the model is one of the provider's own, or an open one that such a host may have."""
        if self._claims_all or model.startswith(self.row.makes):
            return True
        return self.row.hosts_open and not makers_of(model) and is_open_model(model)

    def credentials(self, secret: Secret) -> Headers:
        """The key where the row says; nothing for a server that wants none."""
        material = secret.reveal_bytes()
        if self.row.keyless and material == KEYLESS.encode():
            return []
        return [(self._header, self._scheme + material)]

    def native_body(self, call: Call) -> bytes:
        """As OpenAI's; streams are asked for their usage unless the server refuses that."""
        if Quirk.NoStreamOptions in self.row.quirks:
            return WireAdapter.native_body(self, call)
        return super().native_body(call)

    def prepared(self, request: HttpRequest, call: Call) -> HttpRequest:
        """The request with the quirks applied. Raises UntranslatableError for what the server is known to refuse."""
        if call.operation not in CONVERSATIONS or not (self._needles or self._refused):
            return request
        if self.passes(call.operation) and call.operation is not Operation.Chat:
            return request
        body = request.body
        quirks = {quirk for needle, quirk in self._needles if needle in body}
        if quirks & _ABOUT_LAST and not _may_end_with_a_reply(call):
            quirks -= _ABOUT_LAST
        refused = [name for needle, member, name in self._refused if needle in body and member.search(body)]
        if quirks or refused:
            losses = Losses(self.row.id, may_drop=call.drop_params)
            request.body = _edited(body, quirks, refused, losses)
            losses.check()
            request.dropped = (*request.dropped, *(one for one in losses.dropped if one not in request.dropped))
        return request

    def build_models_request(self, secret: Secret, *, base_url: str | None = None) -> HttpRequest:
        """See `ProviderAdapter.build_models_request`. A provider without a list is asked all the same: it answers that
        it has none, or that it does not know the key."""
        headers = [*self.credentials(secret), *self._headers]
        return HttpRequest("GET", f"{base_url or self.base_url}/{self.row.models_path or 'models'}", headers)

    def read_models(self, body: bytes) -> Sequence[dict[str, Any]]:
        """See `ProviderAdapter.read_models`. Some servers send the bare list."""
        if body.lstrip()[:1] == b"[":
            body = b'{"data":' + body + b"}"
        return super().read_models(body)


def _may_end_with_a_reply(call: Call) -> bool:
    """False when the last message is certainly not the assistant's."""
    messages = call.peek.messages if call.operation is Operation.Chat else None
    return not messages or b'"assistant"' in bytes(messages[-1])


def _edited(body: bytes, quirks: set[Quirk], refused: list[str], losses: Losses) -> bytes:
    """The body without what the server refuses. What may not be lost is in `losses`."""
    try:
        members = _decode_members(body)
    except msgspec.MsgspecError:
        raise MalformedError("The request body is not a JSON object.") from None
    before = dict(members)
    for name in refused:
        _refuse(members, name, losses)
    if Quirk.NoStreamOptions in quirks and members.pop("stream_options", None) is not None:
        losses.harmless("stream_options")
    if Quirk.MaxTokens in quirks:
        limit = members.pop("max_completion_tokens", None)
        if limit is not None and bytes(limit) != b"null":
            members["max_tokens"] = limit
    if Quirk.NoParallelToolCalls in quirks:
        wish = members.pop("parallel_tool_calls", None)
        if wish is not None and bytes(wish) == b"false":
            losses.parameter("parallel_tool_calls", "this provider cannot be kept from calling several tools")
    if Quirk.NoJsonSchema in quirks and b'"json_schema"' in bytes(members.get("response_format", b"")):
        members.pop("response_format")
        losses.parameter("response_format", "this provider takes no JSON schema")
    if "messages" in members and quirks & _ABOUT_MESSAGES:
        _edit_messages(members, quirks, losses)
    return body if members == before else _encode(members)


_ABOUT_LAST = frozenset({Quirk.AssistantPrefix, Quirk.LastIsUser})
_ABOUT_MESSAGES = frozenset({Quirk.NoDeveloperRole, Quirk.TextOnly, Quirk.AssistantPrefix, Quirk.LastIsUser})


def _refuse(members: _Members, name: str, losses: Losses) -> None:
    value = members.pop(name, None)
    if value is None or bytes(value) in _EMPTY or bytes(value) == _DEFAULTS.get(name):
        return
    if name in _HINTS:
        losses.harmless(name)
    else:
        losses.parameter(name, "this provider rejects it")


def _edit_messages(members: _Members, quirks: set[Quirk], losses: Losses) -> None:
    try:
        messages = msgspec.json.decode(members["messages"], type=list[_Members])
    except msgspec.MsgspecError:
        raise MalformedError("messages: expected a list of objects.") from None
    changed = False
    for number, message in enumerate(messages):
        if Quirk.NoDeveloperRole in quirks and bytes(message.get("role", b"")) == b'"developer"':
            message["role"] = msgspec.Raw(b'"system"')
            changed = True
        if Quirk.TextOnly in quirks and bytes(message.get("content", b""))[:1] == b"[":
            message["content"] = _joined(message["content"], number, losses)
            changed = True
    last = messages[-1] if messages else {}
    if bytes(last.get("role", b"")) == b'"assistant"':
        if Quirk.LastIsUser in quirks:
            losses.content(f"messages[{len(messages) - 1}]", "the last message must be the user's or a tool's here")
        if Quirk.AssistantPrefix in quirks and "prefix" not in last and "tool_calls" not in last:
            last["prefix"] = msgspec.Raw(b"true")
            changed = True
    if changed:
        members["messages"] = msgspec.Raw(_encode(messages))


def _joined(content: msgspec.Raw, number: int, losses: Losses) -> msgspec.Raw:
    """A list of text parts as one string."""
    texts = []
    for place, part in enumerate(msgspec.json.decode(content)):
        if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        else:
            losses.content(f"messages[{number}].content[{place}]", "this provider takes text only")
    return msgspec.Raw(_encode("\n".join(texts)))
