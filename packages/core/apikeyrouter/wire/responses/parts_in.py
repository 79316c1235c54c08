"""Content parts of messages and of tool outputs: `input_text`, `output_text`, `refusal`, `input_image`, `input_file`,
`input_audio`.

Main entry: `read_part`. Base64 stays as it came; a data URL is only cut at its comma.
"""

from __future__ import annotations

from typing import Any

from apikeyrouter.wire.facts import Media, MediaKind, Part, Refusal, Text
from apikeyrouter.wire.losses import Losses, shown
from apikeyrouter.wire.responses.fields import fault, mapping, objects, text, text_or_none

__all__ = ["read_content", "read_part", "split_data_url"]

_MIMES = {
    "pdf": "application/pdf", "txt": "text/plain", "md": "text/markdown", "csv": "text/csv", "html": "text/html",
    "json": "application/json", "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
}  # fmt: skip
_TEXTS = ("input_text", "output_text", "text", "summary_text", "reasoning_text")


def read_content(content: object, path: str, losses: Losses) -> list[Part]:
    """A message's content: a string or a list of parts."""
    if isinstance(content, str):
        return [Text(content)]
    if not isinstance(content, list):
        raise fault(path, "a string or an array of objects", content)
    found: list[Part] = []
    for at, one in enumerate(content):
        where = f"{path}[{at}]"
        part = read_part(mapping(one, where), where, losses)
        if part is not None:
            found.append(part)
    return found


def read_part(part: dict[str, Any], path: str, losses: Losses) -> Part | None:
    """One part; None when it is of a kind that no other format has, which `losses` is told."""
    kind = part.get("type")
    if kind in _TEXTS:
        if part.get("prompt_cache_breakpoint") is not None:
            losses.harmless("prompt_cache_breakpoint")
        return Text(text(part, "text", path), annotations=objects(part.get("annotations")))
    match kind:
        case "refusal":
            return Refusal(text(part, "refusal", path))
        case "input_image":
            return _image(part, path)
        case "input_file":
            return _file(part, path)
        case "input_audio":
            sound = mapping(part.get("input_audio"), f"{path}.input_audio")
            mime = f"audio/{text(sound, 'format', f'{path}.input_audio')}"
            return Media(MediaKind.Audio, mime=mime, data=text(sound, "data", f"{path}.input_audio"))
        case _:
            text(part, "type", path)
            losses.content(path, f"only OpenAI's Responses API knows parts of type {shown(kind)}")
            return None


def _image(part: dict[str, Any], path: str) -> Media:
    detail = text_or_none(part, "detail", path)
    file_id = text_or_none(part, "file_id", path)
    if file_id is not None:
        return Media(MediaKind.Image, file_id=file_id, detail=detail)
    url = text(part, "image_url", path)
    mime, data = split_data_url(url)
    if data is not None:
        return Media(MediaKind.Image, mime=mime, data=data, detail=detail)
    return Media(MediaKind.Image, url=url, detail=detail)


def _file(part: dict[str, Any], path: str) -> Media:
    name = text_or_none(part, "filename", path)
    file_id = text_or_none(part, "file_id", path)
    if file_id is not None:
        return Media(MediaKind.Document, file_id=file_id, name=name)
    url = text_or_none(part, "file_url", path)
    if url is not None:
        return Media(MediaKind.Document, url=url, name=name, mime=_mime_of(name or url))
    given = text(part, "file_data", path)
    mime, data = split_data_url(given)
    if data is None:
        mime, data = _mime_of(name or "") or "application/pdf", given
    return Media(MediaKind.Document, mime=mime, data=data, name=name)


def _mime_of(name: str) -> str:
    return _MIMES.get(name.rpartition(".")[2].lower(), "")


def split_data_url(url: str) -> tuple[str, str | None]:
    """(MIME type, base64) of a data URL; ("", None) for other URLs."""
    if not url.startswith("data:"):
        return "", None
    head, comma, data = url[5:].partition(",")
    kind, mark, _ = head.partition(";base64")
    return (kind.partition(";")[0], data) if comma and mark else ("", None)
