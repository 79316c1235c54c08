"""OpenAI's stateful endpoints as the simulated provider speaks them: `/v1/responses`, `/v1/files`, `/v1/batches`.

Main entry: `ResponsesFormat`; see `formats.Format`. What is made lives in one account: another one's key finds nothing
there (404), and cannot go on from it (400 `previous_response_not_found`, as recorded from the real one).
Laws: admission, faults and limits are those of chat; an account keeps at most `_KEPT_MAX` things of a kind.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import msgspec

from apikeyrouter.simulation.accounts import Account
from apikeyrouter.simulation.api_errors import ApiError, Headers, invalid
from apikeyrouter.simulation.chat import answer_chat
from apikeyrouter.simulation.connection import Scope
from apikeyrouter.simulation.delivery import Reply
from apikeyrouter.simulation.messages import rough_tokens
from apikeyrouter.simulation.openai_format import OpenAIFormat
from apikeyrouter.simulation.responses_files import FileDesk, FileShelf
from apikeyrouter.simulation.responses_reply import response_events, response_of
from apikeyrouter.simulation.responses_request import decoded, read_response_request

if TYPE_CHECKING:
    from apikeyrouter.simulation.asgi import SimulatedProvider
    from apikeyrouter.simulation.formats import Handler

__all__ = ["ResponsesFormat"]

_RESPONSES, _FILES, _BATCHES = "/v1/responses", "/v1/files", "/v1/batches"
_ENDS = (b"event: response.completed", b"event: response.incomplete")
_KEPT_MAX = 1_000


@dataclass(slots=True)
class _Kept:
    """A stored response. `messages`: the conversation up to and with it."""

    response: dict[str, Any]
    items: list[dict[str, Any]]
    messages: list[dict[str, Any]]


@dataclass(slots=True)
class _Shelf:
    """What one account keeps."""

    responses: dict[str, _Kept] = field(default_factory=dict)
    files: FileShelf = field(default_factory=FileShelf)


class ResponsesFormat(OpenAIFormat):
    """See `formats.Format`."""

    def __init__(self) -> None:
        self._shelves: WeakKeyDictionary[Account, _Shelf] = WeakKeyDictionary()

    def serves(self, scope: Scope) -> bool:
        """By the path."""
        path: str = scope["path"]
        return path.startswith((_RESPONSES, _FILES, _BATCHES))

    def handler(self, provider: SimulatedProvider, scope: Scope) -> Handler:
        """Who answers this path."""
        method, path = scope["method"], scope["path"].rstrip("/")
        desk = _Desk(provider, self._shelves)
        if not path.startswith(_RESPONSES):
            files = FileDesk(provider, lambda account: desk.shelf(account).files, desk.answer)
            return files.handler(method, path, scope)
        thing_id, _, verb = path.removeprefix(_RESPONSES).lstrip("/").partition("/")
        if method == "POST" and not thing_id:
            return desk.respond
        wanted = {("GET", ""): "show", ("DELETE", ""): "delete", ("GET", "input_items"): "items",
                  ("POST", "cancel"): "cancel"}.get((method, verb))  # fmt: skip
        if wanted is None or not thing_id:
            raise invalid(f"Invalid URL ({method} {path})", status=404)
        return lambda account, _body, headers: desk.about(account, thing_id, wanted, headers)

    def error_event(self, error: ApiError) -> bytes:
        """An error inside a stream."""
        told = error.body["error"]
        members = {**told, "type": "error", "sequence_number": 0, "error": told}
        return b"event: error\ndata: " + msgspec.json.encode(members) + b"\n\n"

    def is_end(self, event: bytes) -> bool:
        """Whether it tells the whole response."""
        return event.startswith(_ENDS)

    def huge_frame(self, *, streams: bool) -> tuple[bytes, bytes]:
        """A response that is far too large."""
        head = msgspec.json.encode({"id": "resp_huge", "object": "response", "output": []})[:-1] + b',"padding":"'
        return (b"event: response.created\ndata: " + head, b'"}\n\n') if streams else (head, b'"}')


class _Desk:
    """Answers about responses."""

    __slots__ = ("_provider", "_shelves")

    def __init__(self, provider: SimulatedProvider, shelves: WeakKeyDictionary[Account, _Shelf]) -> None:
        self._provider = provider
        self._shelves = shelves

    def shelf(self, account: Account) -> _Shelf:
        """What the account keeps."""
        return self._shelves.setdefault(account, _Shelf())

    def respond(self, account: Account, body: bytes, headers: Headers) -> Reply:
        """`POST /v1/responses`."""
        stream = bool(decoded(body).get("stream"))
        response, usage = self.answer(account, body, headers)
        if stream:
            return Reply(headers, events=response_events(response), usage=usage)
        if response["background"]:
            queued = {**response, "status": "queued", "output": [], "usage": None, "completed_at": None}
            return Reply(headers, msgspec.json.encode(queued), usage=usage)
        return Reply(headers, msgspec.json.encode(response), usage=usage)

    def answer(self, account: Account, body: bytes, headers: Headers) -> tuple[dict[str, Any], dict[str, Any]]:
        """The response and its usage as chat counts it. Admits and stores. Raises ApiError."""
        provider, kept = self._provider, self.shelf(account).responses
        before: list[dict[str, Any]] = []
        earlier = decoded(body).get("previous_response_id")
        if earlier is not None:
            if earlier not in kept:
                raise invalid(
                    f"Previous response with id '{earlier}' not found.",
                    "previous_response_id",
                    "previous_response_not_found",
                )
            before = kept[earlier].messages
        request = read_response_request(body, account, before)
        tokens = rough_tokens(request.chat, len(body))
        now_s = provider.clock.monotonic_s()
        account.admit(request.chat.model, tokens, now_s, count_refused=provider.config.failed_requests_count)
        headers += account.headers()
        reply = answer_chat(request.chat, provider.config, f"resp_{provider.new_id('resp')}", provider.created_s())
        cached = account.cached_tokens(reply.prefix, reply.usage["prompt_tokens"])
        reply.usage["prompt_tokens_details"]["cached_tokens"] = cached
        response = response_of(request, reply, account)
        if request.keeps:
            said: dict[str, Any] = {"role": "assistant", "content": reply.answers[0].text}
            if reply.answers[0].tool_calls:
                said["tool_calls"] = [call.wire() for call in reply.answers[0].tool_calls]
            kept[reply.reply_id] = _Kept(response, request.items, [*before, *request.messages, said])
            if len(kept) > _KEPT_MAX:
                del kept[next(iter(kept))]
        return response, reply.usage

    def about(self, account: Account, thing_id: str, verb: str, headers: Headers) -> Reply:
        """A stored response: shown, deleted, cancelled, or its input."""
        kept = self.shelf(account).responses
        found = kept.get(thing_id)
        if found is None:
            raise invalid(f"Response with id '{thing_id}' not found.", status=404)
        body: dict[str, Any] = found.response
        match verb:
            case "delete":
                del kept[thing_id]
                body = {"id": thing_id, "object": "response.deleted", "deleted": True}
            case "items":
                data = [{"id": f"item_{at}", **item} for at, item in enumerate(found.items)]
                body = {"object": "list", "data": data[::-1], "has_more": False}
            case "cancel" if not body["background"]:
                raise invalid("Only background responses can be cancelled.")
            case "cancel":
                body["status"] = "cancelled"
            case _:
                pass
        return Reply(headers, msgspec.json.encode(body))
