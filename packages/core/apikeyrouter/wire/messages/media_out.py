"""Pictures and documents written as content blocks.

Main entry: `media_block`. Base64 stays as it is. Anthropic takes pictures (JPEG, PNG, GIF, WebP) and documents (PDF,
plain text), by data, by URL or by the id of a file that it stores; sound and film it does not take.
Source: https://platform.claude.com/docs/en/build-with-claude/vision, /pdf-support, /files (read 2026-11-21).
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from apikeyrouter.wire.facts import Media, MediaKind
from apikeyrouter.wire.losses import Losses

__all__ = ["media_block"]

# How the first bytes of each kind look in base64.
_BEGINNINGS = (
    ("/9j/", "image/jpeg"),
    ("iVBORw0KGgo", "image/png"),
    ("R0lGOD", "image/gif"),
    ("UklGR", "image/webp"),
    ("JVBERi0", "application/pdf"),
)
_OWN_FILE = "file_"
_PLAIN = ("text/", "application/json", "application/xml")


def media_block(media: Media, where: str, losses: Losses) -> dict[str, Any] | None:
    """The block, without its cache mark; None when it cannot be told, which `losses` then knows."""
    if media.kind not in (MediaKind.Image, MediaKind.Document):
        losses.content(where, f"Anthropic takes no {media.kind.value}")
        return None
    if media.detail in ("low", "high", "original"):
        losses.harmless("detail")
    source = _source(media, where, losses)
    if source is None:
        return None
    block: dict[str, Any] = {"type": "image" if media.kind is MediaKind.Image else "document", "source": source}
    if media.name and media.kind is MediaKind.Document:
        block["title"] = media.name
    return block


def _source(media: Media, where: str, losses: Losses) -> dict[str, Any] | None:
    if media.text is not None:
        return {"type": "text", "media_type": "text/plain", "data": media.text}
    if media.url is not None:
        if media.url.startswith(("http://", "https://")):
            return {"type": "url", "url": media.url}
        losses.content(where, "Anthropic fetches from http and https alone")
        return None
    if media.file_id is not None:
        if media.file_id.startswith(_OWN_FILE):
            return {"type": "file", "file_id": media.file_id}
        losses.content(where, f"file '{media.file_id}' is not one that Anthropic stores")
        return None
    return _data(media, media.data or "", where, losses)


def _data(media: Media, data: str, where: str, losses: Losses) -> dict[str, Any] | None:
    mime = next((found for start, found in _BEGINNINGS if data.startswith(start)), media.mime)
    if media.kind is MediaKind.Image:
        if not mime.startswith("image/"):
            losses.content(where, "of what kind the picture is, neither its media type nor its data tells")
            return None
        return {"type": "base64", "media_type": mime, "data": data}
    if mime == "application/pdf":
        return {"type": "base64", "media_type": mime, "data": data}
    if mime.startswith(_PLAIN):
        try:
            text = base64.b64decode(data, validate=True).decode()
        except (binascii.Error, ValueError):
            losses.content(where, "the document's data is no UTF-8 text in base64")
            return None
        return {"type": "text", "media_type": "text/plain", "data": text}
    losses.content(where, f"Anthropic takes documents of PDF or plain text, not '{mime or 'unknown'}'")
    return None
