"""Cohere's own API: conversations become `/v2/chat`, OpenAI's embeddings `/v2/embed`; rerank passes as it is.

Main entry: `CohereAdapter`. What its compatible endpoint (`provider("cohere-compatible")`) has not: documents that are
cited, budgets of thinking, pictures' detail, `top_k`, rerank, and a list of models.
Sources: https://docs.cohere.com/reference/about, /reference/rerank, /reference/list-models.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.cost.usage_dialects import usage_of_cohere
from apikeyrouter.domain.interfaces.provider_adapter import ProviderCapabilities
from apikeyrouter.domain.interfaces.transport import Headers, HttpRequest
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.models.call import CONVERSATIONS, Call, Operation, Wire
from apikeyrouter.infrastructure.adapters.base import WireAdapter, decoded
from apikeyrouter.infrastructure.catalogue.names import makers_of
from apikeyrouter.wire.cohere.embeddings import embed_body, embed_reply, read_ask
from apikeyrouter.wire.losses import Losses

__all__ = ["COHERE_BASE_URL", "CohereAdapter"]

COHERE_BASE_URL = "https://api.cohere.com"
_VERSION = re.compile(r"(?:/compatibility)?/v[12]/?$")
_MODELS_A_PAGE = 1000


class CohereAdapter(WireAdapter):
    """Serves Cohere's models.

    `base_url`: default `COHERE_BASE_URL` or `CO_API_URL` from the environment, else Cohere itself; a version at its end
    is left out. `headers`: sent with each request. Raises ConfigurationError for a malformed URL.
    """

    def __init__(self, base_url: str | None = None, *, headers: Mapping[str, str] | None = None) -> None:
        env = (os.environ.get(name, "").strip() for name in ("COHERE_BASE_URL", "CO_API_URL"))
        given = base_url or next(filter(None, env), "") or COHERE_BASE_URL
        super().__init__(
            _VERSION.sub("", given.strip()),
            dialect="cohere",
            wire=Wire.Cohere,
            native={Operation.Rerank: "v2/rerank"},
            headers=headers,
            capabilities=ProviderCapabilities(
                operations=(*CONVERSATIONS, Operation.Embeddings, Operation.Rerank, Operation.Raw)
            ),
        )

    def claims(self, model: str) -> bool:
        """Whether the model's name is one of Cohere's."""
        return makers_of(model) == "cohere"

    def path_of(self, call: Call) -> str:
        """The path below the base URL."""
        return call.path or self.native.get(call.operation, "v2/chat")

    def build_request(self, call: Call, secret: Secret, *, base_url: str | None = None) -> HttpRequest:
        """See `ProviderAdapter.build_request`."""
        if call.operation is not Operation.Embeddings:
            return super().build_request(call, secret, base_url=base_url)
        losses = Losses(self.wire.value, may_drop=call.drop_params)
        body = embed_body(*read_ask(call.body, call.model, losses))
        losses.check()
        headers: Headers = [*self.credentials(secret), *self._headers, (b"content-type", b"application/json")]
        url = f"{base_url or self.base_url}/v2/embed"
        return HttpRequest("POST", url, headers, body, deadline_s=call.deadline_s, dropped=tuple(losses.dropped))

    def read_reply(self, call: Call, body: bytes) -> tuple[bytes, Usage | None]:
        """See `ProviderAdapter.read_reply`."""
        if call.operation is not Operation.Embeddings:
            return super().read_reply(call, body)
        ask, _ = read_ask(call.body, call.model, Losses(self.wire.value, may_drop=True))
        return embed_reply(ask, body)

    def native_usage(self, call: Call, body: bytes) -> Usage | None:  # noqa: ARG002 - the same for all of them
        """What is billed for a rerank, or behind a raw path. Raises ValueError for a rerank that is no object."""
        if body.lstrip()[:1] != b"{":
            return None
        return usage_of_cohere(msgspec.json.decode(body))

    def build_models_request(self, secret: Secret, *, base_url: str | None = None) -> HttpRequest:
        """See `ProviderAdapter.build_models_request`. All models fit one page."""
        url = f"{base_url or self.base_url}/v1/models?page_size={_MODELS_A_PAGE}"
        return HttpRequest("GET", url, [*self.credentials(secret), *self._headers])

    def read_models(self, body: bytes) -> Sequence[dict[str, Any]]:
        """See `ProviderAdapter.read_models`. Cohere's other facts stay."""
        listing = decoded(body)
        models = listing.get("models") if isinstance(listing, dict) else None
        if not isinstance(models, list):
            raise ValueError("the reply has no list of models under 'models'")  # noqa: TRY004 - wrong value, not type
        named = [one for one in models if isinstance(one, dict) and isinstance(one.get("name"), str)]
        return [{"id": one["name"], "owned_by": "cohere", **one} for one in named]
