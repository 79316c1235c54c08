"""Small servers that behave like providers of formats that only providers speak, over real HTTP.

Main entries: `FakeBedrock` (checks signatures with botocore, streams binary frames) and `FakeCohere`. What they say
follows from what they are asked (`reply_to`): weather calls tools, results are told, "think" gives thoughts.
Law: a server accepts what the real one accepts as far as it is documented, and refuses the rest with its errors.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.wire.codec import MalformedError
from apikeyrouter.wire.facts import Answer, Ask, Choice, Part, Reasoning, Role, Stop, Text, ToolCall, ToolResult
from apikeyrouter.wire.losses import Losses
from tests.support.cohere_side import CohereSide, sse
from tests.support.converse_side import ConverseSide, event, exception
from tests.support.upstream import Seen
from tests.support.wire_values import events_of

__all__ = ["CITIES", "FakeBedrock", "FakeCohere", "NativeServer", "reply_to"]

CITIES = ("Paris", "Rome")
USAGE = Usage(input_tokens=100, output_tokens=20, cached_input_tokens=30, cache_write_tokens=10)


def reply_to(ask: Ask, origin: str) -> Answer:
    """What a model says to this."""
    last = ask.turns[-1]
    if last.role is Role.Tool:
        told = [one.text for part in last.parts if isinstance(part, ToolResult) for one in part.parts
                if isinstance(one, Text)]  # fmt: skip
        return Answer("reply-1", "", [Choice([Text(f"It is {' and '.join(told)}.")], Stop.End)], USAGE)
    text = " ".join(part.text for part in last.parts if isinstance(part, Text))
    parts: list[Part] = [Reasoning("Let me see.", "c2lnbmF0dXJl", origin=origin)] if "think" in text else []
    if ask.tools and "weather" in text:
        parts += [
            ToolCall(f"call_{n}", ask.tools[0].name, json.dumps({"city": city}))
            for n, city in enumerate(one for one in CITIES if one in text)
        ]
        return Answer("reply-1", "", [Choice(parts, Stop.Tools)], USAGE)
    if ask.max_tokens == 1:
        return Answer("reply-1", "", [Choice([Text("You")], Stop.Length)], USAGE)
    return Answer("reply-1", "", [Choice([*parts, Text(f"You said: {text}")], Stop.End)], USAGE)


class NativeServer:
    """An ASGI application. `seen`: what came. `fails`: by key: (status, headers, body) instead of a reply. `breaks`: by
    key: bytes behind the first part of a stream, which then ends."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.fails: dict[str, tuple[int, dict[str, str], Any]] = {}
        self.breaks: dict[str, bytes] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": f"{message['type']}.complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        query = scope["query_string"].decode()
        target = scope["raw_path"].decode() + (f"?{query}" if query else "")
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        seen = Seen(scope["method"], target, headers, body)
        self.seen.append(seen)
        status, kind, more, pieces = self.answer(seen)
        told = {"content-type": kind, **more}
        head = [(name.encode(), value.encode()) for name, value in told.items()]
        await send({"type": "http.response.start", "status": status, "headers": head})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    def answer(self, seen: Seen) -> tuple[int, str, dict[str, str], list[bytes]]:
        """Status, content type, more headers, and the body in pieces."""
        raise NotImplementedError

    @staticmethod
    def said(status: int, body: Any, **headers: str) -> tuple[int, str, dict[str, str], list[bytes]]:
        """A whole JSON body. Underscores in names of headers stand for dashes."""
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        return status, "application/json", told, [body if isinstance(body, bytes) else json.dumps(body).encode()]

    def streamed(self, side: Any, answer: Answer, key: str) -> list[bytes]:
        """The reply as a stream in pieces, cut at odd places."""
        encoder = side.encoder("", want_usage=True)
        parts = [*map(encoder.encode, events_of(answer)), encoder.finish()]
        if key in self.breaks:
            parts = [*parts[:3], self.breaks[key]]
        whole = b"".join(parts)
        return [whole[at : at + 97] for at in range(0, len(whole), 97)]


class FakeBedrock(NativeServer):
    """`secrets`: secret access keys by id; `tokens`: bearers. `region`: the one that signatures must name."""

    region = "us-east-1"
    side = ConverseSide()

    def __init__(self, secrets: dict[str, str], tokens: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.secrets = secrets
        self.tokens = tokens

    def answer(self, seen: Seen) -> tuple[int, str, dict[str, str], list[bytes]]:
        """As Bedrock's runtime and control plane do."""
        key = self.key_of(seen)
        if not key:
            why = "The security token included in the request is invalid."
            return self.said(403, {"message": why}, x_amzn_errortype="UnrecognizedClientException:http://internal/")
        if key in self.fails:
            status, headers, body = self.fails[key]
            return status, "application/json", headers, [json.dumps(body).encode()]
        if seen.target.startswith("/foundation-models"):
            return self.said(200, {"modelSummaries": MODELS})
        _, _, model, verb = seen.target.split("/")
        try:
            ask = self.side.read_request(seen.body, Losses("", may_drop=False), model=unquote(model), stream=False)
        except MalformedError as fault:
            return self.said(400, {"message": str(fault)}, x_amzn_errortype="ValidationException")
        told = reply_to(ask, "anthropic_messages")
        if verb == "converse":
            return self.said(200, self.side.write_answer(told, ""))
        return 200, "application/vnd.amazon.eventstream", {}, self.streamed(self.side, told, key)

    def key_of(self, seen: Seen) -> str:
        """Who signed, or whose token it is; "" for nobody that is known."""
        given = seen.headers.get("authorization", "")
        if given.startswith("Bearer "):
            return given[7:] if given[7:] in self.tokens else ""
        scope = given.partition("Credential=")[2].partition(",")[0].split("/")
        if len(scope) != 5 or scope[0] not in self.secrets or scope[2:4] != [self.region, "bedrock"]:
            return ""
        names = given.partition("SignedHeaders=")[2].partition(",")[0].split(";")
        if not {"host", "x-amz-date"} <= set(names):
            return ""
        url = f"http://{seen.headers['host']}{seen.target}"
        sent = {name: seen.headers[name] for name in names if name != "host"}
        draft = AWSRequest(seen.method, url, sent, seen.body)
        draft.context["timestamp"] = seen.headers["x-amz-date"]
        token = seen.headers.get("x-amz-security-token")
        signer = SigV4Auth(Credentials(scope[0], self.secrets[scope[0]], token), "bedrock", self.region)
        text = signer.string_to_sign(draft, signer.canonical_request(draft))
        return scope[0] if signer.signature(text, draft) == given.partition("Signature=")[2] else ""


class FakeCohere(NativeServer):
    """`keys`: those that are known."""

    side = CohereSide()

    def __init__(self, *keys: str) -> None:
        super().__init__()
        self.keys = keys

    def answer(self, seen: Seen) -> tuple[int, str, dict[str, str], list[bytes]]:
        """As Cohere's API of version 2 does."""
        if seen.key not in self.keys:
            return self.said(401, {"id": "e-1", "message": "invalid api token"})
        if seen.key in self.fails:
            status, headers, body = self.fails[seen.key]
            return status, "application/json", headers, [json.dumps(body).encode()]
        if seen.target.startswith("/v1/models"):
            return self.said(200, {"models": [{"name": "command-a-03-2025", "endpoints": ["chat"]}]})
        given = seen.json
        if seen.target == "/v2/rerank":
            results = [{"index": n, "relevance_score": 0.5} for n in range(len(given["documents"]))]
            return self.said(200, {"id": "r-1", "results": results, "meta": {"billed_units": {"search_units": 1}}})
        if seen.target == "/v2/embed":
            vectors = [[float(len(text)), 0.5] for text in given["texts"]]
            meta = {"api_version": {"version": "2"}, "billed_units": {"input_tokens": len(vectors)}}
            return self.said(
                200, {"id": "e-1", "embeddings": {"float": vectors}, "texts": given["texts"], "meta": meta}
            )
        try:
            ask = self.side.read_request(seen.body, Losses("", may_drop=False), model="", stream=False)
        except MalformedError as fault:
            return self.said(400, {"id": "e-1", "message": f"invalid request: {fault}"})
        told = reply_to(ask, "cohere_chat")
        if not given.get("stream"):
            return self.said(200, self.side.write_answer(told, ""))
        return 200, "text/event-stream", {}, self.streamed(self.side, told, seen.key)


COHERE_BROKEN = sse("message-end", delta={"finish_reason": "ERROR", "error": "the model is gone"})

MODELS = [
    {"modelId": "amazon.nova-lite-v1:0", "providerName": "Amazon", "inferenceTypesSupported": ["ON_DEMAND"]},
    {"modelId": "anthropic.claude-sonnet-4-5-20250929-v1:0", "inferenceTypesSupported": ["INFERENCE_PROFILE"]},
    {"modelId": "meta.llama2-13b-v1:0:4k", "inferenceTypesSupported": []},
    {"modelId": "custom.provisioned", "inferenceTypesSupported": ["PROVISIONED"]},
]

THROTTLED = (429, {"x-amzn-ErrorType": "ThrottlingException:http://internal.amazon.com/coral/com.amazon.bedrock/"},
             {"message": "Too many tokens, please wait before trying again."})  # fmt: skip
BROKEN_STREAM = exception("throttlingException", "Too many requests, please wait before trying again.")
ODD_STREAM = event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "x"}})[:-1] + b"?"
