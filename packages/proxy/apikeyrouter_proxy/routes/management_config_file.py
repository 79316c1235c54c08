"""Management API: the configuration file's text, to look at, to change in an editor, and to try.

Laws: no answer holds a secret (`config.file_text`); the file itself is never written from here. A text that stands in
APIKEYROUTER_CONFIG_YAML is shown as well.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from pydantic import BaseModel, Field

from apikeyrouter_proxy.config.file_text import UnshowableError, masked_text
from apikeyrouter_proxy.config.layers import TEXT
from apikeyrouter_proxy.config.masking import MASK
from apikeyrouter_proxy.config.tree import BYTES_MAX
from apikeyrouter_proxy.config.trying import tried
from apikeyrouter_proxy.routes.common import RunningProxy
from apikeyrouter_proxy.routes.late import late_router

__all__ = ["router"]

router = late_router(prefix="/api/v1/config", tags=["configuration"])


class FileView(BaseModel):
    """The file as it stands on disk now, which may be newer than what runs."""

    path: str | None = Field(description="APIKEYROUTER_CONFIG_YAML for a text there; None: the proxy runs without one.")
    text: str | None = Field(description="None where it cannot be shown.")
    why_not: str = Field(description="Why the text is not shown.")
    mask: str = Field(description="What stands in the place of secrets.")


@router.get("/file", summary="Show the configuration file")
async def show_file(proxy: RunningProxy) -> FileView:
    """The main file's text, secrets masked. A text with faults is not shown, since nobody knows what it holds."""
    layered = proxy.config.layered
    known = layered.configuration if layered is not None else None
    if known is None or not known.path:
        return _view(None, why_not="The proxy was started without a configuration file.")
    origin = proxy.config.settings.origin
    try:
        if known.path == TEXT:
            text = origin.environ.get(TEXT, "") if origin is not None else ""
        else:
            raw = await asyncio.to_thread(Path(known.path).read_bytes)
            text = raw[: BYTES_MAX + 1].decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as fault:
        why = getattr(fault, "strerror", None) or "it is not text in UTF-8"
        return _view(known.path, why_not=f"The file {known.path} cannot be read: {why}.")
    faults, _ = tried(proxy, text)
    found = [str(one) for one in faults if one.where != "include"]
    if found:
        return _view(known.path, why_not="The file has faults now: " + "; ".join(found[:20]) + ".")
    try:
        return _view(known.path, text=masked_text(text, known.path))
    except UnshowableError as fault:
        return _view(known.path, why_not=str(fault))


def _view(path: str | None, *, text: str | None = None, why_not: str = "") -> FileView:
    return FileView(path=path, text=text, why_not=why_not, mask=MASK)
