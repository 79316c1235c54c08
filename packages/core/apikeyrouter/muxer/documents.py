"""The classes of ModelMuxer's documents, for programs that were written for them.

    from apikeyrouter.muxer.documents import ChatMessage, HeuristicRouter, LiteLLMProvider

Prices in `custom_models` are US dollars for 1,000 tokens, as in those documents. See `litellm_provider` and
`heuristic_router`; new programs are better off with `ApiKeyRouter` and `model="auto"`.
"""

from __future__ import annotations

from apikeyrouter.muxer.heuristic_router import HeuristicRouter, ModelProvider
from apikeyrouter.muxer.litellm_provider import ChatCompletion, ChatMessage, LiteLLMProvider

__all__ = ["ChatCompletion", "ChatMessage", "HeuristicRouter", "LiteLLMProvider", "ModelProvider"]
