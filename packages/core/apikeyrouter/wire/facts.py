"""A conversation in no provider's words: what every format can be read into and written from.

Three families: `Ask` (a request), `Answer` (a whole reply) and `Event` (a piece of a streamed reply). Lists of parts
keep their order, since it carries meaning (text between tool calls, reasoning before both).

Laws: reading loses nothing silently: what no value here can hold is reported by name (`losses.Losses`); ids of tool
calls, signatures and encrypted reasoning are kept byte for byte; arguments of tool calls are JSON *text*, as written.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from apikeyrouter.domain.cost.usage import Usage

__all__ = [
    "Answer", "AnswerShape", "Ask", "Choice", "ErrorFact", "Event", "Failed", "Finished", "Media", "MediaKind", "Part",
    "PartDelta", "PartEnded", "PartStarted", "Reasoning", "ReasoningWish", "Refusal", "Role", "Started", "Stop", "Text",
    "Tool", "ToolCall", "ToolChoice", "ToolResult", "Turn", "UsageTold",
]  # fmt: skip


class Role(StrEnum):
    """Who speaks. Instructions (system, developer) are turns like others, where they stood. Tool results are parts of
    `Tool` turns; formats in which users bring them put them there when they are read."""

    System = "system"
    Developer = "developer"
    User = "user"
    Assistant = "assistant"
    Tool = "tool"


class MediaKind(StrEnum):
    """What a `Media` part holds. Document: PDF or text file."""

    Image = "image"
    Audio = "audio"
    Video = "video"
    Document = "document"


class Stop(StrEnum):
    """Why a reply ended. End: it was complete. Filter: withheld for its content. Refusal: the model declined. Pause: a
    long turn was interrupted and may be continued. Context: the model's window was full."""

    End = "end"
    Length = "length"
    Sequence = "sequence"
    Tools = "tools"
    Filter = "filter"
    Refusal = "refusal"
    Pause = "pause"
    Context = "context"


# -- parts ----------------------------------------------------------------------------------------------------------


class Text(msgspec.Struct, gc=False):
    """Plain text. `cache`: the caller's mark that the prompt may be cached up to here, in Anthropic's shape
    (`{"type": "ephemeral", "ttl": "1h"}`); formats without such marks leave it out without loss of meaning.
    `annotations`: citations in OpenAI's shape (`url_citation` ...), of replies."""

    text: str
    cache: dict[str, Any] | None = None
    annotations: list[dict[str, Any]] | None = None


class Media(msgspec.Struct, gc=False):
    """A picture, sound, video or document. Exactly one of `data` (base64), `url` (http, https or gs), `file_id` (of the
    provider that stores it) and `text` (a document's plain text) is set. `mime`: "" when not told. `detail`: OpenAI's
    wish for pictures. `name`: a document's file name or title."""

    kind: MediaKind
    mime: str = ""
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    text: str | None = None
    name: str | None = None
    detail: str | None = None
    cache: dict[str, Any] | None = None


class ToolCall(msgspec.Struct, gc=False):
    """The model asks for a tool. `arguments`: JSON text of an object; "" counts as {}. `id`: "" where the format has
    none (Gemini): writers make one up, the same for the call and its result. `signature`: what the provider wants back
    with it (Gemini's `thoughtSignature`, base64)."""

    id: str
    name: str
    arguments: str
    cache: dict[str, Any] | None = None
    signature: str | None = None


class ToolResult(msgspec.Struct, gc=False):
    """What a tool returned. `call_id`: of the `ToolCall` that it answers. `name`: of the tool, where told; writers that
    need one look it up by the id. `parts`: texts and media."""

    call_id: str
    parts: list[Text | Media]
    name: str | None = None
    is_error: bool = False
    cache: dict[str, Any] | None = None


class Reasoning(msgspec.Struct, gc=False):
    """What the model thought, as far as it is told. `text`: thoughts or their summary. `signature`: proof of `text`
    that its provider wants back (Anthropic's, Gemini's). `encrypted`: thoughts that only their provider can read
    (Anthropic's redacted thinking, OpenAI's encrypted content). `id`: OpenAI's of the reasoning item. `origin`: the
    format that it came from: signatures and ciphers mean nothing elsewhere."""

    text: str = ""
    signature: str | None = None
    encrypted: str | None = None
    id: str | None = None
    origin: str = ""


class Refusal(msgspec.Struct, gc=False):
    """The model's words of refusal, where a format tells them apart from text."""

    text: str


Part = Text | Media | ToolCall | ToolResult | Reasoning | Refusal


# -- request --------------------------------------------------------------------------------------------------------


class Turn(msgspec.Struct, gc=False):
    """One turn. `name`: of the speaker, where given."""

    role: Role
    parts: list[Part]
    name: str | None = None


class Tool(msgspec.Struct, gc=False):
    """A function that the model may call. `schema`: JSON schema of its arguments, None when it takes none. Tools that
    providers run themselves (web search ...) exist in their own format alone and are refused by name elsewhere."""

    name: str
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    cache: dict[str, Any] | None = None


class ToolChoice(msgspec.Struct, gc=False):
    """`mode`: "auto", "none", "required" (any tool) or "named" (the one of `name`). `parallel`: whether several calls
    at once are allowed; None: the provider's default. Where a provider cannot be told, `one_call` sees to it."""

    mode: str = "auto"
    name: str | None = None
    parallel: bool | None = None


class AnswerShape(msgspec.Struct, gc=False):
    """How the reply must look. `kind`: "json" (any object) or "schema" (`schema`, with `name` and `strict`)."""

    kind: str
    name: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class ReasoningWish(msgspec.Struct, gc=False):
    """How much to think. `effort`: "none", "minimal", "low", "medium", "high", "xhigh" or "max". `budget_tokens`: a cap
    (0: do not think; -1: the model decides). `tell`: whether the caller wants to see thoughts; None: not said."""

    effort: str | None = None
    budget_tokens: int | None = None
    tell: bool | None = None


class Ask(msgspec.Struct, gc=False):
    """A request for a reply. Absent wishes are None. `stop`: sequences. `n`: replies wanted. `want_usage`: whether a
    stream shall tell its usage. `user`: the caller's own word for its end user."""

    model: str
    turns: list[Turn]
    tools: list[Tool] = []
    tool_choice: ToolChoice | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: list[str] = []
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    n: int | None = None
    logprobs: int | None = None
    shape: AnswerShape | None = None
    reasoning: ReasoningWish | None = None
    verbosity: str | None = None
    service_tier: str | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None
    cache_key: str | None = None
    stream: bool = False
    want_usage: bool = True


# -- reply ----------------------------------------------------------------------------------------------------------


class Choice(msgspec.Struct, gc=False):
    """One reply. `stop_sequence`: which one ended it. `logprobs`: in OpenAI chat's shape."""

    parts: list[Part]
    stop: Stop | None = Stop.End
    stop_sequence: str | None = None
    logprobs: dict[str, Any] | None = None


class Answer(msgspec.Struct, gc=False):
    """A whole reply. `id`: the provider's; writers put their format's prefix in front where one is usual. `created_s`:
    Unix seconds, 0 when not told."""

    id: str
    model: str
    choices: list[Choice]
    usage: Usage | None = None
    created_s: int = 0
    service_tier: str | None = None


class ErrorFact(msgspec.Struct, gc=False):
    """An error. `status`: the HTTP status. `code`: a short word for programs, None when there is none. `param`: the
    member of the request that it is about. `facts`: more members, in a format that has room for them."""

    status: int
    message: str
    code: str | None = None
    param: str | None = None
    request_id: str | None = None
    facts: dict[str, Any] | None = None


# -- stream ---------------------------------------------------------------------------------------------------------


class Started(msgspec.Struct, gc=False):
    """The reply begins: exactly one, first. `usage`: what is known of the input already."""

    id: str
    model: str
    usage: Usage | None = None
    created_s: int = 0


class PartStarted(msgspec.Struct, gc=False):
    """A part begins. `index`: counts the parts of a choice from 0, in order. `part`: an empty `Text`, `Reasoning`,
    `Refusal`, or a `ToolCall` with id and name and arguments "", or a whole `Media`."""

    index: int
    part: Part
    choice: int = 0


class PartDelta(msgspec.Struct, gc=False):
    """More of a running part. `text`: of its text, thoughts, refusal or arguments. `signature`, `encrypted`: of
    `Reasoning` or `ToolCall`, whole. `annotations`: of `Text`, new ones. `logprobs`: as in `Choice`, of this piece."""

    index: int
    text: str = ""
    choice: int = 0
    signature: str | None = None
    encrypted: str | None = None
    annotations: list[dict[str, Any]] | None = None
    logprobs: dict[str, Any] | None = None


class PartEnded(msgspec.Struct, gc=False):
    """A part is complete. Every started part ends, before its choice finishes."""

    index: int
    choice: int = 0


class Finished(msgspec.Struct, gc=False):
    """A choice is complete."""

    stop: Stop
    stop_sequence: str | None = None
    choice: int = 0


class UsageTold(msgspec.Struct, gc=False):
    """What the whole request used; a later one replaces an earlier one."""

    usage: Usage
    service_tier: str | None = None


class Failed(msgspec.Struct, gc=False):
    """The provider ended the stream with an error. Nothing follows."""

    error: ErrorFact


Event = Started | PartStarted | PartDelta | PartEnded | Finished | UsageTold | Failed
