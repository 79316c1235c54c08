"""The PostgreSQL store keeps the laws of `StateStore` on a real server, killed and restarted ones included."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from apikeyrouter.infrastructure.state_store.postgres_store import PostgresStateStore
from apikeyrouter.testing.store_conformance import StoreConformance
from tests.support.servers import PostgresServer


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server of this module's own, which tests may kill."""
    with PostgresServer() as server:
        yield server


class TestPostgresStateStore(StoreConformance):
    """The suite on PostgreSQL."""

    @pytest.fixture(autouse=True)
    def _place(self, server: PostgresServer) -> None:
        self.server, self.url = server, server.fresh_url()

    def make_store(self, **limits: Any) -> PostgresStateStore:
        return PostgresStateStore(self.url, **limits)

    async def kill_server(self) -> None:
        self.server.kill()

    async def restart_server(self) -> None:
        self.server.start()
