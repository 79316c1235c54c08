"""The most input tokens of a request, from its content.

`tight_input_bound` parses the body once and counts what a model is shown: texts, names, tool calls and results, tool
definitions and schemas as bytes (byte-level BPE never makes more tokens than UTF-8 bytes), pictures and sound by their
providers' rules. Measured, that is faster than looking through the bytes for what would make a bound by bytes wrong.
Chat, completions and embeddings in OpenAI's shape, and the native shapes of Responses, Anthropic, Gemini and Bedrock,
are read alike: what is not known to be a mere parameter is counted.

Laws: never below what an honest provider counts, unless `unbounded` says why not; texts count as they are or
compatibility-composed (some tokenizers do that first), whichever is longer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unicodedata import normalize

import msgspec
from msgspec import Struct

from apikeyrouter.domain.cost.media_tokens import (
    MESSAGE_OVERHEAD_TOKENS,
    TOOLS_OVERHEAD_TOKENS,
    audio_tokens_most,
    hidden_tokens_most,
    image_tokens_most,
    name_of,
    searches_by_itself,
)

__all__ = ["InputBound", "Measure", "tight_input_bound"]

Measure = Callable[[str], int]
"""Counts the tokens of a text, or more."""

SCHEMA_OVERHEAD_TOKENS = 256
"""Instructions that come with a response schema. Measured on recorded replies: below 100; more than doubled."""

IMAGE_TOKENS_EXPECTED = 765
"""A picture of 1,024 x 1,024 at high detail on gpt-4o (OpenAI, "Images and vision")."""

AUDIO_BYTES_PER_TOKEN = 800
"""mp3 at 128 kbit/s is 16,000 bytes a second, which is 10 (OpenAI) to 32 tokens (Gemini)."""

_LIKELY_FRAME = 16  # 4 tokens a message, in bytes of text
_LIKELY_TOOLS = 40
_LIKELY_TOOLS_CLAUDE = 1_300  # Anthropic, "Tool use", system prompt token counts: 264 to 530

REASONING_OVERHEAD_TOKENS = 128
"""Instructions that come with reasoning. Measured on recorded replies of Claude: 29."""

NODE_OVERHEAD_TOKENS = 4
"""Separators and indentation of one member where a provider writes JSON anew: published chat templates indent by 4, and
their tokenizers hold a run of spaces as one token."""

TOOL_OVERHEAD_TOKENS = 16
"""One tool's frame. OpenAI's cookbook ("How to count tokens", functions) counts 7 to 10 and 12 at the end of all."""


class InputBound(Struct):
    """The most input tokens of a request.

    `tokens`: the most that its own content can count. `method`: "content", "tokenizer" or "bytes" (not JSON).
    `unbounded`: what may add more, as short names ("file", "tool web_search"); empty where `tokens` is the whole truth.
    `content_bytes`: what is likely to count, as bytes of plain text: input of `InputRatios`. `media_tokens`: what
    pictures and sound are likely to count beside.
    """

    tokens: int
    method: str
    unbounded: tuple[str, ...] = ()
    content_bytes: int = 1
    media_tokens: int = 0


def tight_input_bound(body: bytes, model: str = "", measure: Measure | None = None) -> InputBound:
    """The bound by content. `model`: the one that will serve it. About 4 us for a chat of 1 KB.

    `measure`: counts a text's tokens, where a tokenizer is at hand; else its bytes count.
    """
    try:
        request = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return InputBound(len(body), "bytes", ("not JSON",), len(body))
    if not isinstance(request, dict):
        return InputBound(len(body), "bytes", ("not an object",), len(body))
    name = name_of(model or str(request.get("model") or ""))
    counter = _Counter(name, measure or _bytes_of)
    if searches_by_itself(name):
        counter.unbounded["model searches"] = None
    others = request.get("models")
    if isinstance(others, list):  # whichever of them is free will serve it
        counter.served_by([name, *[name_of(str(other)) for other in others]])
    counter.request(request)
    method = "content" if measure is None else "tokenizer"
    return InputBound(counter.tokens, method, tuple(counter.unbounded), counter.likely or 1, counter.media_tokens)


_PARAMETERS = frozenset({
    "model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "max_output_tokens", "temperature", "n",
    "top_p", "top_k", "min_p", "seed", "user", "metadata", "store", "logprobs", "top_logprobs", "logit_bias", "stop",
    "presence_penalty", "frequency_penalty", "repetition_penalty", "parallel_tool_calls", "service_tier", "best_of",
    "modalities", "audio", "verbosity", "prompt_cache_key", "prompt_cache_retention", "echo",
    "safety_identifier", "include", "truncation", "background", "encoding_format", "dimensions", "stop_sequences",
    "inferenceConfig", "safetySettings", "cache_control", "provider", "models", "route", "transforms",
    "include_reasoning", "reasoning_format", "safe_prompt", "random_seed", "usage", "anthropic_version", "betas",
    "anthropic_beta", "requestMetadata", "performanceConfig", "speed", "inference_geo",
})  # fmt: skip
"""Members that no model is shown; everything else counts."""

_ELSEWHERE = {
    "web_search_options": "web search", "plugins": "plugins", "search_parameters": "web search",
    "previous_response_id": "stored conversation", "conversation": "stored conversation",
    "mcp_servers": "MCP server", "container": "container", "cachedContent": "cached content",
    "cached_content": "cached content", "connectors": "connectors", "context_management": "context management",
}  # fmt: skip
"""Members that bring in texts which are not in the request."""

_CONVERSATION = frozenset({"messages", "input", "contents", "message", "chat_history"})
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function", "model", "USER", "CHATBOT"})
_TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
_UNSEEN = frozenset({"type", "cache_control", "prompt_cache_breakpoint"})
_VALUES = frozenset({"input", "args", "json", "response"})
"""What a tool was called with or returned, as JSON."""

_OPAQUE = frozenset({
    "id", "tool_call_id", "call_id", "tool_use_id", "toolUseId", "signature", "thoughtSignature", "encrypted_content",
    "thought_signature", "status", "index", "namespace",
})  # fmt: skip
"""Counted in the bound; in no likely count, since models are not shown them as they are."""

_OWN_TOOLS = frozenset({None, "function", "custom", "namespace"})
_IMAGE_TYPES = frozenset({"image_url", "input_image", "image"})
_FILE_TYPES = frozenset({
    "file", "input_file", "document", "video", "video_url", "document_url", "media", "container_upload",
    "item_reference", "compaction",
})  # fmt: skip


def _bytes_of(text: str) -> int:
    if text.isascii():
        return len(text)
    composed = normalize("NFKC", text)
    return max(len(text.encode("utf-8", "surrogatepass")), len(composed.encode("utf-8", "surrogatepass")))


class _Counter:
    """Adds up one request."""

    __slots__ = ("likely", "measure", "media_tokens", "name", "tokens", "unbounded")

    def __init__(self, name: str, measure: Measure) -> None:
        self.name = name
        self.measure = measure
        self.tokens = hidden_tokens_most(name) + MESSAGE_OVERHEAD_TOKENS
        self.likely = _LIKELY_FRAME
        self.media_tokens = 0
        self.unbounded: dict[str, None] = {}

    def served_by(self, names: list[str]) -> None:
        """One of several models will serve it, nobody knows which: the dearest rules hold."""
        self.tokens += max([hidden_tokens_most(name) for name in names]) - hidden_tokens_most(self.name)
        self.name = max(names, key=image_tokens_most)

    def request(self, request: dict[str, Any]) -> None:
        """Each member by what it is."""
        for member, value in request.items():
            if member in _PARAMETERS or value is None:
                continue
            if member in _CONVERSATION:
                self.messages(value)
            elif member in _ELSEWHERE:
                if value:
                    self.unbounded[_ELSEWHERE[member]] = None
                    self.rewritten(value)
            elif member in ("tools", "functions"):
                self.tools(value)
            elif member in ("toolConfig", "tool_config") and isinstance(value, dict):
                self.tools(value.get("tools") or [])
                self.rewritten({k: v for k, v in value.items() if k != "tools"})
            elif member in ("response_format", "text", "generationConfig", "output_format", "output_config"):
                self.schema(value)
            elif member == "prompt":
                self.prompt(value)
            elif member in ("reasoning", "thinking", "reasoning_effort"):
                self.tokens += REASONING_OVERHEAD_TOKENS
                if isinstance(value, dict) and value.get("mode") == "pro":
                    self.unbounded["pro mode"] = None  # reads its own drafts again
            else:
                self.content(value)

    def messages(self, value: Any) -> None:
        """A conversation, or the text or texts of an embedding."""
        if not isinstance(value, list):
            value = [value]
        if value and isinstance(value[0], int):
            self.tokens += len(value)  # a text as token ids
            self.likely += 4 * len(value)
            return
        for message in value:
            self.tokens += MESSAGE_OVERHEAD_TOKENS
            self.likely += _LIKELY_FRAME
            if not isinstance(message, dict):
                self.messages(message) if isinstance(message, list) else self.content(message)
                continue
            if "role" not in message and isinstance(message.get("type"), str):
                self.content(message)
                continue
            for member, inner in message.items():
                if isinstance(inner, str):
                    if member == "role" and inner in _ROLES:
                        continue
                    if member == "content":  # as `content` has it: so is nearly every message
                        size = self.measure(inner)
                        self.tokens += size
                        self.likely += size
                        continue
                if member not in ("content", "parts", "role"):
                    self.tokens += len(member) + NODE_OVERHEAD_TOKENS
                self.content(inner)

    def prompt(self, value: Any) -> None:
        """Texts or token ids of the completions endpoint; a stored prompt of Responses."""
        if isinstance(value, dict):
            self.unbounded["stored prompt"] = None
            self.content(value)
        else:
            self.messages(value)

    def content(self, value: Any) -> None:
        """Anything that a model is shown."""
        if isinstance(value, str):
            size = self.measure(value)
            self.tokens += size
            self.likely += size
        elif isinstance(value, list):
            for part in value:
                self.tokens += NODE_OVERHEAD_TOKENS
                self.content(part)
        elif isinstance(value, dict):
            if not self.media(value):
                self.part(value)
        elif value is not None:
            self.tokens += len(msgspec.json.encode(value))

    def part(self, part: dict[str, Any]) -> None:
        """One object of a message that is no picture, sound or file."""
        kind = part.get("type")
        shown = _TEXT_PARTS.get(kind) if isinstance(kind, str) else ""
        for member, value in part.items():
            if member == shown or (member == "text" and len(part) == 1):
                self.content(value)
            elif member == "arguments" and isinstance(value, str):
                # JSON in a string: written anew as JSON, or escaped once more
                size = self.measure(value)
                self.tokens += size + value.count('"') + value.count("\\") + value.count(",")
                self.likely += size + _LIKELY_FRAME
            elif member in _OPAQUE or (member in _VALUES and not isinstance(value, str)):
                likely = self.likely
                self.rewritten(value)
                if member in _OPAQUE:
                    self.likely = likely
            elif member not in _UNSEEN or (member == "type" and shown is None):
                self.tokens += len(member.encode()) + NODE_OVERHEAD_TOKENS
                likely = self.likely
                self.content(value)
                if member == "type":
                    self.likely = likely

    def tools(self, value: Any) -> None:
        """Tool definitions. Those that are run by the provider bring in texts of their own."""
        if not value:
            return
        self.tokens += TOOLS_OVERHEAD_TOKENS
        self.likely += _LIKELY_TOOLS_CLAUDE if "claude" in self.name else _LIKELY_TOOLS
        for tool in value if isinstance(value, list) else [value]:
            self.tokens += TOOL_OVERHEAD_TOKENS
            self.rewritten(tool)
            if not isinstance(tool, dict):
                continue
            kind = tool.get("type")
            if kind not in _OWN_TOOLS:
                self.unbounded[f"tool {kind}"] = None
            elif kind is None and not _DEFINES.intersection(tool):
                self.unbounded[f"tool {next(iter(tool), '')}"] = None
            if "functionDeclarations" in tool or "function_declarations" in tool:
                for member in tool:
                    if member not in ("functionDeclarations", "function_declarations"):
                        self.unbounded[f"tool {member}"] = None

    def schema(self, value: Any) -> None:
        """Where the form of the reply is described; the description may be shown to the model."""
        self.tokens += SCHEMA_OVERHEAD_TOKENS
        likely = self.likely
        self.rewritten(value)
        if self.name.startswith("gemini"):  # only steers the decoding
            self.likely = likely

    def rewritten(self, value: Any) -> None:
        """JSON that the provider writes anew in its own layout."""
        encoded = msgspec.json.encode(value)
        self.tokens += self.measure(encoded.decode("utf-8"))
        # each member and element comes with a colon or a comma, but for the last of its list or object
        commas = encoded.count(b",") + encoded.count(b":") + encoded.count(b"{") + encoded.count(b"[")
        self.tokens += commas * (NODE_OVERHEAD_TOKENS // 2)
        self.likely += len(encoded) * 4 // 5

    def media(self, part: dict[str, Any]) -> bool:
        """Counts a picture, sound or file; False when it is none."""
        kind = part.get("type")
        if kind in _IMAGE_TYPES or (kind is None and isinstance(part.get("image"), dict)):
            self.image()
            return True
        if kind == "input_audio" and isinstance(part.get("input_audio"), dict):
            audio = part["input_audio"]
            self.audio(len(str(audio.get("data", ""))) * 3 // 4, str(audio.get("format", "")))
            return True
        inline = part.get("inlineData") or part.get("inline_data")
        if isinstance(inline, dict):
            self.inline(str(inline.get("mimeType") or inline.get("mime_type") or ""), str(inline.get("data", "")))
            return True
        if kind in _FILE_TYPES or any(isinstance(part.get(name), dict) for name in _FILE_MEMBERS):
            source = part.get("source")
            if isinstance(source, dict) and source.get("type") in ("text", "content"):
                return False  # a document given as text
            self.unbounded["file" if kind is None or kind not in _FILE_TYPES else str(kind)] = None
            return True
        return False

    def image(self) -> None:
        """One picture."""
        self.tokens += image_tokens_most(self.name)
        self.media_tokens += IMAGE_TOKENS_EXPECTED

    def inline(self, mime: str, data: str) -> None:
        """Media in base64 (Gemini's shape)."""
        size = len(data) * 3 // 4
        if mime.startswith("image/"):
            self.image()
        elif mime.startswith("text/"):
            self.tokens += size
            self.likely += size
        elif mime.startswith("audio/"):
            self.audio(size, {"audio/mpeg": "mp3"}.get(mime, mime.removeprefix("audio/")))
        else:
            self.unbounded["file"] = None

    def audio(self, size: int, kind: str) -> None:
        """Sound; unbounded where its kind does not say how long it may be."""
        self.media_tokens += 1 + size // AUDIO_BYTES_PER_TOKEN
        most = audio_tokens_most(size, kind)
        if most is None:
            self.unbounded[f"audio {kind}".rstrip()] = None
        else:
            self.tokens += most


_DEFINES = frozenset({
    "function", "name", "functionDeclarations", "function_declarations", "toolSpec", "tool_spec", "cachePoint",
})  # fmt: skip
_FILE_MEMBERS = ("fileData", "file_data", "document", "video")
