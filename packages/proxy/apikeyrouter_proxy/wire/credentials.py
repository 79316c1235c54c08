"""Credentials in URLs: Google's clients may send `?key=`. It becomes a header at once, before anything can log it.

Main entry: `key_from_query`. Law: the URL that anybody sees afterwards has no credential, whatever it was called.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any
from urllib.parse import unquote_to_bytes

__all__ = ["key_from_query"]

_NAMES = frozenset({b"key", b"api_key", b"api-key", b"apikey", b"access_token"})


def key_from_query(scope: MutableMapping[str, Any]) -> None:
    """Takes credentials out of the query string. The first becomes `x-goog-api-key`, unless a header has one."""
    query: bytes = scope["query_string"]
    pairs = query.split(b"&")
    kept = [pair for pair in pairs if unquote_to_bytes(pair.partition(b"=")[0]).lower() not in _NAMES]
    if len(kept) == len(pairs):
        return
    scope["query_string"] = b"&".join(kept)
    found = next(one for one in pairs if one not in kept)
    value = unquote_to_bytes(found.partition(b"=")[2].replace(b"+", b" ")).strip()
    if value and not any(name == b"x-goog-api-key" for name, _ in scope["headers"]):
        scope["headers"] = [*scope["headers"], (b"x-goog-api-key", value)]
