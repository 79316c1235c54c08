"""ApiKeyRouter: which key of which provider serves each LLM request, and why.

    router = ApiKeyRouter()
    await router.register_provider("openai", OpenAIAdapter())
    await router.register_key("...", "openai")
    response = await router.route(RequestIntent(model="gpt-4o-mini", messages=[...]))

Names are imported when they are first used, so that `import apikeyrouter` costs milliseconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "AnthropicAdapter": "apikeyrouter.infrastructure.adapters.anthropic_adapter",
    "ApiKeyRouter": "apikeyrouter.router",
    "APIKey": "apikeyrouter.domain.models.api_key",
    "BedrockAdapter": "apikeyrouter.infrastructure.adapters.bedrock_adapter",
    "Budget": "apikeyrouter.domain.models.budget",
    "BudgetExceededError": "apikeyrouter.domain.errors",
    "BudgetScope": "apikeyrouter.domain.models.budget",
    "CohereAdapter": "apikeyrouter.infrastructure.adapters.cohere_adapter",
    "EnforcementMode": "apikeyrouter.domain.models.budget",
    "EnvSettings": "apikeyrouter.from_environment",
    "ErrorCategory": "apikeyrouter.domain.errors",
    "GeminiAdapter": "apikeyrouter.infrastructure.adapters.gemini_adapter",
    "KeyState": "apikeyrouter.domain.models.api_key",
    "MemoryStateStore": "apikeyrouter.infrastructure.state_store.memory_store",
    "Message": "apikeyrouter.domain.models.request_intent",
    "NoEligibleKeysError": "apikeyrouter.domain.errors",
    "OpenAIAdapter": "apikeyrouter.infrastructure.adapters.openai_adapter",
    "RequestIntent": "apikeyrouter.domain.models.request_intent",
    "RouterError": "apikeyrouter.domain.errors",
    "RouterSettings": "apikeyrouter.infrastructure.config.settings",
    "RoutingObjective": "apikeyrouter.domain.models.routing_decision",
    "SQLiteStateStore": "apikeyrouter.infrastructure.state_store.sqlite_store",
    "StreamChunk": "apikeyrouter.responses",
    "SyncApiKeyRouter": "apikeyrouter.sync",
    "SystemError": "apikeyrouter.domain.errors",
    "SystemResponse": "apikeyrouter.domain.models.system_response",
    "TimeWindow": "apikeyrouter.domain.models.budget",
    "from_env": "apikeyrouter.from_environment",
    "open_store": "apikeyrouter.infrastructure.state_store",
    "VertexAdapter": "apikeyrouter.infrastructure.adapters.gemini_adapter",
}

__all__ = [
    "APIKey",
    "AnthropicAdapter",
    "ApiKeyRouter",
    "BedrockAdapter",
    "Budget",
    "BudgetExceededError",
    "BudgetScope",
    "CohereAdapter",
    "EnforcementMode",
    "EnvSettings",
    "ErrorCategory",
    "GeminiAdapter",
    "KeyState",
    "MemoryStateStore",
    "Message",
    "NoEligibleKeysError",
    "OpenAIAdapter",
    "RequestIntent",
    "RouterError",
    "RouterSettings",
    "RoutingObjective",
    "SQLiteStateStore",
    "StreamChunk",
    "SyncApiKeyRouter",
    "SystemError",
    "SystemResponse",
    "TimeWindow",
    "VertexAdapter",
    "__version__",
    "from_env",
    "open_store",
]

if TYPE_CHECKING:
    from apikeyrouter.domain.errors import (
        BudgetExceededError,
        ErrorCategory,
        NoEligibleKeysError,
        RouterError,
        SystemError,
    )
    from apikeyrouter.domain.models.api_key import APIKey, KeyState
    from apikeyrouter.domain.models.budget import Budget, BudgetScope, EnforcementMode, TimeWindow
    from apikeyrouter.domain.models.request_intent import Message, RequestIntent
    from apikeyrouter.domain.models.routing_decision import RoutingObjective
    from apikeyrouter.domain.models.system_response import SystemResponse
    from apikeyrouter.from_environment import EnvSettings, from_env
    from apikeyrouter.infrastructure.adapters.anthropic_adapter import AnthropicAdapter
    from apikeyrouter.infrastructure.adapters.bedrock_adapter import BedrockAdapter
    from apikeyrouter.infrastructure.adapters.cohere_adapter import CohereAdapter
    from apikeyrouter.infrastructure.adapters.gemini_adapter import GeminiAdapter, VertexAdapter
    from apikeyrouter.infrastructure.adapters.openai_adapter import OpenAIAdapter
    from apikeyrouter.infrastructure.config.settings import RouterSettings
    from apikeyrouter.infrastructure.state_store import open_store
    from apikeyrouter.infrastructure.state_store.memory_store import MemoryStateStore
    from apikeyrouter.infrastructure.state_store.sqlite_store import SQLiteStateStore
    from apikeyrouter.responses import StreamChunk
    from apikeyrouter.router import ApiKeyRouter
    from apikeyrouter.sync import SyncApiKeyRouter


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'apikeyrouter' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
