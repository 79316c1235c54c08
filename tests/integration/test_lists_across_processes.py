"""Prices, policies and deployments that several processes set at the same moment, in one SQLite file: none is lost."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from apikeyrouter import ApiKeyRouter
from apikeyrouter.infrastructure.state_store import open_store

EACH = 25
SETTER = """
import asyncio, sys
from apikeyrouter import ApiKeyRouter
from apikeyrouter.infrastructure.state_store import open_store

async def main(url, name, count):
    async with ApiKeyRouter(open_store(url)) as router:
        print("ready", flush=True)
        sys.stdin.readline()
        for number in range(count):
            one = f"{name}-{number}"
            await asyncio.gather(
                router.prices.set_price({"provider": name, "model": one, "per_request": "0.001"}),
                router.policy_engine.add_policy(id=one, blocked_regions=["eu-*"]),
                router.deployments.set({"name": one, "targets": ["openai/gpt-4o-mini"]}),
            )

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


async def test_nothing_is_lost_that_two_processes_set_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'lists.db'}"
    async with ApiKeyRouter(open_store(url)):
        pass
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", SETTER, url, name, str(EACH),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )
        for name in ("one", "two")
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    assert [code for code in [await _finish(one) for one in await _started(processes)] if code] == []
    names = {f"{name}-{number}" for name in ("one", "two") for number in range(EACH)}
    async with ApiKeyRouter(open_store(url)) as router:
        assert {one.key for _, one in router.prices.book.overrides()} == {(one.split("-")[0], one) for one in names}
        assert {one.policy_id for one in router.policy_engine.list_policies()} == names
        assert {one.name for one in router.deployments.all()} == names


async def _started(processes: list[asyncio.subprocess.Process]) -> list[asyncio.subprocess.Process]:
    """Both begin now."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
    for process in processes:
        assert process.stdin is not None
        await process.stdin.drain()
    return processes


async def _finish(process: asyncio.subprocess.Process) -> int:
    return await asyncio.wait_for(process.wait(), 60)
