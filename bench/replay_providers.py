"""Which adapter serves a recorded exchange, and which of our operations its path is.

Main entry: `planned`. Nothing here knows a recording: host and path say it, as they would to a user who configures the
provider. A host that the catalogue has is served by its row; one that it has not, by the adapter for any server that
speaks OpenAI's format; a path that is none of our operations goes through as it is (`Operation.Raw`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from msgspec.structs import replace

from apikeyrouter.domain.interfaces.provider_adapter import ProviderAdapter
from apikeyrouter.domain.models.call import CONVERSATIONS, Operation, Wire
from apikeyrouter.infrastructure.adapters.anthropic_adapter import AnthropicAdapter
from apikeyrouter.infrastructure.adapters.azure_adapter import AzureAdapter
from apikeyrouter.infrastructure.adapters.bedrock_adapter import BedrockAdapter
from apikeyrouter.infrastructure.adapters.cohere_adapter import CohereAdapter
from apikeyrouter.infrastructure.adapters.compatible import CompatibleAdapter
from apikeyrouter.infrastructure.adapters.gemini_adapter import GeminiAdapter, VertexAdapter
from apikeyrouter.infrastructure.adapters.openai_adapter import OpenAIAdapter
from apikeyrouter.infrastructure.catalogue.provider_row import ProviderRow
from apikeyrouter.infrastructure.catalogue.providers import rows

__all__ = ["Plan", "planned"]

_VERTEX = re.compile(r"^/?(.*/projects/([^/]+)/locations/([^/]+))/publishers/google/models/([^/:]+):(\w+)$")
_GEMINI = re.compile(r"^/?(.*)/models/([^/:]+):(\w+)$")
_AZURE = re.compile(r"^/?(?:(.*)/)?openai/deployments/([^/]+)/(.+)$")
_BEDROCK = re.compile(r"^/?(?:(.*)/)?model/(.+)/(converse|converse-stream|invoke|invoke-with-response-stream)$")
_VERBS = {
    "generateContent": Operation.Gemini, "streamGenerateContent": Operation.Gemini,
    "batchEmbedContents": Operation.Embeddings, "countTokens": Operation.GeminiCountTokens,
    "embedContent": Operation.GeminiEmbed,
}  # fmt: skip
_BY_LENGTH = sorted((one for one in Operation if "/" in one.value or one.value.isalpha()), key=lambda o: -len(o.value))


@dataclass(frozen=True, slots=True)
class Plan:
    """`name`: of the adapter or the catalogue's row. `adapter`: made for an origin that stands in for
    `https://HOST`. `operation`: the recorded one; Raw where no operation of ours has the path, or where the provider's
    format is no client format; OpenAI-compatible adapters get it as their only one, so that other formats are
    translated into and out of the recorded one. `wire`: the format of the reply, None for others than conversations.
    `dialect`: for `replay_reading`. `path`: below the adapter's base URL, of a raw call."""

    name: str
    adapter: Callable[[str], ProviderAdapter]
    operation: Operation
    wire: Wire | None
    model: str
    dialect: str
    path: str = ""


_DIALECTS = {
    Wire.Chat: "chat", Wire.Responses: "responses", Wire.Messages: "messages", Wire.Gemini: "gemini",
    Wire.Converse: "converse", Wire.Cohere: "cohere",
}  # fmt: skip


def planned(exchange: Mapping[str, Any]) -> Plan:
    """How this exchange is asked for again."""
    path, host = unquote(exchange["path"]), exchange["host"].lower()
    request = exchange["request"] if isinstance(exchange["request"], dict) else {}
    model = str(request.get("model") or "")
    found = _google(path) or _azure(exchange, path, host, model) or _bedrock(path) or _cohere(path, host, model)
    if found is not None:
        return found
    if path.endswith("/messages"):
        base = path.removesuffix("/messages").strip("/")
        return Plan(
            "anthropic", lambda origin: AnthropicAdapter(f"{origin}/{base}"), Operation.Messages, Wire.Messages, model,
            "messages",
        )  # fmt: skip
    return _compatible(path, host, model)


def _google(path: str) -> Plan | None:
    if vertex := _VERTEX.match(path):
        root, project, location, model, verb = vertex.groups()
        return _google_plan(
            "vertex", lambda origin: VertexAdapter(project, location, base_url=f"{origin}/{root}"), model, verb
        )
    if gemini := _GEMINI.match(path):
        root, model, verb = gemini.groups()
        return _google_plan("gemini", lambda origin: GeminiAdapter(f"{origin}/{root}"), model, verb)
    return None


def _google_plan(name: str, adapter: Callable[[str], ProviderAdapter], model: str, verb: str) -> Plan:
    operation = _VERBS.get(verb, Operation.Raw)
    talks = operation is Operation.Gemini
    return Plan(
        name, adapter, operation, Wire.Gemini if talks else None, model, "gemini" if talks else "other",
        f"models/{model}:{verb}" if operation is Operation.Raw else "",
    )  # fmt: skip


def _azure(exchange: Mapping[str, Any], path: str, host: str, model: str) -> Plan | None:
    version = re.search(r"api-version=([^&]+)", exchange.get("query") or "")
    told = version.group(1) if version else None
    if found := _AZURE.match(path):
        root, deployment, rest = found.groups()
        operation = _operation(rest) or Operation.Raw
        return _openai_plan(
            "azure",
            lambda origin: AzureAdapter(
                f"{origin}/{root}" if root else origin, api_version=told or "2024-10-21", operations=[operation]
            ),
            operation, deployment, f"deployments/{deployment}/{rest}",
        )  # fmt: skip
    if host.endswith(("openai.azure.com", "services.ai.azure.com")) and "/openai/v1/" in path:
        rest = path.partition("/openai/v1/")[2]
        return _openai_plan(
            "azure",
            lambda origin: AzureAdapter(origin, api_version=told, operations=[_operation(rest) or Operation.Chat]),
            _operation(rest) or Operation.Raw,
            model,
            rest,
        )
    return None


def _bedrock(path: str) -> Plan | None:
    found = _BEDROCK.match(path)
    if found is None:
        return None
    root, model, verb = found.groups()
    talks = verb == "converse"
    return Plan(
        "bedrock",
        lambda origin: BedrockAdapter("us-east-1", base_url=f"{origin}/{root}" if root else origin),
        Operation.Raw,
        Wire.Converse if talks else None,
        model,
        "converse" if talks else "other",
        path.lstrip("/").removeprefix(f"{root}/"),
    )


def _cohere(path: str, host: str, model: str) -> Plan | None:
    """Cohere's own endpoints, at its host or behind a gateway's `/v2/chat`."""
    told = re.match(r"/?(.*?)/?(v[12]/(?:chat|embed|rerank|generate|classify))$", path)
    if told is None or ("cohere." not in host and told.group(2) != "v2/chat"):
        return None
    root, below = told.groups()
    talks = below == "v2/chat"
    operation = Operation.Embeddings if below == "v2/embed" else Operation.Raw
    return Plan(
        "cohere", lambda origin: CohereAdapter(f"{origin}/{root}" if root else origin), operation,
        Wire.Cohere if talks else None, model, "cohere" if talks else "other",
        below if operation is Operation.Raw else "",
    )  # fmt: skip


def _compatible(path: str, host: str, model: str) -> Plan:
    """By the catalogue's row of that host."""
    row = _row(host, path)
    operation = _operation(path)
    if host.endswith("api.openai.com") and operation is not None:
        return _openai(path, operation, model)
    if row is not None and operation is None:
        for served, below in row.operations.items():
            if path.endswith("/" + below) and path.removesuffix("/" + below).strip("/") == _path(row):
                operation = served
    own = row.operations.get(operation) if row is not None and operation is not None else None
    if operation is not None and own is None:  # the host has more than its row says
        row = None
    below = own or (operation.value if operation is not None else path.strip("/"))
    base = path.strip("/").removesuffix(below).strip("/")
    used = row or ProviderRow(id="any", base_url="http://any.invalid")
    if operation is not None:
        used = replace(used, operations={operation: below})
    return _openai_plan(
        row.id if row is not None else "(any, compatible)",
        lambda origin: CompatibleAdapter(used, f"{origin}/{base}" if base else origin, claims_all=True),
        operation or Operation.Raw, model, below,
    )  # fmt: skip


def _openai(path: str, operation: Operation, model: str) -> Plan:
    base = path.strip("/").removesuffix(operation.value).strip("/")
    return _openai_plan(
        "openai", lambda origin: OpenAIAdapter(f"{origin}/{base}", operations=[operation]), operation, model, ""
    )


def _openai_plan(
    name: str, adapter: Callable[[str], ProviderAdapter], operation: Operation, model: str, path: str
) -> Plan:
    wire = CONVERSATIONS.get(operation)
    dialect = _DIALECTS[wire] if wire else "chat" if operation is Operation.Completions else "other"
    return Plan(name, adapter, operation, wire, model, dialect, path if operation is Operation.Raw else "")


def _operation(path: str) -> Operation | None:
    """The operation whose value the path ends with."""
    return next(
        (one for one in _BY_LENGTH if one is not Operation.Raw and ("/" + path).endswith("/" + one.value)), None
    )


def _path(row: ProviderRow) -> str:
    return urlsplit(row.base_url).path.strip("/")


def _row(host: str, path: str) -> ProviderRow | None:
    """The row of a host; of those on this machine, that of the port; of those whose host is the user's own, that of
    the path."""
    name, _, port = host.partition(":")
    for row in rows().values():
        below = row.base_url.rpartition("}")[2]
        if "{" in row.base_url:
            if below.count("/") > 2 and path.startswith(below):
                return row
            continue
        address = urlsplit(row.base_url)
        if address.hostname in ("127.0.0.1", "localhost"):
            if name in ("127.0.0.1", "localhost") and str(address.port) == port and row.id != "apikeyrouter":
                return row
        elif address.hostname and address.hostname.split(".")[-2:] == name.split(".")[-2:]:
            return row
    return None
