"""Requests for messages, checked as Anthropic checks them, in its words.

Main entry: `read_messages`, which also measures and digests what the reply depends on. Members that do not exist, ids
without results, thoughts whose signature is not the one that was given: all are refused, so that whoever translates
into this format is found out. Sources: https://platform.claude.com/docs/en/api/messages, /en/api/errors and recorded
refusals (read 2026-11-21). Law: raises `ApiError` and nothing else, whatever the body.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import msgspec

from apikeyrouter.simulation.anthropic_models import ClaudeFacts, claude_facts
from apikeyrouter.simulation.anthropic_thoughts import check_thinking, check_thought
from apikeyrouter.simulation.api_errors import ApiError, invalid
from apikeyrouter.simulation.script import goes_on
from apikeyrouter.simulation.text import Digest, digest_of, estimate_tokens

__all__ = ["MessagesRequest", "read_messages"]

_MEMBERS = frozenset({
    "model", "messages", "max_tokens", "system", "tools", "tool_choice", "temperature", "top_p", "top_k",
    "stop_sequences", "stream", "metadata", "thinking", "output_config", "service_tier", "cache_control", "container",
    "context_management", "mcp_servers", "inference_geo", "speed",
})  # fmt: skip
_BLOCKS = frozenset({"text", "image", "document", "tool_use", "tool_result", "thinking", "redacted_thinking"})
_ID = re.compile(r"[a-zA-Z0-9_-]+")
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_EFFORTS = ("low", "medium", "high", "xhigh", "max")
_IMAGE_TOKENS = 400
_CACHE_LEAST_TOKENS = 1024


@dataclass(slots=True)
class MessagesRequest:
    """A checked request. `chars`, `images`: how much it says; `marked_chars`: up to the last cache mark, None without;
    `marked_1h`: whether that mark lives an hour; `last_user`: text of the last user turn; `results`: texts of the tool
    results since."""

    body: dict[str, Any]
    model: str
    facts: ClaudeFacts
    max_tokens: int
    texts: list[str] = field(default_factory=list)
    chars: int = 0
    images: int = 0
    marked_chars: int | None = None
    marked_1h: bool = False
    marked_texts: int = 0
    last_user: str = ""
    results: list[str] = field(default_factory=list)
    ends_in_results: bool = False

    @property
    def tokens(self) -> int:
        """Input tokens: a quarter of the characters, and 3 besides."""
        return 3 + estimate_tokens(self.chars) + self.images * _IMAGE_TOKENS

    @property
    def marked_tokens(self) -> int:
        """Those of them up to the last cache mark; 0 without one, or where that is too little to be kept."""
        count = 0 if self.marked_chars is None else estimate_tokens(self.marked_chars)
        return count if count >= _CACHE_LEAST_TOKENS else 0

    def digest(self, seed: int, *, marked: bool = False) -> Digest:
        """What the reply depends on; `marked`: up to the last cache mark alone."""
        return digest_of(seed, *(self.texts[: self.marked_texts] if marked else self.texts))

    def note(self, text: str) -> None:
        """Counts a text."""
        self.texts.append(text)
        self.chars += len(text)

    def mark(self, holder: dict[str, Any]) -> None:
        """Takes note of a cache mark behind what was counted so far."""
        mark = holder.get("cache_control")
        if isinstance(mark, dict):
            if mark.get("type") != "ephemeral" or mark.get("ttl") not in (None, "5m", "1h"):
                raise invalid("cache_control: Input should be {'type': 'ephemeral', 'ttl': '5m' or '1h'}")
            self.marked_chars, self.marked_1h, self.marked_texts = self.chars, mark.get("ttl") == "1h", len(self.texts)


def read_messages(body: bytes, seed: int, *, counting: bool = False) -> MessagesRequest:
    """The request, checked. `counting`: it only asks for the number of its tokens."""
    try:
        members = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise invalid("The request body is not valid JSON.") from None
    if not isinstance(members, dict):
        raise invalid("Input should be a valid dictionary")
    for name in members:
        if name not in _MEMBERS:
            raise invalid(f"{name}: Extra inputs are not permitted")
    model = _present(members, "model", str)
    if model.startswith("no-such"):
        raise invalid(f"model: {model}", status=404)
    facts = claude_facts(model)
    max_tokens = 1 if counting else _present(members, "max_tokens", int)
    if max_tokens < 0 or isinstance(max_tokens, bool):
        raise invalid("max_tokens: Input should be greater than or equal to 0")
    if max_tokens > facts.output_tokens:
        most = f"{facts.output_tokens}, which is the maximum allowed number of output tokens for {model}"
        raise invalid(f"max_tokens: {max_tokens} > {most}")
    request = MessagesRequest(members, model, facts, max_tokens)
    _tools(request)
    _system(request)
    _messages(request, seed)
    request.mark(members)
    check_thinking(members, facts, model, max_tokens)
    _config(members, facts)
    return request


def _present(members: dict[str, Any], name: str, kind: type) -> Any:
    value = members.get(name)
    if value is None:
        raise invalid(f"{name}: Field required")
    if not isinstance(value, kind):
        raise invalid(f"{name}: Input should be a valid {'integer' if kind is int else 'string'}")
    return value


def _tools(request: MessagesRequest) -> None:
    tools = request.body.get("tools") or []
    if not isinstance(tools, list):
        raise invalid("tools: Input should be a valid list")
    names = set()
    for at, tool in enumerate(tools):
        if not isinstance(tool, dict):
            raise invalid(f"tools.{at}: Input should be a valid dictionary")
        name = tool.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise invalid(f"tools.{at}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
        if name in names:
            raise invalid("tools: Tool names must be unique.")
        names.add(name)
        schema = tool.get("input_schema")
        if tool.get("type", "custom") == "custom" and (not isinstance(schema, dict) or schema.get("type") != "object"):
            raise invalid(f"tools.{at}.custom.input_schema.type: Field required")
        request.note(msgspec.json.encode(tool).decode())
        request.mark(tool)
    choice = request.body.get("tool_choice")
    if choice is None:
        return
    if not isinstance(choice, dict) or choice.get("type") not in ("auto", "any", "tool", "none"):
        raise invalid("tool_choice: Input tag does not match any of the expected tags: 'auto', 'any', 'tool', 'none'")
    if not tools:
        raise invalid("tool_choice: tool_choice may only be specified while providing tools")
    if choice["type"] == "tool" and choice.get("name") not in names:
        raise invalid(f"tool_choice: Tool '{choice.get('name')}' not found in provided tools")
    if choice["type"] == "none" and "disable_parallel_tool_use" in choice:
        raise invalid("tool_choice.none.disable_parallel_tool_use: Extra inputs are not permitted")


def _system(request: MessagesRequest) -> None:
    system = request.body.get("system")
    if system is None:
        return
    blocks = [{"type": "text", "text": system}] if isinstance(system, str) else system
    if not isinstance(blocks, list) or not all(isinstance(b, dict) and b.get("type") == "text" for b in blocks):
        raise invalid("system: Input should be a valid string or a list of text blocks")
    for at, block in enumerate(blocks):
        _text(request, block, f"system.{at}")
        request.mark(block)


def _messages(request: MessagesRequest, seed: int) -> None:
    messages = request.body.get("messages")
    if messages is None:
        raise invalid("messages: Field required")
    if not isinstance(messages, list) or not messages:
        raise invalid("messages: at least one message is required")
    open_calls: list[str] = []
    before = ""
    for at, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ("user", "assistant", "system"):
            raise invalid(f"messages.{at}.role: Input should be 'user', 'assistant' or 'system'")
        if role == "system" and (not request.facts.system_turns or before != "user"):
            raise invalid(f"messages.{at}: role 'system' is not supported on this model or at this place")
        content = message.get("content")
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not isinstance(blocks, list) or not all(isinstance(b, dict) for b in blocks):
            raise invalid(f"messages.{at}.content: Input should be a valid string or list")
        if not blocks and at < len(messages) - 1:
            raise invalid(
                f"messages.{at}: all messages must have non-empty content except for the final assistant message"
            )
        request.note(role)
        if role == "user":
            _results(request, blocks, open_calls, at)
        elif open_calls:
            raise _unanswered(open_calls, at)
        for number, block in enumerate(blocks):
            _block(request, block, role, f"messages.{at}.content.{number}", seed)
            request.mark(block)
        if role == "assistant":
            open_calls = [b["id"] for b in blocks if b["type"] == "tool_use"]
        before = role
    if open_calls:
        raise _unanswered(open_calls, len(messages))


def _results(request: MessagesRequest, blocks: list[dict[str, Any]], open_calls: list[str], at: int) -> None:
    """Results of tools stand first, and answer each call of the turn before, once."""
    given = [block.get("tool_use_id") for block in blocks if block.get("type") == "tool_result"]
    for call_id in given:
        if call_id not in open_calls:
            raise invalid(
                f"messages.{at}.content.0: unexpected `tool_use_id` found in `tool_result` blocks: {call_id}. Each "
                "`tool_result` block must have a corresponding `tool_use` block in the previous message."
            )
        open_calls.remove(call_id)
    first = [block.get("type") == "tool_result" for block in blocks[: len(given)]]
    if open_calls or not all(first):
        raise _unanswered(open_calls or [str(one) for one in given], at)
    said = [str(block.get("text", "")) for block in blocks if block.get("type") == "text"]
    if said and not goes_on(request.last_user, "\n".join(said)):
        request.last_user, request.results = "\n".join(said), []
    request.ends_in_results = bool(given) and not said


def _unanswered(open_calls: list[str], at: int) -> ApiError:
    return invalid(
        f"messages.{max(0, at - 1)}: `tool_use` ids were found without `tool_result` blocks immediately after: "
        f"{', '.join(open_calls)}. Each `tool_use` block must have a corresponding `tool_result` block "
        "in the next message."
    )


def _block(request: MessagesRequest, block: dict[str, Any], role: str, where: str, seed: int) -> None:
    kind = block.get("type")
    if kind not in _BLOCKS:
        raise invalid(f"{where}: Input tag '{kind}' found using 'type' does not match any of the expected tags")
    match kind:
        case "text":
            _text(request, block, where)
        case "image" | "document":
            _source(request, block, where)
        case "tool_use":
            if role != "assistant":
                raise invalid(f"{where}: `tool_use` blocks can only be in `assistant` messages")
            if not isinstance(block.get("id"), str) or not _ID.fullmatch(block["id"]):
                raise invalid(f"{where}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
            if not isinstance(block.get("input"), dict):
                raise invalid(f"{where}.tool_use.input: Input should be a valid dictionary")
            request.note(msgspec.json.encode([block.get("name"), block["input"]]).decode())
        case "tool_result":
            content = block.get("content", "")
            inner = [{"type": "text", "text": content}] if isinstance(content, str) else content
            for number, one in enumerate(inner):
                if one.get("type") in ("image", "document"):
                    _source(request, one, f"{where}.content.{number}")
                else:
                    request.note(str(one.get("text", "")))
            request.results.append("\n".join(str(one.get("text", "")) for one in inner))
        case _:
            if role != "assistant":
                raise invalid(f"{where}: `{kind}` blocks can only be in `assistant` messages")
            check_thought(block, where, seed)
            request.note(str(block.get("thinking", "")))


def _text(request: MessagesRequest, block: dict[str, Any], where: str) -> None:
    text = block.get("text")
    if not isinstance(text, str):
        raise invalid(f"{where}.text.text: Field required")
    if not text:
        raise invalid(f"{where}: text content blocks must be non-empty")
    if not text.strip():
        raise invalid(f"{where}: text content blocks must contain non-whitespace text")
    request.note(text)


def _source(request: MessagesRequest, block: dict[str, Any], where: str) -> None:
    source = block.get("source")
    kind = source.get("type") if isinstance(source, dict) else None
    wanted = {"base64": ("media_type", "data"), "url": ("url",), "file": ("file_id",), "text": ("data",)}.get(str(kind))
    if not isinstance(source, dict) or (wanted is None and kind != "content"):
        raise invalid(f"{where}.{block['type']}.source: Input tag does not match any of the expected tags")
    for name in wanted or ():
        if not isinstance(source.get(name), str) or not source[name]:
            raise invalid(f"{where}.{block['type']}.source.{kind}.{name}: Field required")
    request.images += 1
    request.texts.append(msgspec.json.encode(source).decode())


def _config(members: dict[str, Any], facts: ClaudeFacts) -> None:
    stops = members.get("stop_sequences") or []
    if not isinstance(stops, list) or not all(isinstance(one, str) and one.strip() for one in stops):
        raise invalid("stop_sequences: each stop sequence must contain non-whitespace")
    for name in ("temperature", "top_p"):
        value = members.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1):
            raise invalid(f"{name}: range: 0..1")
    config = members.get("output_config") or {}
    effort = config.get("effort") if isinstance(config, dict) else None
    if effort is not None and (effort not in _EFFORTS or not facts.takes_effort):
        raise invalid("output_config.effort: This model does not support the effort parameter.")
    shape = config.get("format") if isinstance(config, dict) else None
    if shape is not None:
        if (
            not isinstance(shape, dict)
            or shape.get("type") != "json_schema"
            or not isinstance(shape.get("schema"), dict)
        ):
            raise invalid("output_config.format.type: Input should be 'json_schema'")
        _closed(shape["schema"])


def _closed(schema: Any) -> None:
    if isinstance(schema, dict):
        if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
            raise invalid(
                "output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set to false"
            )
        for value in schema.values():
            _closed(value)
    elif isinstance(schema, list):
        for value in schema:
            _closed(value)
