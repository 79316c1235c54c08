"""Paths that pass to a provider as they are: only ever below the base URL that the operator configured.

Main entry: `raw_path`. Laws: the host is never the caller's choice; no path leaves the base URL upwards, by whatever
encoding; nothing is decoded and encoded again, so that what a provider signs or compares stays the same.
"""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from apikeyrouter_proxy.wire.errors import WireError

__all__ = ["raw_path"]

_LENGTH_MAX = 2048
_DECODED_TIMES = 4
_ALLOWED = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})+")
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\]|:/|(?:^|/)\.{1,2}(?:[;/?#]|$)")


def raw_path(asked: str, provider_id: str, base_url: str) -> str:
    """The path below `base_url` that `asked` means: as in the request line, below the provider's name, still encoded.
    Parts that it repeats of the base URL's own path (`/v1`) are taken off. Raises WireError 400."""
    path = re.sub("/{2,}", "/", asked).strip("/")
    prefix = f"{provider_id}/"
    if not path.startswith(prefix):
        raise _refused("it does not begin with the provider's name")
    path = path[len(prefix) :]
    if len(path) > _LENGTH_MAX or not _ALLOWED.fullmatch(path):
        raise _refused("it is too long, or has characters that must be percent-encoded")
    plain = path
    for _ in range(_DECODED_TIMES):
        if _FORBIDDEN.search(plain):
            raise _refused("it has '.' or '..' as a segment, a backslash, a control character or a second URL")
        decoded = unquote(plain, errors="replace")
        if decoded == plain:
            break
        plain = decoded
    else:
        raise _refused("it is percent-encoded over and over")
    return _without_base(path, base_url)


def _without_base(path: str, base_url: str) -> str:
    """`path` without its beginning where that repeats the end of the base URL's own path."""
    base = [part for part in urlsplit(base_url).path.split("/") if part]
    parts = path.split("/")
    for length in range(min(len(base), len(parts) - 1), 0, -1):
        if base[-length:] == parts[:length]:
            return "/".join(parts[length:])
    return path


def _refused(why: str) -> WireError:
    return WireError(400, f"This path cannot be passed on: {why}.", code="invalid_path")
