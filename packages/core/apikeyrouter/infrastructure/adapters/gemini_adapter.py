"""Google's models: `GeminiAdapter` at the Gemini API by key, `VertexAdapter` at Vertex AI by bearer token.

generateContent passes as it is, other conversations are translated into it, and so are OpenAI's embeddings. Sources
(read 2026-11-21): https://ai.google.dev/api (paths, `x-goog-api-key`), https://ai.google.dev/api/models (paging),
https://cloud.google.com/vertex-ai/docs/reference/rest (paths, locations).
Laws: a key never stands in a URL, and `key=` of a caller's query is left out; streams are always asked for as
server-sent events.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import msgspec

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.cost.usage_dialects import usage_of_gemini
from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.interfaces.provider_adapter import ProviderCapabilities, StreamReader
from apikeyrouter.domain.interfaces.transport import Headers, HttpRequest
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.models.call import CONVERSATIONS, Call, Operation, Wire
from apikeyrouter.infrastructure.adapters.base import WireAdapter
from apikeyrouter.infrastructure.adapters.vertex_claude import VertexClaude, is_claude
from apikeyrouter.wire.gemini.embeddings import EmbeddingsAsk, batch_body, batch_reply, predict_body, predict_reply
from apikeyrouter.wire.losses import Losses

__all__ = ["GEMINI_BASE_URL", "GeminiAdapter", "VertexAdapter"]

GEMINI_BASE_URL = "https://generativelanguage.googleapis.com/v1beta"

_VERBS = {
    Operation.Gemini: "generateContent",
    Operation.GeminiCountTokens: "countTokens",
    Operation.GeminiEmbed: "embedContent",
}
_OWN_PREFIXES = ("gemini-", "gemma-", "learnlm-", "models/gemini-")
_VERSIONS = ("/v1beta", "/v1", "/v1alpha", "/v1beta1")
_MODELS_A_PAGE = 1000  # the most that ai.google.dev/api/models allows
_NOT_OURS = frozenset(("key", "access_token", "oauth_token", "alt", "$alt"))
_STREAMS = "streamGenerateContent?alt=sse"

_WIDE_HOSTS = {
    "global": "aiplatform.googleapis.com",
    "us": "aiplatform.us.rep.googleapis.com",
    "eu": "aiplatform.eu.rep.googleapis.com",
}
_PROJECTS = ("GOOGLE_CLOUD_PROJECT", "VERTEXAI_PROJECT", "ANTHROPIC_VERTEX_PROJECT_ID")
_PLACE = re.compile(r"/projects/([^/]+)/locations/([^/]+)")
_LOCATIONS = ("GOOGLE_CLOUD_LOCATION", "VERTEXAI_LOCATION", "CLOUD_ML_REGION")


class GeminiAdapter(WireAdapter):
    """Serves models whose names begin with "gemini-" or "gemma-".

    `base_url`: default `GOOGLE_GEMINI_BASE_URL` from the environment (with or without `/v1beta`, as Google's SDK takes
    it without), else Google itself. `headers`: sent with each request. Raises ConfigurationError for a malformed URL.
    """

    def __init__(self, base_url: str | None = None, *, headers: Mapping[str, str] | None = None) -> None:
        given = base_url or os.environ.get("GOOGLE_GEMINI_BASE_URL", "").strip() or GEMINI_BASE_URL
        given = given.rstrip("/")
        served = (*_VERBS, *CONVERSATIONS, Operation.Embeddings, Operation.Raw)
        super().__init__(
            given if given.endswith(_VERSIONS) or "/projects/" in given else given + "/v1beta",
            dialect="gemini",
            wire=Wire.Gemini,
            native={operation: "models/{model}:" + verb for operation, verb in _VERBS.items()},
            headers=headers,
            capabilities=ProviderCapabilities(operations=tuple(dict.fromkeys(served))),
        )

    def credentials(self, secret: Secret) -> Headers:
        """The key, in the header that Google's own SDK uses."""
        return [(b"x-goog-api-key", secret.reveal_bytes())]

    def claims(self, model: str) -> bool:
        """Whether the model's name is one of Google's."""
        return model.startswith(_OWN_PREFIXES)

    def native_body(self, call: Call) -> bytes:
        """The caller's bytes: the model's name is in the path alone."""
        return call.body

    def path_of(self, call: Call) -> str:
        """The path below the base URL, with the verb that the operation and streaming ask for."""
        if call.path:
            return call.path.replace("models/{model}", _model_path(call.model))
        verb = _VERBS.get(call.operation, _VERBS[Operation.Gemini])
        if verb == _VERBS[Operation.Gemini] and call.streams:
            verb = _STREAMS
        return f"{_model_path(call.model)}:{verb}"

    def prepared(self, request: HttpRequest, call: Call) -> HttpRequest:
        """Without credentials in the query, and without a wish for another framing of streams."""
        if not call.query or not self.passes(call.operation):
            return request
        url, _, query = request.url.partition("?")
        kept = [(name, value) for name, value in parse_qsl(query, keep_blank_values=True) if name not in _NOT_OURS]
        if call.operation is Operation.Gemini and call.streams:
            kept.append(("alt", "sse"))
        elif call.operation is Operation.Raw:
            kept += [one for one in parse_qsl(call.query, keep_blank_values=True) if one[0] in ("alt", "$alt")]
        return replace(request, url=f"{url}?{urlencode(kept)}" if kept else url)

    def build_request(self, call: Call, secret: Secret, *, base_url: str | None = None) -> HttpRequest:
        """See `ProviderAdapter.build_request`."""
        if call.operation is not Operation.Embeddings:
            return super().build_request(call, secret, base_url=base_url)
        losses = Losses(self.wire.value, may_drop=call.drop_params)
        ask = EmbeddingsAsk.read(call.body, call.model, losses)
        losses.check()
        verb, body = self.embed(ask)
        headers = [*self.credentials(secret), *self._headers, (b"content-type", b"application/json")]
        url = f"{base_url or self.base_url}/{_model_path(call.model)}:{verb}"
        return HttpRequest("POST", url, headers, body, deadline_s=call.deadline_s, dropped=tuple(losses.dropped))

    def embed(self, ask: EmbeddingsAsk) -> tuple[str, bytes]:
        """Verb and body of a request for embeddings."""
        return "batchEmbedContents", batch_body(ask)

    def embedded(self, ask: EmbeddingsAsk, body: bytes) -> tuple[bytes, Usage | None]:
        """Its reply in OpenAI's format, and its usage. Raises ValueError."""
        return batch_reply(ask, body)

    def read_reply(self, call: Call, body: bytes) -> tuple[bytes, Usage | None]:
        """See `ProviderAdapter.read_reply`."""
        if call.operation is not Operation.Embeddings:
            return super().read_reply(call, body)
        ask = EmbeddingsAsk.read(call.body, call.model, Losses(self.wire.value, may_drop=True))
        return self.embedded(ask, body)

    def native_usage(self, call: Call, body: bytes) -> Usage | None:
        """That of embeddings, where told; nothing for a count of tokens, which is free."""
        if call.operation is Operation.GeminiCountTokens:
            return Usage()
        return usage_of_gemini(_object(body))

    def build_models_request(self, secret: Secret, *, base_url: str | None = None) -> HttpRequest:
        """See `ProviderAdapter.build_models_request`. All models fit one page."""
        request = super().build_models_request(secret, base_url=base_url)
        return replace(request, url=f"{request.url}?pageSize={_MODELS_A_PAGE}")

    def read_models(self, body: bytes) -> Sequence[dict[str, Any]]:
        """See `ProviderAdapter.read_models`. `id`: the name without "models/"; Google's other facts stay."""
        listing = _object(body)
        models = listing.get("models") or listing.get("publisherModels")
        if not isinstance(models, list):
            raise ValueError("the reply has no list of models under 'models'")  # noqa: TRY004 - wrong value, not type
        named = [one for one in models if isinstance(one, dict) and isinstance(one.get("name"), str)]
        return [{"id": one["name"].rpartition("/")[2], "owned_by": "google", **one} for one in named]


class VertexAdapter(GeminiAdapter):
    """Google's models and Anthropic's at Vertex AI. The secret of a key is a bearer token.

    `project`: id or number. `location`: a region such as "europe-west4", or "global", "us" or "eu". `base_url`: for a
    proxy in front of it: up to `/locations/...`. Models whose names begin with "claude-" are asked in
    Anthropic's format (`vertex_claude`). Raises ConfigurationError for a project or location that no such name can be.
    """

    def __init__(
        self,
        project: str,
        location: str = "global",
        *,
        base_url: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        for name, value in (("project", project), ("location", location)):
            if not value or quote(value, safe=":.") != value:
                raise ConfigurationError([f"Vertex AI {name} {value!r}: expected a name of letters, digits and '-'"])
        host = _WIDE_HOSTS.get(location) or f"{location}-aiplatform.googleapis.com"
        root = base_url or f"https://{host}/v1/projects/{project}/locations/{location}"
        root = root.rstrip("/").removesuffix("/publishers/google")
        self.project = project
        self.location = location
        super().__init__(root + "/publishers/google", headers=headers)
        self._claude = VertexClaude(root + "/publishers/anthropic", headers=headers)
        served = (*self._capabilities.operations, Operation.CountTokens)
        self._capabilities = self._capabilities.model_copy(update={"operations": served})

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], *, base_url: str | None = None) -> VertexAdapter:
        """The project and location that variables name: those of Google's SDK, of LiteLLM and of Anthropic's SDK.
        Raises ConfigurationError without a project."""
        project, location = (
            next((text for name in names if (text := environ.get(name, "").strip())), "")
            for names in (_PROJECTS, _LOCATIONS)
        )
        if base_url and (found := _PLACE.search(base_url)):
            project, location = found.groups()
        if not project:
            raise ConfigurationError([f"provider 'vertex': set {_PROJECTS[0]} to the id of the project"])
        return cls(project, location or "global", base_url=base_url)

    def claims(self, model: str) -> bool:
        """Whether the model's name is one of Google's or Anthropic's."""
        return is_claude(model) or super().claims(model)

    def passes_for(self, operation: Operation, model: str) -> bool:
        """See `provider_adapter.passes_for`. Claude counts its tokens itself; what it is asked besides does not pass,
        since errors come in Google's words or in Anthropic's, whoever refuses."""
        if is_claude(model):
            return operation in (Operation.CountTokens, Operation.Raw)
        return self.passes(operation)

    def build_request(self, call: Call, secret: Secret, *, base_url: str | None = None) -> HttpRequest:
        """See `ProviderAdapter.build_request`."""
        if self._is_claudes(call):
            root = base_url and base_url.removesuffix("/publishers/google") + "/publishers/anthropic"
            return self._claude.build_request(call, secret, base_url=root)
        return super().build_request(call, secret, base_url=base_url)

    def read_reply(self, call: Call, body: bytes) -> tuple[bytes, Usage | None]:
        """See `ProviderAdapter.read_reply`."""
        return self._claude.read_reply(call, body) if self._is_claudes(call) else super().read_reply(call, body)

    def open_stream(self, call: Call) -> StreamReader:
        """See `ProviderAdapter.open_stream`."""
        return self._claude.open_stream(call) if self._is_claudes(call) else super().open_stream(call)

    def _is_claudes(self, call: Call) -> bool:
        return is_claude(call.model) and call.operation is not Operation.Raw

    def credentials(self, secret: Secret) -> Headers:
        """The token."""
        return [(b"authorization", b"Bearer " + secret.reveal_bytes())]

    def embed(self, ask: EmbeddingsAsk) -> tuple[str, bytes]:
        """Verb and body of a request for embeddings."""
        return "predict", predict_body(ask)

    def embedded(self, ask: EmbeddingsAsk, body: bytes) -> tuple[bytes, Usage | None]:
        """Its reply in OpenAI's format, and its usage. Raises ValueError."""
        return predict_reply(ask, body)

    def build_models_request(self, secret: Secret, *, base_url: str | None = None) -> HttpRequest:
        """See `ProviderAdapter.build_models_request`. Publishers' models are listed by version v1beta1 alone."""
        root = (base_url or self.base_url).partition("/v1/projects/")[0]
        url = f"{root}/v1beta1/publishers/google/models?pageSize={_MODELS_A_PAGE}"
        payer = (b"x-goog-user-project", self.project.encode())  # people's own tokens belong to no project
        return HttpRequest("GET", url, [*self.credentials(secret), payer, *self._headers])


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise ValueError(f"the reply is not JSON: {fault}") from None
    if not isinstance(found, dict):
        raise ValueError("the reply is not an object")  # noqa: TRY004 - wrong value, not type
    return found


def _model_path(model: str) -> str:
    """`models/X`; tuned models keep their own collection. Names are quoted, so that none reaches another path."""
    collection, _, name = model.rpartition("/")
    if collection == "tunedModels":
        return f"tunedModels/{quote(name, safe='@:.')}"
    return f"models/{quote(model.removeprefix('models/'), safe='@:.')}"
