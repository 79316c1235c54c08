"""Pictures, sound, video and documents: `inlineData` and `fileData`, both ways.

Google fetches public https URLs itself (January 2026, at Vertex AI longer; models before 2.5 only there:
https://blog.google/innovation-and-ai/technology/developers-tools/gemini-api-new-file-limits), YouTube's, its files
and gs:// objects. We never fetch anything.
Law: base64 is passed on as it came.
"""

from __future__ import annotations

import base64
import mimetypes
import re
from typing import Any
from urllib.parse import urlsplit

from apikeyrouter.wire.codec import MalformedError
from apikeyrouter.wire.facts import Media, MediaKind
from apikeyrouter.wire.gemini.members import fields, text
from apikeyrouter.wire.gemini.words import kind_of_mime
from apikeyrouter.wire.losses import Losses

__all__ = ["blob_part", "file_part", "media_part"]

_OWN_FILES = re.compile(r"(?:https://generativelanguage\.googleapis\.com/[^/]+/)?files/[\w-]+", re.ASCII)
_YOUTUBE = frozenset(("youtube.com", "www.youtube.com", "youtu.be", "m.youtube.com"))
_DEFAULTS = {
    MediaKind.Image: "image/jpeg",
    MediaKind.Audio: "audio/mpeg",
    MediaKind.Video: "video/mp4",
    MediaKind.Document: "application/pdf",
}


def blob_part(value: object, where: str) -> Media:
    """`inlineData` of a request or reply. Raises MalformedError."""
    blob = fields(value, where)
    mime = text(blob.get("mimeType", ""), f"{where}.mimeType")
    data = text(blob.get("data"), f"{where}.data")
    return Media(kind_of_mime(mime), mime, data, name=_name(blob))


def file_part(value: object, where: str) -> Media:
    """`fileData` of a request. Raises MalformedError."""
    told = fields(value, where)
    uri = text(told.get("fileUri"), f"{where}.fileUri")
    mime = text(told.get("mimeType", ""), f"{where}.mimeType") or _guessed(uri) or ""
    if _OWN_FILES.fullmatch(uri):
        return Media(kind_of_mime(mime), mime, file_id=uri, name=_name(told))
    if not uri.startswith(("https://", "http://", "gs://")):
        raise MalformedError(f"'{where}.fileUri' must be a URL (https:// or gs://)", param=f"{where}.fileUri")
    return Media(kind_of_mime(mime), mime, url=uri, name=_name(told))


def media_part(media: Media, losses: Losses) -> dict[str, Any] | None:
    """The part for a provider; None (and told) when it cannot be said."""
    if media.detail not in (None, "auto"):
        losses.harmless("detail")
    if media.name is not None:
        losses.harmless("filename")
    if media.data is not None:
        return {"inlineData": {"mimeType": media.mime or _DEFAULTS[media.kind], "data": media.data}}
    if media.text is not None:
        data = base64.b64encode(media.text.encode()).decode()
        return {"inlineData": {"mimeType": media.mime or "text/plain", "data": data}}
    if media.file_id is not None:
        if not _OWN_FILES.fullmatch(media.file_id):
            losses.content("file_id", f"{media.file_id!r} is a file of another provider; send its data instead")
            return None
        return _file(media, media.file_id)
    return _linked(media, media.url or "", losses)


def _linked(media: Media, url: str, losses: Losses) -> dict[str, Any] | None:
    if not url.startswith(("https://", "http://", "gs://")):
        losses.content("url", "is neither an http(s) nor a gs:// URL")
        return None
    return _file(media, url)


def _file(media: Media, uri: str) -> dict[str, Any]:
    mime = media.mime or _guessed(uri)
    if mime is None and not _OWN_FILES.fullmatch(uri):
        mime = _DEFAULTS[media.kind]
    return {"fileData": {"mimeType": mime, "fileUri": uri} if mime else {"fileUri": uri}}


def _guessed(uri: str) -> str | None:
    """The MIME type that a URL's ending suggests: Vertex AI wants one."""
    try:
        return "video/mp4" if _is_youtube(uri) else mimetypes.guess_type(urlsplit(uri).path)[0]
    except ValueError:
        return None


def _is_youtube(uri: str) -> bool:
    try:
        return urlsplit(uri).hostname in _YOUTUBE
    except ValueError:
        return False


def _name(holder: dict[str, Any]) -> str | None:
    name = holder.get("displayName")
    return name if isinstance(name, str) else None
