"""What users think of answers: taken in, kept in the store, the same in every process.

`FeedbackKeeper.add` changes the books of the store by read, change and compare, so that no process loses another's
marks; the scores of the last 1,000 marked requests lie beside the books, so that a second mark replaces the first,
whichever process takes it.
Laws: feedback is durable when `add` returns; a blob that cannot be read is an error of the store, never silence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.domain.interfaces.state_store import StateStore
from apikeyrouter.muxer.guard import RouteBook

__all__ = ["SETTING", "FeedbackKeeper"]

SETTING = "muxer.feedback"
"""The name of the store's setting: a JSON object of `RouteBook.document`s by group, and of marks."""

_TRIES = 100
"""Each try that fails is another process's success."""

_MARKS = ""
"""Where the same object keeps the last scores by request; no group has this name."""

_MARKS_MAX = 1_000


class FeedbackKeeper:
    """Feedback of one router. `books`: by group; loaded from the store, and changed by other processes."""

    def __init__(self, store: StateStore, books: Mapping[str, RouteBook]) -> None:
        self._store = store
        self._books = books
        self._kept: dict[str, Any] = {}
        self._loaded = False

    async def opened(self) -> None:
        """Returns when what is stored has been read once. Raises StateStoreError."""
        if not self._loaded:
            await self.load()

    async def load(self) -> None:
        """Reads what is stored. Raises StateStoreError."""
        self._take_in(_decoded(await self._store.get_setting(SETTING)))
        self._loaded = True

    async def changed(self, ids: frozenset[str] | None) -> None:
        """For the store's feed of changed settings. Raises StateStoreError."""
        if ids is None or SETTING in ids:
            await self.load()

    def fill(self, book: RouteBook) -> None:
        """Gives a book that was just made what is known of its group."""
        document = self._kept.get(book.group)
        if document is not None:
            book.load(document)

    async def marks(self) -> dict[str, float]:
        """The last scores by request id, oldest first. Raises StateStoreError."""
        found: dict[str, float] = _decoded(await self._store.get_setting(SETTING)).get(_MARKS, {})
        return found

    async def add(self, request_id: str, group: str, gain: float, quality: float, score: float) -> bool:
        """Takes one mark, in place of an earlier one of the same request (then True). Raises StateStoreError."""
        for _ in range(_TRIES):
            blob = await self._store.get_setting(SETTING)
            kept = _decoded(blob)
            before = _marked(kept, request_id, score)
            book = RouteBook(group)
            if group in kept:
                book.load(kept[group])
            if before is not None:
                book.take(gain, quality, before, -1.0)
            book.take(gain, quality, score)
            kept[group] = book.document()
            wanted = json.dumps(kept).encode()
            if blob is None:
                stored = await self._store.put_setting(SETTING, wanted, only_if_absent=True)
            else:
                stored = await self._store.put_setting(SETTING, wanted, only_if=blob)
            if stored == wanted:
                self._take_in(kept)
                live = self._books.get(group)
                if live is not None:
                    live.marked(score)
                return before is not None
        raise StateStoreError("Feedback could not be kept: other processes changed it all the time. Send it again.")

    def _take_in(self, kept: dict[str, Any]) -> None:
        self._kept = kept
        for name, document in kept.items():
            if name == _MARKS:
                continue
            book = self._books.get(name)
            if book is not None:
                book.load(document)


def _marked(kept: dict[str, Any], request_id: str, score: float) -> float | None:
    """Notes a request's score among the last ones; the score that it had before, None for none."""
    marks: dict[str, float] = kept.setdefault(_MARKS, {})
    before = marks.pop(request_id, None)
    marks[request_id] = score
    while len(marks) > _MARKS_MAX:
        del marks[next(iter(marks))]
    return before


def _decoded(blob: bytes | None) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(blob or b"{}")
    except ValueError as fault:
        raise StateStoreError(f"What the store has in {SETTING} cannot be read: {fault}") from None
    return found
