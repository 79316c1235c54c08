"""Pictures, documents, films and sound written as content blocks of Converse.

Main entry: `MediaWriter.block`. Base64 stays as it is. Bedrock fetches nothing from the web and stores no files; it
reads from S3. Documents need names of few characters, each but once in a request.
Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_DocumentBlock.html and ..._ImageBlock.html,
..._VideoBlock.html, ..._AudioBlock.html; requests are tested against the service model.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from apikeyrouter.wire.facts import Media, MediaKind
from apikeyrouter.wire.losses import Losses

__all__ = ["MediaWriter"]

_BEGINNINGS = (("/9j/", "jpeg"), ("iVBORw0KGgo", "png"), ("R0lGOD", "gif"), ("UklGR", "webp"))
"""How the first bytes of each kind of picture look in base64."""

_FORMATS: Mapping[MediaKind, Mapping[str, str]] = {
    MediaKind.Image: {"image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/gif": "gif",
                      "image/webp": "webp"},
    MediaKind.Document: {
        "application/pdf": "pdf", "text/csv": "csv", "application/msword": "doc", "application/vnd.ms-excel": "xls",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx", "text/html": "html",
        "text/plain": "txt", "text/markdown": "md",
    },
    MediaKind.Video: {"video/x-matroska": "mkv", "video/quicktime": "mov", "video/mp4": "mp4", "video/webm": "webm",
                      "video/x-flv": "flv", "video/mpeg": "mpeg", "video/x-ms-wmv": "wmv", "video/3gpp": "three_gp"},
    MediaKind.Audio: {"audio/mpeg": "mp3", "audio/mp3": "mp3", "audio/wav": "wav", "audio/x-wav": "wav",
                      "audio/opus": "opus", "audio/aac": "aac", "audio/flac": "flac", "audio/mp4": "mp4",
                      "audio/ogg": "ogg", "audio/webm": "webm", "audio/pcm": "pcm", "audio/x-m4a": "m4a"},
}  # fmt: skip
_NAME = re.compile(r"[^A-Za-z0-9()\[\] -]+")
_SPACES = re.compile(r" {2,}")
_NAME_LETTERS_MAX = 180


class MediaWriter:
    """Writes the media of one request."""

    __slots__ = ("_losses", "_names")

    def __init__(self, losses: Losses) -> None:
        self._losses = losses
        self._names: set[str] = set()

    def block(self, media: Media, where: str) -> dict[str, Any] | None:
        """The block; None when it cannot be told, which `losses` then knows."""
        if media.detail in ("low", "high", "original"):
            self._losses.harmless("detail")
        source = self._source(media, where)
        form = self._format(media, where) if source is not None else None
        if form is None:
            return None
        inner: dict[str, Any] = {"format": form, "source": source}
        if media.kind is MediaKind.Document:
            inner["name"] = self._name(media.name)
        return {media.kind.value: inner}

    def _source(self, media: Media, where: str) -> dict[str, Any] | None:
        if media.text is not None:
            return {"bytes": b64encode(media.text.encode()).decode()}
        if media.url is not None and media.url.startswith("s3://"):
            return {"s3Location": {"uri": media.url}}
        if media.data is not None:
            return {"bytes": media.data}
        self._losses.content(where, "Bedrock fetches nothing from the web and stores no files: send the data itself")
        return None

    def _format(self, media: Media, where: str) -> str | None:
        if media.text is not None:
            return _FORMATS[MediaKind.Document].get(media.mime, "txt")
        if media.kind is MediaKind.Image and media.data is not None:
            found = next((form for start, form in _BEGINNINGS if media.data.startswith(start)), None)
            if found is not None:
                return found
        mime = media.mime.partition(";")[0].strip().lower()
        found = _FORMATS[media.kind].get(mime)
        if found is None and media.kind is MediaKind.Document and mime.startswith("text/"):
            found = "txt"
        if found is None:
            self._losses.content(where, f"Bedrock takes no {media.kind.value} of type '{mime or 'unknown'}'")
        return found

    def _name(self, given: str | None) -> str:
        """The name in the letters that are allowed; "Document 1" and so on without one."""
        name = _SPACES.sub(" ", _NAME.sub(" ", given or "")).strip()[:_NAME_LETTERS_MAX].strip()
        told = name or f"Document {len(self._names) + 1}"
        while told in self._names:
            told = f"{name or 'Document'} {len(self._names) + 1}"
        self._names.add(told)
        return told
