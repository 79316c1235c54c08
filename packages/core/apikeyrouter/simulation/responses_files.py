"""`/v1/files` and `/v1/batches` of the simulated provider, as far as a batch needs them.

Main entry: `FileDesk.handler`. A batch is worked off when it is made; its `metadata` may say `sim_delay_s`, seconds
until it shows itself as completed. Lines that fail go to an error file, as with the real thing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import Message
from typing import TYPE_CHECKING, Any

import msgspec

from apikeyrouter.simulation.accounts import Account
from apikeyrouter.simulation.api_errors import ApiError, Headers, invalid
from apikeyrouter.simulation.chat import answer_chat
from apikeyrouter.simulation.connection import Scope
from apikeyrouter.simulation.delivery import Reply
from apikeyrouter.simulation.embeddings import answer_embedding
from apikeyrouter.simulation.requests import ChatRequest, EmbeddingRequest, decode
from apikeyrouter.simulation.responses_request import decoded

if TYPE_CHECKING:
    from apikeyrouter.simulation.asgi import SimulatedProvider
    from apikeyrouter.simulation.formats import Handler

__all__ = ["FileDesk", "FileShelf"]

_FILES_MAX = 1_000
_DELAY = "sim_delay_s"
_LATER = ("completed_at", "output_file_id", "error_file_id", "usage")
_Respond = Callable[[Account, bytes, Headers], tuple[dict[str, Any], dict[str, Any]]]


@dataclass(slots=True)
class _Batch:
    """`ready_s`: monotonic."""

    document: dict[str, Any]
    ready_s: float


@dataclass(slots=True)
class FileShelf:
    """Files and batches of one account."""

    files: dict[str, tuple[dict[str, Any], bytes]] = field(default_factory=dict)
    batches: dict[str, _Batch] = field(default_factory=dict)


class FileDesk:
    """Answers about files and batches. `respond`: answers a line for `/v1/responses`."""

    def __init__(self, provider: SimulatedProvider, shelf: Callable[[Account], FileShelf], respond: _Respond) -> None:
        self._provider = provider
        self._shelf = shelf
        self._respond = respond

    def handler(self, method: str, path: str, scope: Scope) -> Handler:
        """Who answers this path. Raises ApiError 404."""
        kind, thing_id, verb = (*path.removeprefix("/v1/").split("/"), "", "")[:3]
        wanted = (method, kind, bool(thing_id), verb)
        match wanted:
            case ("POST", "files", False, _):
                return lambda account, body, headers: self._upload(account, body, headers, scope)
            case ("POST", "batches", False, _):
                return self._start
            case ("GET", _, False, _):
                return lambda account, _body, headers: self._list(account, kind, headers)
            case ("GET", "files", True, "" | "content") | ("DELETE", "files", True, ""):
                return lambda account, _body, headers: self._file(account, thing_id, verb or method, headers)
            case ("GET", "batches", True, "") | ("POST", "batches", True, "cancel"):
                return lambda account, _body, headers: self._batch(account, thing_id, verb, headers)
            case _:
                raise invalid(f"Invalid URL ({method} {path})", status=404)

    # -- files ------------------------------------------------------------------------------------------------------

    def _upload(self, account: Account, body: bytes, headers: Headers, scope: Scope) -> Reply:
        parts = _multipart(scope, body)
        if "file" not in parts or "purpose" not in parts:
            missing = "file" if "file" not in parts else "purpose"
            raise invalid(f"Missing required parameter: '{missing}'.", missing, "missing_required_parameter")
        name, data = parts["file"]
        return Reply(headers, msgspec.json.encode(self._keep(account, name, data, parts["purpose"][1].decode())))

    def _keep(self, account: Account, name: str, data: bytes, purpose: str) -> dict[str, Any]:
        shelf = self._shelf(account)
        file_id = f"file-{self._provider.new_id('file')[:24]}"
        document = {
            "id": file_id,
            "object": "file",
            "bytes": len(data),
            "created_at": self._provider.created_s(),
            "filename": name,
            "purpose": purpose,
            "status": "processed",
        }
        shelf.files[file_id] = (document, data)
        if len(shelf.files) > _FILES_MAX:
            del shelf.files[next(iter(shelf.files))]
        return document

    def _list(self, account: Account, kind: str, headers: Headers) -> Reply:
        shelf = self._shelf(account)
        if kind == "files":
            data = [document for document, _ in shelf.files.values()]
        else:
            data = [self._shown(batch) for batch in shelf.batches.values()]
        return Reply(headers, msgspec.json.encode({"object": "list", "data": data, "has_more": False}))

    def _file(self, account: Account, file_id: str, verb: str, headers: Headers) -> Reply:
        files = self._shelf(account).files
        found = files.get(file_id)
        if found is None:
            raise invalid(f"No such File object: {file_id}", "id", status=404)
        document, data = found
        if verb == "content":
            return Reply(headers, data)
        if verb == "DELETE":
            del files[file_id]
            document = {"id": file_id, "object": "file", "deleted": True}
        return Reply(headers, msgspec.json.encode(document))

    # -- batches ----------------------------------------------------------------------------------------------------

    def _start(self, account: Account, body: bytes, headers: Headers) -> Reply:
        members = decoded(body)
        file_id, endpoint = str(members.get("input_file_id")), str(members.get("endpoint"))
        found = self._shelf(account).files.get(file_id)
        if found is None:
            raise invalid(f"No such File object: {file_id}", "input_file_id")
        done: list[bytes] = []
        failed: list[bytes] = []
        replies = [self._work(account, endpoint, line, done, failed) for line in found[1].splitlines() if line.strip()]
        metadata = members.get("metadata") or {}
        provider = self._provider
        created = provider.created_s()
        delay_s = float(metadata.get(_DELAY, 0))
        document = {
            "id": f"batch_{provider.new_id('batch')[:24]}",
            "object": "batch",
            "endpoint": endpoint,
            "input_file_id": file_id,
            "completion_window": members.get("completion_window", "24h"),
            "status": "completed",
            "created_at": created,
            "completed_at": created + int(delay_s),
            "output_file_id": self._results(account, "output", done),
            "error_file_id": self._results(account, "error", failed),
            "model": next((one["model"] for one in replies if "model" in one), None),
            "usage": _usage_of(replies),
            "request_counts": {"total": len(done) + len(failed), "completed": len(done), "failed": len(failed)},
            "metadata": metadata,
        }
        batch = _Batch(document, provider.clock.monotonic_s() + delay_s)
        self._shelf(account).batches[document["id"]] = batch
        return Reply(headers, msgspec.json.encode(self._shown(batch)))

    def _results(self, account: Account, what: str, lines: list[bytes]) -> str | None:
        if not lines:
            return None
        kept: str = self._keep(account, f"batch_{what}.jsonl", b"\n".join(lines) + b"\n", "batch_output")["id"]
        return kept

    def _work(
        self, account: Account, endpoint: str, line: bytes, done: list[bytes], failed: list[bytes]
    ) -> dict[str, Any]:
        """The reply, or the error."""
        status, custom_id = 200, None
        try:
            task = decoded(line)
            custom_id = task.get("custom_id")
            reply = self._answered(account, endpoint, msgspec.json.encode(task.get("body")))
        except ApiError as error:
            status, reply = error.status, error.body
        request_id = self._provider.new_id("req")
        response = {"status_code": status, "request_id": request_id, "body": reply}
        told = {"id": f"batch_req_{request_id}", "custom_id": custom_id, "response": response, "error": None}
        (done if status == 200 else failed).append(msgspec.json.encode(told))
        return reply

    def _answered(self, account: Account, endpoint: str, body: bytes) -> dict[str, Any]:
        provider = self._provider
        match endpoint:
            case "/v1/chat/completions":
                reply_id = f"chatcmpl-{provider.new_id('chat')[:29]}"
                return answer_chat(decode(body, ChatRequest), provider.config, reply_id, provider.created_s()).whole()
            case "/v1/embeddings":
                return answer_embedding(decode(body, EmbeddingRequest), provider.config)
            case "/v1/responses":
                return self._respond(account, body, [])[0]
            case _:
                raise invalid(f"Invalid value: '{endpoint}'.", "endpoint", "invalid_value")

    def _batch(self, account: Account, batch_id: str, verb: str, headers: Headers) -> Reply:
        found = self._shelf(account).batches.get(batch_id)
        if found is None:
            raise invalid(f"No batch found with id '{batch_id}'.", status=404)
        if verb == "cancel":
            if self._ready(found):
                raise invalid(f"Cannot cancel a batch with status '{found.document['status']}'.", status=409)
            found.document |= {"status": "cancelled", **dict.fromkeys(_LATER)}
            found.ready_s = 0.0
        return Reply(headers, msgspec.json.encode(self._shown(found)))

    def _ready(self, batch: _Batch) -> bool:
        return self._provider.clock.monotonic_s() >= batch.ready_s

    def _shown(self, batch: _Batch) -> dict[str, Any]:
        if self._ready(batch):
            return batch.document
        counts = {**batch.document["request_counts"], "completed": 0, "failed": 0}
        return {**batch.document, "status": "in_progress", "request_counts": counts, **dict.fromkeys(_LATER)}


def _usage_of(replies: list[dict[str, Any]]) -> dict[str, Any]:
    """What all lines used, in the batch object's words."""
    told = [one.get("usage") or {} for one in replies]
    came = sum(one.get("prompt_tokens", one.get("input_tokens", 0)) for one in told)
    went = sum(one.get("completion_tokens", one.get("output_tokens", 0)) for one in told)
    return {"input_tokens": came, "output_tokens": went, "total_tokens": came + went}


def _multipart(scope: Scope, body: bytes) -> dict[str, tuple[str, bytes]]:
    """Parts of a form by name: (file name, data). Raises ApiError 400."""
    head = Message()
    head["content-type"] = next((v.decode("latin-1") for n, v in scope["headers"] if n == b"content-type"), "")
    boundary = head.get_param("boundary")
    if not isinstance(boundary, str):
        raise invalid("The body must be multipart/form-data.")
    found: dict[str, tuple[str, bytes]] = {}
    for piece in body.split(b"--" + boundary.encode("latin-1"))[1:-1]:
        lines, _, data = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        part = Message()
        for line in lines.decode("utf-8", "replace").split("\r\n"):
            name, _, value = line.partition(":")
            part[name] = value.strip()
        field_name = part.get_param("name", header="content-disposition")
        if isinstance(field_name, str):
            found[field_name] = (part.get_filename() or "", data.removesuffix(b"\r\n"))
    return found
