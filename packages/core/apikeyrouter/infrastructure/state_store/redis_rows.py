"""Rows of the Redis store: to the words of its scripts, and back.

Main entries: `words_of` (a batch), `rows_of` (a hash of rows), `values_of` (what rows mean). A row is the tuple of
`codec.freeze` as MessagePack, behind a header that Lua reads. Law: what cannot be stored is a StateStoreError before
anything is sent.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

import msgspec

from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.domain.interfaces.state_store import StoreBatch, StoredVirtualKey
from apikeyrouter.infrastructure.state_store import codec
from apikeyrouter.infrastructure.state_store.codec import FrozenBatch, Row

__all__ = ["fitting_words", "request_key", "rows_of", "unpacked", "values_of", "virtual_key_words", "words_of"]

_T = TypeVar("_T")
_pack = msgspec.msgpack.Encoder().encode
_json = msgspec.json.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode

_KEY_REVISION = 10
_BUDGET_LIMIT, _BUDGET_MODE, _BUDGET_STATUS = 3, 5, 7
_LARGEST = 10**27
"""What the scripts count exactly: 2^53 * 10^12."""


def words_of(batch: StoreBatch) -> list[str | bytes]:
    """The batch as operations of `lua/apply.lua`. Raises StateStoreError for what cannot be stored."""
    frozen = codec.freeze(batch)
    try:
        return _words(frozen)
    except (TypeError, ValueError, OverflowError) as error:
        raise _unstorable(error) from error


def fitting_words(batch: StoreBatch, room: int) -> tuple[list[str | bytes], int, int]:
    """The same with at most `room` decisions, the first ones; how many are in it, and how many were left out."""
    dropped = max(0, len(batch.decisions) - max(0, room))
    if dropped:
        batch = replace(batch, decisions=batch.decisions[: len(batch.decisions) - dropped])
    return words_of(batch), len(batch.decisions), dropped


def virtual_key_words(row: StoredVirtualKey, only_if: StoredVirtualKey | None = None) -> list[str | bytes]:
    """A virtual key as an operation of `lua/apply.lua`. Raises StateStoreError for what cannot be stored."""
    frozen = codec.freeze_virtual_key(row)
    try:
        expected = b"" if only_if is None else _pack(codec.freeze_virtual_key(only_if))
        return ["V", frozen[0], "0" if row.revoked_at_s is None else "1", _pack(frozen), expected]
    except (TypeError, ValueError, OverflowError) as error:
        raise _unstorable(error) from error


def _unstorable(error: Exception) -> StateStoreError:
    return StateStoreError(f"A row cannot be stored: {error}. Nothing of this batch was written.")


def _words(frozen: FrozenBatch) -> list[str | bytes]:
    words: list[str | bytes] = []
    for row in frozen.keys:
        words += ["K", _text(row[0]), _whole(row[_KEY_REVISION]), _pack(row)]
    for row in frozen.budgets:
        mode = "hard" if row[_BUDGET_MODE] == "hard" else "soft"
        status = "active" if row[_BUDGET_STATUS] == "active" else "deleted"
        words += ["B", _text(row[0]), f"{_whole(row[_BUDGET_LIMIT])} {mode} {status}", _pack(row)]
    for row in frozen.events:
        at_s, kind, entity_id, key_id, provider_id, _ = row
        words += ["E", _time(at_s), _pack((kind, entity_id, key_id, provider_id)), _pack(row)]
    for row in frozen.decisions:
        decision_id, request_id, at_s, key_id, provider_id = row[:5]
        sort_key = request_key(request_id) + _sortable(at_s)
        words += ["N", _time(at_s), _pack((decision_id, request_id, key_id, provider_id, sort_key)), _pack(row)]
    for row in frozen.usage:
        facts, counters = row[1 : len(codec.USAGE_FACTS)], row[len(codec.USAGE_FACTS) :]
        words += ["U", _whole(row[0]), _json(facts), " ".join([_whole(one) for one in counters])]
    return words


def _text(text: str) -> str:
    text.encode()  # a lone surrogate fails here
    return text


def _whole(number: int) -> str:
    if int(number) != number or abs(number) > _LARGEST:
        raise ValueError(f"{number!r} is not a whole number up to 10^27")
    return str(int(number))


def _time(at_s: float) -> str:
    if not math.isfinite(at_s):
        raise ValueError(f"{at_s!r} is not a time")
    return repr(float(at_s))


def _sortable(at_s: float) -> str:
    """Text that sorts as the times do."""
    (bits,) = struct.unpack(">Q", struct.pack(">d", at_s))
    return f"{bits ^ (0xFFFF_FFFF_FFFF_FFFF if bits >> 63 else 1 << 63):016x}"


def request_key(request_id: str) -> str:
    """What begins the sort key of a request's decisions, and of no other's."""
    return f"{len(request_id)}:{request_id}:"


def rows_of(stored: Iterable[bytes]) -> list[Row]:
    """The rows of a hash's values, in the order of their insertion."""
    rows = []
    for value in stored:
        header, _, row = value.partition(b"\n")
        rows.append((int(header.split(b" ", 1)[0]), row))
    rows.sort(key=lambda one: one[0])
    return [tuple(_unpack(row)) for _, row in rows]


def unpacked(packed: bytes) -> Row:
    """A row, or a row's facts."""
    return tuple(_unpack(packed))


def values_of(decode: Callable[[Row], _T], rows: Sequence[Row], store: str) -> list[_T]:
    """What the rows mean. Raises StateStoreError for a row that is not ours."""
    try:
        return [decode(row) for row in rows]
    except (ValueError, TypeError, KeyError, msgspec.MsgspecError) as error:
        raise StateStoreError(
            f"The store {store} holds a row that this program cannot read: {error}. Another version of it, or another "
            "program, wrote that row: upgrade, or give this store a name of its own (?name=...)."
        ) from error
