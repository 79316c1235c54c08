"""Multipart forms, read where they lie: the model's name is wanted, and pictures and recordings are not copied for it.

Main entries: `read_form` and `with_model`. Law: bounded: parts, their headers and the values that are read; whatever
the bytes, a form is read or refused with 400.
Source: RFC 7578 and RFC 2046 section 5.1 (2026-11).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from apikeyrouter_proxy.wire.errors import WireError

__all__ = ["Form", "is_form", "read_form", "with_model"]

_PARTS_MAX = 256
_HEADER_BYTES_MAX = 8192
_VALUE_BYTES_MAX = 65_536
_BOUNDARY = re.compile(rb'boundary=(?:"([^"\r\n]{1,70})"|([^\s;,"]{1,70}))', re.IGNORECASE)
_NAME = re.compile(rb'[;\s]name=(?:"([^"\r\n]{0,256})"|([^\s;"]{1,256}))', re.IGNORECASE)
_FILE = re.compile(rb"[;\s]filename\*?=", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Form:
    """The small fields of a form by name, and where their values stand in the body. Files are left out."""

    values: Mapping[str, str]
    spans: Mapping[str, tuple[int, int]]

    @property
    def streams(self) -> bool:
        """Whether events are wanted."""
        return self.values.get("stream", "").strip().lower() in ("true", "1")


def is_form(content_type: bytes) -> bool:
    """Whether a body is a multipart form."""
    return content_type[:19].lower() == b"multipart/form-data"


def read_form(body: bytes, content_type: bytes) -> Form:
    """The form's fields. Raises WireError 400."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise _broken("its Content-Type names no boundary")
    mark = b"--" + (found[1] or found[2])
    values: dict[str, str] = {}
    spans: dict[str, tuple[int, int]] = {}
    at = 0 if body.startswith(mark) else body.find(b"\r\n" + mark) + 2
    if at == 1:
        raise _broken("its boundary does not occur in it")
    for _ in range(_PARTS_MAX):
        at += len(mark)
        if body.startswith(b"--", at):
            return Form(values, spans)
        opened = body.find(b"\r\n", at, at + _HEADER_BYTES_MAX)
        headed = body.find(b"\r\n\r\n", opened, opened + _HEADER_BYTES_MAX) if opened >= 0 else -1
        if headed < 0 or body[at:opened].strip(b" \t"):
            raise _broken("a part has no end of its headers")
        start = headed + 4
        end = body.find(b"\r\n" + mark, headed + 2)
        if end < 0:
            raise _broken("it is cut off: the closing boundary is missing")
        head = body[opened:headed]
        name = _NAME.search(head)
        if name is not None and _FILE.search(head) is None and end - start <= _VALUE_BYTES_MAX:
            field = (name[1] if name[1] is not None else name[2]).decode("utf-8", "replace")
            if field in spans:
                if field == "model":
                    raise _broken("it names the model twice")
            else:
                values[field] = body[start:end].decode("utf-8", "replace")
                spans[field] = (start, max(start, end))
        at = end + 2
    raise _broken(f"it has more than {_PARTS_MAX} parts")


def with_model(body: bytes, form: Form, model: str) -> bytes:
    """The form with another model."""
    start, end = form.spans["model"]
    return b"".join((memoryview(body)[:start], model.encode(), memoryview(body)[end:]))


def _broken(why: str) -> WireError:
    return WireError(400, f"The multipart form cannot be read: {why}.", code="invalid_form")
