"""A LiteLLM proxy as a provider: every format that it takes, and what it tells about its models, prices and limits.

Main entries: `LiteLLMAdapter`, and `read_model_info`, which reads the proxy's `/model/info` into `LiteLLMModel`s, whose
`price` is a document for `PUT /api/v1/prices` and whose `limits` are metadata of a key. Sources (read 2026-11-21):
https://docs.litellm.ai/docs/proxy/model_management (`/model/info`), /docs/proxy/health (`/health/liveliness`).
Law: what the proxy does not tell is left out; an amount is never guessed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec

from apikeyrouter.domain.interfaces.transport import HttpRequest
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.infrastructure.adapters.base import checked_base_url
from apikeyrouter.infrastructure.adapters.compatible import CompatibleAdapter
from apikeyrouter.infrastructure.catalogue.gateways import GATEWAYS

__all__ = ["LiteLLMAdapter", "LiteLLMModel", "read_model_info"]

_MILLION = Decimal(1_000_000)
_PRICES = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cached_input": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "reasoning": "output_cost_per_reasoning_token",
}
_END_V1 = re.compile(r"/v1$")


@dataclass(frozen=True, slots=True)
class LiteLLMModel:
    """One model of a LiteLLM proxy. `price`: an override document, US dollars per million tokens; {} when it tells
    none. `limits`: `rpm` and `tpm` as configured there. `context_tokens`, `output_tokens_max`: None when not told."""

    name: str
    behind: str = ""
    context_tokens: int | None = None
    output_tokens_max: int | None = None
    price: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)


class LiteLLMAdapter(CompatibleAdapter):
    """Serves any model. `base_url`: with or without `/v1`; default `LITELLM_BASE_URL` from the environment, else
    http://localhost:4000. Without a master key, register the key `catalogue.KEYLESS`. Raises ConfigurationError for a
    malformed URL."""

    def __init__(self, base_url: str | None = None) -> None:
        (row,) = (row for row in GATEWAYS if row.id == "litellm")
        given = base_url or os.environ.get("LITELLM_BASE_URL", "").strip() or row.base_url
        super().__init__(row, _END_V1.sub("", checked_base_url(given)) + "/v1", claims_all=True)

    @property
    def root(self) -> str:
        """The proxy's address without `/v1`."""
        return _END_V1.sub("", self.base_url)

    def build_health_request(self) -> HttpRequest:
        """Is it alive? Needs no key, and asks none of the providers behind it; 200 means yes."""
        return HttpRequest("GET", f"{self.root}/health/liveliness", list(self._headers))

    def build_info_request(self, secret: Secret) -> HttpRequest:
        """What it says about its models; read the reply with `read_model_info`."""
        return HttpRequest("GET", f"{self.root}/model/info", [*self.credentials(secret), *self._headers])


def read_model_info(body: bytes) -> Sequence[LiteLLMModel]:
    """The models in a reply of `/model/info`, one of each name. Raises ValueError when it is no such reply."""
    try:
        decoded = msgspec.json.decode(body)
    except msgspec.MsgspecError as fault:
        raise ValueError(f"the reply is no JSON: {fault}") from None
    listed = decoded.get("data") if isinstance(decoded, dict) else None
    if not isinstance(listed, list):
        raise ValueError("the reply has no list of models under 'data'")  # noqa: TRY004 - wrong value, not type
    found: dict[str, LiteLLMModel] = {}
    for one in listed:
        if isinstance(one, dict) and isinstance(one.get("model_name"), str):
            found.setdefault(one["model_name"], _model(one))
    return list(found.values())


def _model(told: Mapping[str, Any]) -> LiteLLMModel:
    info, given = _object(told.get("model_info")), _object(told.get("litellm_params"))
    name = told["model_name"]
    price = {ours: amount for ours, theirs in _PRICES.items() if (amount := _per_million(info, given, theirs))}
    if "input" in price and "output" in price:
        price = {"provider": "litellm", "model": name, "unit": "per_1m", **price}
    else:
        price = {}
    limits = {what: n for what in ("rpm", "tpm") if (n := _whole(given.get(what)) or _whole(info.get(what)))}
    return LiteLLMModel(
        name,
        behind=str(given.get("model") or info.get("key") or ""),
        context_tokens=_whole(info.get("max_input_tokens")) or _whole(info.get("max_tokens")),
        output_tokens_max=_whole(info.get("max_output_tokens")),
        price=price,
        limits=limits,
    )


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _per_million(info: Mapping[str, Any], given: Mapping[str, Any], name: str) -> str | None:
    """Dollars per million tokens as text. What was configured for the model goes before the price map."""
    for source in (given, info):
        value = source.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
            return f"{(Decimal(str(value)) * _MILLION).normalize():f}"
    return None
