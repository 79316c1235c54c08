"""What a Redis server must be, and what it promises: version, role, eviction, persistence.

Main entry: `inspect`. Laws: a server that would silently drop money or keys (`maxmemory-policy` other than noeviction)
is refused; how much a crash of it may lose is said in words, and warned of.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.infrastructure.state_store.redis_link import RedisLink, StoreUnavailableError

__all__ = ["ServerFacts", "inspect"]

_OLDEST_MAJOR = 7
"""Redis 7.0 (April 2022); Valkey answers with 7.2 or later."""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """`run_id`: changes with every start. `loss_window`: what a crash of the server may lose of what was answered, in
    words. `safe`: whether that is a second or less."""

    run_id: str
    version: str
    policy: str
    loss_window: str
    safe: bool


def _parsed(info: bytes) -> dict[str, str]:
    lines = [line.partition(":") for line in info.decode().splitlines() if not line.startswith("#")]
    return {name: value.strip() for name, _, value in lines}


async def inspect(link: RedisLink, description: str) -> ServerFacts:
    """Looks at the server. Raises StateStoreError when it cannot hold a store, with what to change."""
    info = _parsed(await link.call("INFO"))
    config: dict[str, str] = {}
    with contextlib.suppress(StateStoreError):  # managed servers refuse CONFIG; INFO says most of it
        words = [word.decode() for word in await link.call("CONFIG", "GET", "appendfsync", "save")]
        config = dict(zip(words[::2], words[1::2], strict=True))
    facts = ServerFacts(
        info.get("run_id", ""),
        info.get("redis_version", "0"),
        info.get("maxmemory_policy", "unknown"),
        *_loss(info, config),
    )
    if int(facts.version.partition(".")[0]) < _OLDEST_MAJOR:
        raise StateStoreError(f"The store {description} runs Redis {facts.version}; version 7.0 or later is needed.")
    if info.get("redis_mode") == "cluster":
        raise StateStoreError(f"The store {description} is a node of a Redis Cluster; name a server that stands alone.")
    if info.get("role", "master") != "master":
        raise StoreUnavailableError(
            f"The store {description} is a replica and takes no writes. Name the primary server."
        )
    if facts.policy != "noeviction":
        raise StateStoreError(
            f"The store {description} has maxmemory-policy {facts.policy}: it may silently drop budgets and keys when "
            "its memory is full. Set `maxmemory-policy noeviction` in redis.conf, or at your provider."
        )
    return facts


def _loss(info: dict[str, str], config: dict[str, str]) -> tuple[str, bool]:
    if info.get("aof_enabled") != "1":
        if config.get("save") == "":
            return "everything: it keeps nothing on disk", False
        return "everything since the last RDB snapshot", False
    fsync = config.get("appendfsync", "everysec")
    if fsync == "always":
        return "none on this node", True
    if fsync == "no":
        return "what its operating system had not written yet (about 30 s)", False
    return "about 1 s", True
