"""Azure OpenAI: deployments in the path with an `api-version`, or the v1 endpoint; both with an `api-key` header.

Main entries: `AzureAdapter` and `azure_settings`, which reads the AZURE_* variables. Sources (read 2026-11-21):
https://learn.microsoft.com/azure/ai-foundry/openai/reference (paths, `api-key`),
https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle (v1 needs no version).
Laws: a model's name stays what the caller says, for prices and limits; only path and body hold the deployment's. A
filtered prompt is the caller's 400 `content_filter`; a filtered reply is a reply.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from urllib.parse import quote

from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.interfaces.transport import Headers, HttpRequest
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.models.call import Call, Operation
from apikeyrouter.infrastructure.adapters.base import WireAdapter, checked_base_url
from apikeyrouter.infrastructure.adapters.openai_adapter import OpenAIAdapter
from apikeyrouter.infrastructure.catalogue.names import makers_of

__all__ = ["AzureAdapter", "AzureSettings", "azure_settings"]

_IN_DEPLOYMENTS = (
    Operation.Chat, Operation.Completions, Operation.Embeddings, Operation.Images, Operation.ImageEdits,
    Operation.Speech, Operation.Transcriptions, Operation.Translations,
)  # fmt: skip
_V1 = frozenset({"", "v1", "preview", "latest"})
_USAGE_SINCE = "2024-09-01"
"""Versions before it reject `stream_options` (api-version-lifecycle, "API specification changes")."""
_OWN_PATH = re.compile(r"(/openai(/v1|/deployments/[^/]+)?)?/?$")
_BEARER = b"eyJ"
"""How JWTs of Entra begin; API keys do not."""

_KEYS = ("AZURE_OPENAI_API_KEY", "AZURE_API_KEY")
_ENDPOINTS = ("AZURE_OPENAI_ENDPOINT", "AZURE_API_BASE", "AZURE_OPENAI_API_BASE")
_INSTANCE = "AZURE_OPENAI_API_INSTANCE_NAME"
_VERSIONS = ("AZURE_OPENAI_API_VERSION", "AZURE_API_VERSION")
_DEPLOYMENTS = (
    "AZURE_OPENAI_DEPLOYMENT", "AZURE_DEPLOYMENT_NAME", "AZURE_OPENAI_DEPLOYMENT_NAME",
    "AZURE_OPENAI_API_DEPLOYMENT_NAME",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class AzureSettings:
    """What the variables say. `endpoint`: of the resource. `missing`: what the set lacks, in words; Azure is used only
    when nothing is. `key_variable`: where the key is; the key itself is not kept here."""

    endpoint: str
    api_version: str
    deployment: str
    key_variable: str
    missing: tuple[str, ...] = ()


def azure_settings(environ: Mapping[str, str]) -> AzureSettings | None:
    """The AZURE_* variables; None when there is none of them. Names of the Azure SDKs, of OpenAI's and of LiteLLM's are
    known; the first that is set counts."""

    def first(names: tuple[str, ...]) -> tuple[str, str]:
        return next(((name, text) for name in names if (text := environ.get(name, "").strip())), ("", ""))

    (key, _), (_, endpoint), (_, version), (_, deployment) = map(first, (_KEYS, _ENDPOINTS, _VERSIONS, _DEPLOYMENTS))
    if not endpoint and (instance := environ.get(_INSTANCE, "").strip()):
        endpoint = f"https://{instance}.openai.azure.com"
    if not (key or endpoint or version or deployment):
        return None
    parts = ((key, _KEYS), (endpoint, _ENDPOINTS), (version, _VERSIONS), (deployment, _DEPLOYMENTS))
    missing = tuple(names[0] for value, names in parts if not value)
    return AzureSettings(endpoint, version, deployment, key, missing)


class AzureAdapter(OpenAIAdapter):
    """One Azure OpenAI resource.

    `endpoint`: `https://NAME.openai.azure.com`, also with `/openai` or `/openai/v1` behind it. `api_version`: of the
    data plane, such as "2024-10-21"; None: the v1 endpoint ("preview" and "latest" are its own versions).
    `deployment`: serves every model that `deployments` does not name. `deployments`: model to deployment; models that
    are in neither are deployments of the same name. `operations`: which endpoints its deployments have, default all of
    Azure's; some models have Responses only. Keys may have a `base_url` of their own: another resource. Raises
    ConfigurationError for a malformed endpoint.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        api_version: str | None = None,
        deployment: str | None = None,
        deployments: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        operations: Collection[Operation] | None = None,
    ) -> None:
        self._version = (api_version or "").strip()
        self._v1 = self._version in _V1
        super().__init__(
            self._rooted(endpoint),
            headers=headers,
            dialect="azure",
            claims_all=False,
            operations=(*_IN_DEPLOYMENTS, Operation.Responses) if operations is None else operations,
        )
        self._deployment = deployment
        self._deployments = dict(deployments or {})
        self._tells_usage = self._v1 or self._version >= _USAGE_SINCE
        if not self._v1:
            self.native = {
                o: f"deployments/{{model}}/{o.value}" if o in _IN_DEPLOYMENTS else o.value for o in self.native
            }

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None, *, endpoint: str | None = None) -> AzureAdapter:
        """The resource that AZURE_* variables name. Raises ConfigurationError naming what is missing."""
        found = azure_settings(os.environ if environ is None else environ)
        where = endpoint or (found.endpoint if found is not None else "")
        if not where:
            raise ConfigurationError([f"provider 'azure': set {_ENDPOINTS[0]} to https://NAME.openai.azure.com"])
        if found is None:
            return cls(where)
        return cls(where, api_version=found.api_version or None, deployment=found.deployment or None)

    def claims(self, model: str) -> bool:
        """Whether a deployment serves the model, as configured; without any, whether it is one of OpenAI's."""
        if self._deployments or self._deployment:
            return model in self._deployments or model == self._deployment
        return makers_of(model) == "openai"

    def credentials(self, secret: Secret) -> Headers:
        """An API key in `api-key`; a token of Entra as a bearer."""
        material = secret.reveal_bytes()
        if material.startswith(_BEARER):
            return [(b"authorization", b"Bearer " + material)]
        return [(b"api-key", material)]

    def build_request(self, call: Call, secret: Secret, *, base_url: str | None = None) -> HttpRequest:
        """See `ProviderAdapter.build_request`."""
        deployment = self._deployments.get(call.model) or self._deployment or call.model
        if deployment != call.model:
            call = replace(call, model=deployment)
        return super().build_request(call, secret, base_url=self._rooted(base_url) if base_url else None)

    def path_of(self, call: Call) -> str:
        """The path, with the API's version."""
        path = call.path or self.native.get(call.operation) or self.native.get(Operation.Chat)
        if path is None:
            path = self.native[Operation.Responses]
        if "{" in path and not call.path:
            path = path.replace("{model}", quote(call.model, safe=""))
        if not self._version or self._version == "v1" or "api-version=" in call.query:
            return path
        return f"{path}?api-version={self._version}"

    def native_body(self, call: Call) -> bytes:
        """As OpenAI's; versions that do not know `stream_options` are not asked for the usage of streams."""
        if not self._tells_usage:
            return WireAdapter.native_body(self, call)
        return super().native_body(call)

    def build_models_request(self, secret: Secret, *, base_url: str | None = None) -> HttpRequest:
        """See `ProviderAdapter.build_models_request`; the list is that of models that the resource may deploy."""
        root = self._rooted(base_url) if base_url else self.base_url
        query = f"?api-version={self._version}" if self._version not in ("", "v1") else ""
        return HttpRequest("GET", f"{root}/models{query}", [*self.credentials(secret), *self._headers])

    def _rooted(self, endpoint: str) -> str:
        """The base of all paths at a resource, however much of it was given."""
        root = _OWN_PATH.sub("", checked_base_url(endpoint))
        return f"{root}/openai/v1" if self._v1 else f"{root}/openai"
