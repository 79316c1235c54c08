"""The PostgreSQL store keeps the laws of `StateStore`, and its own on top."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from apikeyrouter.infrastructure.state_store.postgres_store import PostgresStateStore
from apikeyrouter.testing.store_conformance import StoreConformance
from tests.support.servers import PostgresServer


class TestPostgresStateStore(StoreConformance):
    """The suite on PostgreSQL, on a real server."""

    @pytest.fixture(autouse=True)
    def _place(self, postgres_url: str) -> None:
        self.url = postgres_url

    def make_store(self, **limits: Any) -> PostgresStateStore:
        return PostgresStateStore(self.url, **limits)
