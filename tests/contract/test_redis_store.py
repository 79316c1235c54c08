"""The Redis store keeps the laws of `StateStore` on a real server, and its own on top."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from apikeyrouter.infrastructure.state_store.redis_store import RedisStateStore
from apikeyrouter.testing.store_conformance import StoreConformance
from tests.support.servers import RedisServer


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A server of this module's own, which tests may kill."""
    with RedisServer() as server:
        yield server


class TestRedisStateStore(StoreConformance):
    """The suite on Redis, with a server that can be killed."""

    @pytest.fixture(autouse=True)
    def _place(self, server: RedisServer) -> None:
        self.server = server
        assert server.command("FLUSHALL").startswith(b"+OK")

    def make_store(self, **limits: Any) -> RedisStateStore:
        return RedisStateStore(self.server.url, **limits)

    async def kill_server(self) -> None:
        self.server.kill()

    async def restart_server(self) -> None:
        self.server.start()
