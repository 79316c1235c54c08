"""generateContent requests, checked as Google checks them, in its words.

Main entry: `read_content`. Members that do not exist, calls without as many results, calls of Gemini 3 without their
proof: all are refused, so that whoever translates into this format is found out. Sources (read 2026-11-21):
https://ai.google.dev/api/generate-content, /gemini-api/docs/thought-signatures, and recorded refusals.
Law: raises `ApiError` and nothing else, whatever the body.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

import msgspec

from apikeyrouter.simulation.api_errors import invalid
from apikeyrouter.simulation.script import goes_on
from apikeyrouter.simulation.text import Digest, digest_of, estimate_tokens

__all__ = ["ContentRequest", "digest", "members_of", "proof_of", "read_content", "read_members"]

_MEMBERS = frozenset({
    "contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "safetySettings", "cachedContent",
    "labels", "serviceTier", "store", "model",
})  # fmt: skip
_CONFIG = frozenset({
    "stopSequences", "responseMimeType", "responseSchema", "responseJsonSchema", "responseModalities", "candidateCount",
    "maxOutputTokens", "temperature", "topP", "topK", "seed", "presencePenalty", "frequencyPenalty", "responseLogprobs",
    "logprobs", "enableEnhancedCivicAnswers", "speechConfig", "thinkingConfig", "imageConfig", "mediaResolution",
})  # fmt: skip
_PARTS = ("text", "inlineData", "fileData", "functionCall", "functionResponse", "executableCode", "codeExecutionResult")
_BESIDE = frozenset({"thought", "thoughtSignature", "videoMetadata", "partMetadata", "mediaResolution"})
_DECLARATION = frozenset({
    "name", "description", "parameters", "parametersJsonSchema", "response", "responseJsonSchema", "behavior",
})  # fmt: skip
_SKIPS = ("skip_thought_signature_validator", "context_engineering_is_the_way_to_go")
_MEDIA_TOKENS = 258  # what a small picture counts (https://ai.google.dev/gemini-api/docs/tokens)


@dataclass(slots=True)
class ContentRequest:
    """A checked request. `last_user`: text of the last user turn; `results`: what functions returned since;
    `functions`: the declared ones; `config`: `generationConfig`."""

    model: str
    config: dict[str, Any]
    texts: list[str] = field(default_factory=list)
    chars: int = 0
    media: int = 0
    last_user: str = ""
    results: list[str] = field(default_factory=list)
    functions: list[dict[str, Any]] = field(default_factory=list)
    mode: str = "AUTO"
    allowed: list[str] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """Input tokens: one, a quarter of the characters, and 258 for each picture or file."""
        return 1 + estimate_tokens(self.chars) + self.media * _MEDIA_TOKENS

    def note(self, text: str) -> None:
        """Counts a text."""
        self.texts.append(text)
        self.chars += len(text)


def members_of(value: Any, where: str, allowed: frozenset[str]) -> dict[str, Any]:
    """An object's members in camelCase. Raises ApiError for what is none, or has others than `allowed`."""
    if not isinstance(value, dict):
        raise invalid(f"Invalid value at '{where or 'body'}', expected an object")
    out = {_camel(name): one for name, one in value.items() if one is not None}
    for name in out:
        if name not in allowed:
            place = f' at "{where}"' if where else ""
            raise invalid(f'Invalid JSON payload received. Unknown name "{name}"{place}: Cannot find field.')
    return out


def read_content(body: bytes, model: str, seed: int) -> ContentRequest:
    """The request, checked. Raises ApiError."""
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise invalid("Invalid JSON payload received. Unexpected token.") from None
    return read_members(decoded, model, seed)


def read_members(decoded: Any, model: str, seed: int) -> ContentRequest:
    """The same from a decoded body."""
    try:
        return _read_members(decoded, model, seed)
    except (AttributeError, KeyError, TypeError) as fault:  # something is of another kind than it must be
        raise invalid(f"Invalid JSON payload received. Invalid value: {fault}") from None


def _read_members(decoded: Any, model: str, seed: int) -> ContentRequest:
    told = members_of(decoded, "", _MEMBERS)
    request = ContentRequest(model, members_of(told.get("generationConfig", {}), "generation_config", _CONFIG))
    _check_config(request.config)
    if "systemInstruction" in told:
        for part in told["systemInstruction"].get("parts", []):
            request.note(str(part.get("text", "")))
    _read_tools(told, request)
    contents = told.get("contents")
    if not isinstance(contents, list) or not contents:
        raise invalid("* GenerateContentRequest.contents: contents is not specified")
    calls = 0
    for at, content in enumerate(contents):
        one = members_of(content, f"contents[{at}]", frozenset({"role", "parts"}))
        role = one.get("role", "user")
        if role not in ("user", "model", "function"):
            raise invalid("Please use a valid role: user, model.")
        parts = one.get("parts")
        if not isinstance(parts, list) or not parts:
            raise invalid(
                f"* GenerateContentRequest.contents[{at}].parts: contents.parts must not be empty.",
            )
        calls = _read_parts(request, parts, f"contents[{at}].parts", role, calls, seed)
    return request


def _read_parts(request: ContentRequest, parts: list[Any], where: str, role: str, calls: int, seed: int) -> int:
    """Reads one turn; returns how many calls it leaves open. `calls`: those that the turn before did."""
    told = [members_of(part, f"{where}[{i}]", frozenset(_PARTS) | _BESIDE) for i, part in enumerate(parts)]
    answers = [part for part in told if "functionResponse" in part]
    if len(answers) != calls and (answers or calls):
        raise invalid(
            "Please ensure that the number of function response parts is equal to the number of function call parts of "
            "the function call turn."
        )
    opened = [part for part in told if "functionCall" in part]
    if opened and role != "model":
        raise invalid("Please ensure that function call turn comes from the model.")
    if opened and request.model.startswith("gemini-3"):
        _check_proof(opened[0], seed)
    for part in told:
        kinds = [name for name in _PARTS if name in part]
        if len(kinds) != 1:
            raise invalid(f"{where}: required oneof field 'data' must have one initialized field")
        _note_part(request, part, kinds[0])
    if role != "model":
        said = "".join(part["text"] for part in told if "text" in part)
        if (said or not answers) and not goes_on(request.last_user, said):
            request.last_user, request.results = said or request.last_user, []
        request.results += [msgspec.json.encode(one["functionResponse"]["response"]).decode() for one in answers]
    return len(opened)


def _note_part(request: ContentRequest, part: dict[str, Any], kind: str) -> None:
    value = part[kind]
    match kind:
        case "text":
            if not isinstance(value, str):
                raise invalid("Invalid value at 'text' (TYPE_STRING)")
            request.note(value)
        case "inlineData" | "fileData":
            named = "data" if kind == "inlineData" else "fileUri"
            blob = members_of(value, kind, frozenset({"mimeType", "displayName", named}))
            if named not in blob:
                raise invalid(f"{kind}.{named}: required")
            request.media += 1
        case "functionCall" | "functionResponse":
            members = {"name", "id", "args"} if kind == "functionCall" else {"name", "id", "response", "parts"}
            call = members_of(value, kind, frozenset(members))
            if not isinstance(call.get("name"), str) or not call["name"]:
                raise invalid(f"{kind}.name: Name cannot be empty.")
            if kind == "functionResponse" and not isinstance(call.get("response"), dict):
                raise invalid("Invalid value at 'function_response.response' (Map)")
            request.note(msgspec.json.encode(value).decode())
        case _:
            request.note(str(value))


def _check_config(config: dict[str, Any]) -> None:
    stops = config.get("stopSequences", [])
    if len(stops) > 5:
        raise invalid("The number of stop sequences must be at most 5.")
    most = config.get("maxOutputTokens")
    if most is not None and (type(most) is not int or most < 1):
        raise invalid("max_output_tokens must be positive.")
    if "responseJsonSchema" in config and config.get("responseMimeType") != "application/json":
        raise invalid("Response schema requires response_mime_type application/json")
    count = config.get("candidateCount", 1)
    if type(count) is not int or not 1 <= count <= 8:
        raise invalid("Invalid candidate_count: only 1 to 8 candidates are supported")


def _read_tools(told: dict[str, Any], request: ContentRequest) -> None:
    for at, tool in enumerate(told.get("tools", [])):
        if not isinstance(tool, dict):
            raise invalid(f"Invalid value at 'tools[{at}]'")
        for name, value in tool.items():
            if _camel(name) != "functionDeclarations":
                continue
            for place, declared in enumerate(value):
                one = members_of(declared, f"tools[{at}].function_declarations[{place}]", _DECLARATION)
                if not one.get("name"):
                    raise invalid(f"tools[{at}].function_declarations[{place}].name: required")
                schema = one.get("parametersJsonSchema") or one.get("parameters") or {"type": "object"}
                request.functions.append({"name": one["name"], "parameters": schema})
                request.note(msgspec.json.encode(declared).decode())
    config = told.get("toolConfig", {})
    calling = config.get("functionCallingConfig", config.get("function_calling_config", {}))
    request.mode = calling.get("mode", "AUTO")
    request.allowed = calling.get("allowedFunctionNames", calling.get("allowed_function_names", []))
    if request.mode == "ANY" and not request.functions:
        raise invalid("Function calling config is set without function_declarations.")


def proof_of(name: str, args: str, seed: int) -> str:
    """The signature of a call."""
    return base64.b64encode(digest_of(seed, "thought", name, args)).decode()


def _check_proof(part: dict[str, Any], seed: int) -> None:
    """The first call of a turn must bring its signature back on the very part, or the word for calls from elsewhere."""
    call = part["functionCall"]
    args = msgspec.json.encode(call.get("args", {}), order="sorted").decode()
    given = part.get("thoughtSignature")
    if given is None:
        raise invalid(
            "Function call is missing a thought_signature in functionCall parts. This is required for tools to work "
            f"correctly. Additional data, function call `default_api:{call.get('name')}`."
        )
    if given not in _SKIPS and given != proof_of(str(call.get("name")), args, seed):
        raise invalid("Thought signature is not valid.")


def digest(request: ContentRequest, seed: int) -> Digest:
    """What a reply depends on."""
    return digest_of(seed, *request.texts)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(one[:1].upper() + one[1:] for one in rest)
