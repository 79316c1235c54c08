"""Our stores keep the laws of `StateStore`, and SQLite its own on top."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from apikeyrouter.infrastructure.state_store.memory_store import MemoryStateStore
from apikeyrouter.infrastructure.state_store.sqlite_store import SQLiteStateStore
from apikeyrouter.testing.store_conformance import StoreConformance


class TestMemoryStateStore(StoreConformance):
    """The suite on the memory store."""

    def make_store(self, **limits: Any) -> MemoryStateStore:
        return MemoryStateStore(**limits)


class TestSQLiteStateStore(StoreConformance):
    """The suite on SQLite, in a real file."""

    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.path = tmp_path / "deep" / "state.sqlite"

    def make_store(self, **limits: Any) -> SQLiteStateStore:
        return SQLiteStateStore(self.path, **limits)
