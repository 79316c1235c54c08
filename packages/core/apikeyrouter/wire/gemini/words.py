"""Google's words and ours: why a reply ended, status names, kinds of media.

Sources: https://ai.google.dev/api/generate-content (FinishReason, BlockReason), google-genai 3.4 `types.py`, and
https://cloud.google.com/apis/design/errors (status names), read 2026-11-21.
"""

from __future__ import annotations

from apikeyrouter.wire.facts import MediaKind, Stop

__all__ = ["finish_reason", "kind_of_mime", "status_name", "stop_of"]

_STOPS = {
    "STOP": Stop.End,
    "MAX_TOKENS": Stop.Length,
    "CONTINUATION": Stop.Pause,
    "SAFETY": Stop.Filter,
    "RECITATION": Stop.Filter,
    "LANGUAGE": Stop.Filter,
    "BLOCKLIST": Stop.Filter,
    "PROHIBITED_CONTENT": Stop.Filter,
    "SPII": Stop.Filter,
    "MODEL_ARMOR": Stop.Filter,
    "ESCALATION": Stop.Filter,
    "IMAGE_SAFETY": Stop.Filter,
    "IMAGE_PROHIBITED_CONTENT": Stop.Filter,
    "IMAGE_RECITATION": Stop.Filter,
    "IMAGE_OTHER": Stop.Filter,
}
"""What is not here (OTHER, MALFORMED_FUNCTION_CALL, MALFORMED_RESPONSE, TOO_MANY_TOOL_CALLS, NO_IMAGE ...) is the end
of a reply that went wrong; no other format has a word for it."""

# Values of the enum on the wire of gRPC and of some recordings (google.ai.generativelanguage.v1beta, Candidate).
_NUMBERS = ("FINISH_REASON_UNSPECIFIED", "STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "OTHER", "BLOCKLIST",
            "PROHIBITED_CONTENT", "SPII", "MALFORMED_FUNCTION_CALL")  # fmt: skip

_REASONS = {Stop.Length: "MAX_TOKENS", Stop.Filter: "SAFETY", Stop.Refusal: "SAFETY", Stop.Context: "MAX_TOKENS"}

_STATUSES = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 402: "FAILED_PRECONDITION", 403: "PERMISSION_DENIED",
    404: "NOT_FOUND", 405: "UNIMPLEMENTED", 408: "DEADLINE_EXCEEDED", 409: "ABORTED", 413: "INVALID_ARGUMENT",
    422: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED", 499: "CANCELLED", 500: "INTERNAL", 501: "UNIMPLEMENTED",
    502: "UNAVAILABLE", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED", 529: "UNAVAILABLE",
}  # fmt: skip


def stop_of(reason: object, *, calls: bool) -> Stop | None:
    """Why a candidate ended; None as long as it has not. `calls`: whether it calls functions: Google says STOP then,
    and UNEXPECTED_TOOL_CALL for functions that were not declared."""
    if isinstance(reason, int) and not isinstance(reason, bool):
        reason = _NUMBERS[reason] if 0 <= reason < len(_NUMBERS) else "OTHER"
    if not isinstance(reason, str) or reason in ("", "FINISH_REASON_UNSPECIFIED"):
        return None
    stop = _STOPS.get(reason, Stop.End)
    return Stop.Tools if stop is Stop.End and calls else stop


def finish_reason(stop: Stop | None) -> str:
    """Google's word for it; STOP also for calls and stop sequences."""
    return _REASONS.get(stop, "STOP") if stop is not None else "FINISH_REASON_UNSPECIFIED"


def status_name(status: int) -> str:
    """The canonical name that stands beside an HTTP status."""
    return _STATUSES.get(status) or ("INVALID_ARGUMENT" if status < 500 else "INTERNAL")


def kind_of_mime(mime: str) -> MediaKind:
    """What a MIME type holds."""
    family = mime.partition("/")[0].lower()
    return _KINDS.get(family, MediaKind.Document)


_KINDS = {"image": MediaKind.Image, "audio": MediaKind.Audio, "video": MediaKind.Video}
