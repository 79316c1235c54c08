"""Error bodies of every provider, read into one small value.

Main entries: `decode_error` for a reply's body, `error_of` for decoded JSON, `header_request_id`.
Laws: never raises; reads at most `BODY_MAX` bytes; trusts no type: each field may be anything. Only fields of the
envelope become `reasons` (which rules match exactly); a message is prose, and may quote what a caller wrote.
Envelopes: OpenAI {error:{message,type,param,code}}, Anthropic {type:"error",error:{...},request_id}, Google
{error:{code,message,status,details[]}} also in an array or encoded twice, OpenRouter {error:{code:int,metadata}}, Azure
{error:{code,innererror}}, xAI {code,error:"text"}, Responses events, Cohere and Bedrock {message}, Mistral {message} or
{detail}, HTML of CDNs, plain text, nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from html import unescape

import msgspec

__all__ = ["BODY_MAX", "ErrorBody", "decode_error", "error_of", "header_request_id", "load_json", "with_header_code"]

BODY_MAX = 262_144
"""Bytes of an error body that are looked at. Real ones are below 20 kB."""

_LIST_MAX = 32
_WORD_MAX = 128
_MESSAGE_MAX = 8_192

_REQUEST_ID_HEADERS = (
    b"x-request-id",
    b"request-id",
    b"apim-request-id",
    b"x-ms-request-id",
    b"x-amzn-requestid",
    b"x-generation-id",
    b"x-goog-request-id",
    b"cf-ray",
)
_TITLE = re.compile(r"<title[^>]*>([^<]{1,200})</title", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]{0,500}>")
_HTML = re.compile(r"\s*<(?:!doctype|html|head|body|\?xml)", re.IGNORECASE)

JsonObject = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """What an error body says. Strings are as the provider wrote them: redact before keeping.

    `reasons`: machine-readable words, lower case, the most specific first: reasons in details, inner codes, then code
    and type. `details`: the objects that came with it (Google's `details`, OpenRouter's `metadata`, Anthropic's
    `details`). `status`: the HTTP status that the body itself names, 100..599. `html`: a page, so not the API speaking.
    """

    type: str | None = None
    code: str | None = None
    message: str = ""
    param: str | None = None
    reasons: tuple[str, ...] = ()
    details: tuple[JsonObject, ...] = ()
    status: int | None = None
    request_id: str | None = None
    html: bool = False


def load_json(data: bytes) -> object | None:
    """Decoded JSON, or None when it is none (or null, or nested beyond reason)."""
    try:
        value: object = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return value


def _word(value: object) -> str | None:
    """A code as text: a string or a whole number that is not too long; else None."""
    if value is None:  # as nearly all are
        return None
    if isinstance(value, str):
        text = value.strip()
    elif isinstance(value, int) and not isinstance(value, bool) and -(10**9) < value < 10**9:
        text = str(value)
    else:
        return None
    return text if 0 < len(text) <= _WORD_MAX else None


def _status(value: object) -> int | None:
    word = None if value is None else _word(value)
    if word is None or not (word.isascii() and word.isdigit() and len(word) == 3):
        return None
    return int(word) if 100 <= int(word) <= 599 else None


def _objects(value: object) -> tuple[JsonObject, ...]:
    if isinstance(value, dict):
        return (value,)
    if isinstance(value, list):
        return tuple(item for item in value[:_LIST_MAX] if isinstance(item, dict))
    return ()


def _prose(value: object) -> str:
    """A sentence out of a message field, whatever it holds."""
    if isinstance(value, str):
        return value[:_MESSAGE_MAX]
    if isinstance(value, list):
        # validation errors: [{"loc": [...], "msg": "..."}]
        parts = [item.get("msg") or item.get("message") if isinstance(item, dict) else item for item in value[:8]]
        return "; ".join(part for part in parts if isinstance(part, str))[:_MESSAGE_MAX]
    if isinstance(value, dict):
        return _prose(value.get("message") or value.get("msg") or value.get("detail") or "")
    return ""


def _google_reasons(details: tuple[JsonObject, ...]) -> Iterable[object]:
    """ErrorInfo's reason, and quota violations in the words that the rules know: quota_zero, _per_day, _per_minute."""
    ids: list[str] = []
    for detail in details:
        yield detail.get("reason")
        for violation in _objects(detail.get("violations")):
            quota_id = violation.get("quotaId")
            if isinstance(quota_id, str):
                ids.append(quota_id.lower())
            if violation.get("quotaValue") in ("0", 0):
                yield "quota_zero"
    for part, reason in (("perday", "quota_per_day"), ("perminute", "quota_per_minute")):
        if any(part in quota_id for quota_id in ids):
            yield reason


def _reasons(error: JsonObject, details: tuple[JsonObject, ...], outer: JsonObject) -> tuple[str, ...]:
    found: list[object] = [*_google_reasons(details)] if details else []
    for detail in details:
        found += [detail.get("error_code"), detail.get("limit_source"), detail.get("error_type"), detail.get("code")]
    inner: object = error.get("innererror")
    for _ in range(3):  # Azure nests innererror in innererror
        if not isinstance(inner, dict):
            break
        found.append(inner.get("code"))
        inner = inner.get("innererror")
    found += [error.get("code"), error.get("status"), error.get("type")]
    if outer is not error:
        found += [outer.get("code"), outer.get("status"), outer.get("type")]
    words = [_word(value) for value in found if value is not None]
    return tuple(dict.fromkeys([word.lower() for word in words if word is not None and not word.isdigit()]))


def _build(error: JsonObject, outer: JsonObject) -> ErrorBody:
    details = _objects(error.get("details")) + _objects(error.get("metadata")) + _objects(outer.get("detail"))
    message = _prose(error.get("message") or error.get("msg") or error.get("detail") or "")
    raw = next((d["raw"] for d in details if isinstance(d.get("raw"), str)), None) if details else None
    if isinstance(raw, str):  # OpenRouter: what the provider behind it said
        message = f"{message}: {raw[:2_000]}" if message else raw[:2_000]
    kinds = (error.get("type"), error.get("status"), outer.get("type"))
    code = _word(error.get("code")) or _word(outer.get("code"))
    status = next((s for s in map(_status, _statuses(error, outer)) if s is not None), None)
    return ErrorBody(
        type=next((kind for kind in map(_word, kinds) if kind is not None and not kind.isdigit()), None),
        code=code,
        message=message,
        param=_word(error.get("param")) or _violated(details),
        reasons=_reasons(error, details, outer),
        details=details,
        status=status,
        request_id=_word(outer.get("request_id")) or _word(error.get("request_id")),
    )


def _violated(details: Iterable[JsonObject]) -> str | None:
    """The first field that Google's `BadRequest` details name."""
    for detail in details:
        violations = detail.get("fieldViolations")
        if isinstance(violations, list) and violations and isinstance(violations[0], dict):
            return _word(violations[0].get("field"))
    return None


def _statuses(error: JsonObject, outer: JsonObject) -> tuple[object, ...]:
    return (
        error.get("status_code"),
        error.get("status"),
        error.get("code"),
        outer.get("status_code"),
        outer.get("status"),
        outer.get("code"),
    )


def error_of(value: object, *, depth: int = 0) -> ErrorBody | None:
    """The error in a decoded JSON value, or None when it carries none: `error` absent or null, and no error's type."""
    if isinstance(value, list):
        return next((body for body in (error_of(item, depth=depth) for item in value[:4]) if body is not None), None)
    if not isinstance(value, dict):
        return None
    error = value.get("error")
    if isinstance(error, dict) and error:
        body = _build(error, value)
        return _encoded_twice(body, depth) or body
    if isinstance(error, str) and error:  # xAI, Ollama, TGI
        return _build({**value, "message": error, "error": None}, value)
    if isinstance(error, list) and error:
        return _build({"message": error}, value)
    if value.get("type") == "response.failed":
        response = value.get("response")
        return error_of(response, depth=depth) if isinstance(response, dict) else ErrorBody(type="server_error")
    if value.get("type") == "error" or value.get("object") == "error":
        return _build({**value, "type": None} if value.get("type") == "error" else value, value)
    return None


def _encoded_twice(body: ErrorBody, depth: int) -> ErrorBody | None:
    """The inner error when the whole message is itself an error in JSON, as some wrappers of Google's API send it."""
    text = body.message.strip()
    if depth >= 2 or text[:1] not in ("{", "["):
        return None
    return error_of(load_json(text.encode("utf-8", "surrogatepass")), depth=depth + 1)


def decode_error(body: bytes) -> ErrorBody:
    """What an error reply's body says; for a reply whose status already says that it is an error."""
    body = body[:BODY_MAX]
    value = load_json(body)
    if value is not None:
        found = error_of(value)
        if found is not None:
            return found
        if isinstance(value, list):
            value = next((item for item in value if isinstance(item, dict)), value)
        if isinstance(value, dict):
            said = value.get("message") or value.get("Message")  # Amazon has both
            prose = _prose(said or value.get("detail") or value.get("msg") or value.get("errors"))
            return _build({**value, "message": prose}, value)
        return ErrorBody(message=_prose(value))
    text = body.decode("utf-8", "replace")[:_MESSAGE_MAX]
    if text.lstrip().startswith(("data:", "event:")):  # a stream's frame where a body was due
        for line in text.splitlines()[:8]:
            found = error_of(load_json(line[5:].encode())) if line.startswith("data:") else None
            if found is not None:
                return found
    if _HTML.match(text):
        title = _TITLE.search(text)
        return ErrorBody(message=unescape(title.group(1) if title else _TAG.sub(" ", text)), html=True)
    return ErrorBody(message=text)


def with_header_code(error: ErrorBody, headers: Iterable[tuple[bytes, bytes]]) -> ErrorBody:
    """The error with the code that Amazon puts into a header (`x-amzn-ErrorType: ThrottlingException:http://...`),
    where the body tells none."""
    if error.code is not None:
        return error
    told = next((value for name, value in headers if name.lower() == b"x-amzn-errortype"), b"")
    code = _word(told.decode("latin-1").partition(":")[0].rpartition("#")[2])
    return error if code is None else replace(error, code=code, reasons=(code.lower(), *error.reasons))


def header_request_id(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The provider's id of the request, to quote to its support; printable ASCII of at most 128 characters, or None."""
    found = {name.lower(): value for name, value in headers}
    for name in _REQUEST_ID_HEADERS:
        text = found.get(name, b"").decode("latin-1").strip()
        if text and len(text) <= _WORD_MAX and text.isascii() and text.isprintable():
            return text
    return None
