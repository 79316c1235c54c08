"""Contents of messages in chat completions, read: strings, or lists of parts.

Main entry: `read_content`. Besides OpenAI's own parts those of servers that speak its format are known: `video_url`
(vLLM, OpenRouter), `document_url` and `thinking` (Mistral), `input_text` (clients of Responses), `cache_control`
(OpenRouter, LiteLLM), `prompt_cache_breakpoint` (OpenAI).
Law: base64 is kept as it came.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote_to_bytes

from apikeyrouter.domain.models.call import Wire
from apikeyrouter.wire.chat.members import object_of, take_object, take_text
from apikeyrouter.wire.chat.thoughts import text_of_thoughts
from apikeyrouter.wire.codec import MalformedError
from apikeyrouter.wire.facts import Media, MediaKind, Part, Reasoning, Refusal, Text
from apikeyrouter.wire.losses import Losses, shown

__all__ = ["media_of_url", "read_content", "read_part"]

_SOUND_MIMES = {"mp3": "audio/mpeg", "mpeg": "audio/mpeg", "m4a": "audio/mp4"}
_URL_SCHEMES = ("http://", "https://", "gs://", "s3://")
_KINDS = {"image": MediaKind.Image, "audio": MediaKind.Audio, "video": MediaKind.Video}
_URLS = {
    "image_url": MediaKind.Image, "input_image": MediaKind.Image, "video_url": MediaKind.Video,
    "document_url": MediaKind.Document, "audio_url": MediaKind.Audio,
}  # fmt: skip


def read_content(content: object, path: str, losses: Losses) -> list[Part]:
    """The parts of a message's content; none for null. Raises MalformedError."""
    if isinstance(content, str):
        return [Text(content)]
    if content is None:
        return []
    if not isinstance(content, list):
        raise MalformedError(f"{path}: expected a string or a list of parts.", param=path)
    return [read_part(one, f"{path}[{number}]", losses) for number, one in enumerate(content)]


def read_part(one: object, path: str, losses: Losses) -> Part:
    """One part. Raises MalformedError."""
    if isinstance(one, str):
        return Text(one)
    members = object_of(one, path)
    kind = take_text(members, "type", path + ".") or ("text" if "text" in members else "")
    cache = take_object(members, "cache_control", path + ".")
    if members.pop("prompt_cache_breakpoint", None) is not None and cache is None:
        cache = {"type": "ephemeral"}
    part = _read_kind(kind, members, path)
    if cache is not None and isinstance(part, Text | Media):
        part.cache = cache
    for name, value in members.items():
        if value is not None and name not in ("index", "annotations"):
            losses.parameter(f"{path}.{name}", "no other format has this member")
    return part


def _read_kind(kind: str, members: dict[str, Any], path: str) -> Part:
    if kind in ("text", "input_text", "output_text"):
        members.pop("image_url", None)  # some clients spell out all members of all parts
        return Text(_needed(take_text(members, "text", path + "."), path + ".text"))
    if kind in _URLS:
        members.pop("text", None)
        return _read_url(_URLS[kind], members.pop(kind.replace("input_image", "image_url"), None), members, path)
    if kind == "input_audio":
        sound = object_of(members.pop("input_audio", None), path + ".input_audio")
        form = take_text(sound, "format", path + ".input_audio.") or "wav"
        data = _needed(take_text(sound, "data", path + ".input_audio."), path + ".input_audio.data")
        return Media(MediaKind.Audio, _SOUND_MIMES.get(form, f"audio/{form}"), data=data)
    if kind in ("file", "input_file"):
        given = members.pop("file", None) if kind == "file" else dict(members)
        if kind != "file":
            members.clear()
        return _read_file(object_of(given, path + ".file"), path + ".file")
    if kind == "refusal":
        return Refusal(_needed(take_text(members, "refusal", path + "."), path + ".refusal"))
    if kind == "thinking":
        signature = members.pop("signature", None)
        members.pop("closed", None)
        text = text_of_thoughts(members.pop("thinking", None))
        return Reasoning(text, signature if isinstance(signature, str) else None, origin=Wire.Chat.value)
    raise MalformedError(f"{path}.type: {shown(kind)} is no kind of content part that we know.", param=path + ".type")


def _read_url(kind: MediaKind, given: object, members: dict[str, Any], path: str) -> Media:
    detail = members.pop("detail", None)
    if isinstance(given, dict):
        detail = given.get("detail", detail)
        given = given.get("url")
    if not isinstance(given, str):
        raise MalformedError(f"{path}: expected a URL.", param=path)
    media = media_of_url(given, kind, path)
    media.detail = detail if isinstance(detail, str) else None
    return media


def _read_file(members: dict[str, Any], path: str) -> Media:
    name = take_text(members, "filename", path + ".")
    file_id = take_text(members, "file_id", path + ".")
    data = take_text(members, "file_data", path + ".") or take_text(members, "file_url", path + ".")
    if file_id:
        return Media(MediaKind.Document, file_id=file_id, name=name)
    if not data:
        raise MalformedError(f"{path}: expected file_data or file_id.", param=path)
    if data.startswith(("data:", *_URL_SCHEMES)):
        media = media_of_url(data, MediaKind.Document, path + ".file_data")
    else:
        media = Media(MediaKind.Document, "application/pdf", data=data)
    media.name = name
    return media


def media_of_url(url: str, kind: MediaKind, path: str) -> Media:
    """A data URL as data, another as URL. Raises MalformedError for other schemes."""
    if url.startswith(_URL_SCHEMES):
        return Media(kind, url=url)
    if not url.startswith("data:"):
        raise MalformedError(f"{path}: expected a URL that starts with https://, http:// or data:.", param=path)
    head, comma, data = url[5:].partition(",")
    mime, *options = head.split(";")
    if not comma:
        raise MalformedError(f"{path}: a data URL without a comma.", param=path)
    kind = _KINDS.get(mime.partition("/")[0], kind)
    if "base64" in options:
        return Media(kind, mime, data=data)
    text = unquote_to_bytes(data)
    if kind is MediaKind.Document:
        return Media(kind, mime or "text/plain", text=text.decode("utf-8", "replace"))
    raise MalformedError(f"{path}: a data URL must be base64.", param=path)


def _needed(value: str | None, path: str) -> str:
    if value is None:
        raise MalformedError(f"{path}: missing.", param=path)
    return value
