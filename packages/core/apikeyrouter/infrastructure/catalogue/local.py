"""Servers that people run themselves; they work without a key, and take one where they were started with one.

Set the variable with the address (`OLLAMA_BASE_URL=http://127.0.0.1:11434/v1`) and the server is used.
Laws: those of `provider_row`.
"""

from __future__ import annotations

from apikeyrouter.domain.models.call import Operation
from apikeyrouter.infrastructure.catalogue.provider_row import ProviderRow, Quirk

__all__ = ["LOCAL"]

_TEXT = {Operation.Chat: "chat/completions", Operation.Completions: "completions"}
_BASICS = {**_TEXT, Operation.Embeddings: "embeddings"}
_RESPONSES = {Operation.Responses: "responses"}

LOCAL = (
    ProviderRow(
        id="ollama",
        name="Ollama",
        base_url="http://127.0.0.1:11434/v1",
        keyless=True,
        operations={**_BASICS, **_RESPONSES},
        quirks=frozenset({Quirk.NoDeveloperRole}),
        refuses=("logit_bias", "n"),
        hosts_open=True,
        docs="https://docs.ollama.com/openai",
        checked="2026-11-21",
    ),
    ProviderRow(
        id="vllm",
        name="vLLM",
        aliases=("hosted_vllm",),
        base_url="http://127.0.0.1:8000/v1",
        env=("VLLM_API_KEY",),
        keyless=True,
        operations={
            **_BASICS,
            **_RESPONSES,
            Operation.Rerank: "rerank",
            Operation.Transcriptions: "audio/transcriptions",
            Operation.Translations: "audio/translations",
        },
        hosts_open=True,
        docs="https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html",
        checked="2026-11-21",
    ),
    ProviderRow(
        id="llamacpp",
        name="llama.cpp",
        aliases=("llama.cpp", "llama-server"),
        base_url="http://127.0.0.1:8080/v1",
        keyless=True,
        operations={**_BASICS, Operation.Rerank: "rerank"},
        quirks=frozenset({Quirk.NoDeveloperRole}),
        hosts_open=True,
        docs="https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md",
        checked="2026-11-21",
    ),
    ProviderRow(
        id="llamafile",
        name="llamafile",
        base_url="http://127.0.0.1:8080/v1",
        keyless=True,
        operations=_BASICS,
        quirks=frozenset({Quirk.NoDeveloperRole}),
        hosts_open=True,
        docs="https://github.com/Mozilla-Ocho/llamafile",
        checked="2026-11-21",
    ),
    ProviderRow(
        id="lmstudio",
        name="LM Studio",
        aliases=("lm_studio", "lm-studio"),
        base_url="http://127.0.0.1:1234/v1",
        env=("LMSTUDIO_API_KEY", "LM_STUDIO_API_KEY"),
        keyless=True,
        operations={**_BASICS, **_RESPONSES},
        quirks=frozenset({Quirk.MaxTokens, Quirk.NoDeveloperRole}),
        hosts_open=True,
        docs="https://lmstudio.ai/docs/developer/openai-compat/chat-completions",
        checked="2026-11-21",
    ),
    ProviderRow(
        id="tgi",
        name="Text Generation Inference",
        base_url="http://127.0.0.1:3000/v1",
        keyless=True,
        operations=_TEXT,
        quirks=frozenset({Quirk.MaxTokens, Quirk.NoDeveloperRole, Quirk.NoParallelToolCalls}),
        hosts_open=True,
        docs="https://huggingface.co/docs/text-generation-inference/messages_api",
        checked="2026-11-21",
    ),
    ProviderRow(
        id="sglang",
        name="SGLang",
        base_url="http://127.0.0.1:30000/v1",
        keyless=True,
        operations=_BASICS,
        hosts_open=True,
        docs="https://docs.sglang.ai/basic_usage/openai_api_completions.html",
        checked="2026-11-21",
    ),
    ProviderRow(
        id="localai",
        name="LocalAI",
        base_url="http://127.0.0.1:8080/v1",
        keyless=True,
        operations={
            **_BASICS,
            Operation.Images: "images/generations",
            Operation.Transcriptions: "audio/transcriptions",
            Operation.Speech: "audio/speech",
            Operation.Rerank: "rerank",
        },
        quirks=frozenset({Quirk.NoDeveloperRole}),
        hosts_open=True,
        docs="https://localai.io/docs/features/text-generation/",
        checked="2026-11-21",
    ),
)
