"""The simulated provider inside a running event loop, as the proxy starts it when it has no key."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import msgspec
import openai
import pytest

from apikeyrouter.simulation.config import SimConfig
from apikeyrouter_proxy.sim_server import SimServer

ASK: list[Any] = [{"role": "user", "content": "Hello"}]


def client_of(sim: SimServer, key: str = "sim-key-1") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=sim.base_url, api_key=key, max_retries=0)


async def test_it_serves_and_is_controlled_in_process() -> None:
    async with SimServer(SimConfig(limits="none")) as sim, client_of(sim, "sk-key-1") as client:
        await client.chat.completions.create(model="gpt-4o", messages=ASK)
        await sim.fault("sk-key-1", "rate_limited", retry_after_s=20, count=1)
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(model="gpt-4o", messages=ASK)
        assert caught.value.response.headers["retry-after"] == "20"
        (counts,) = (await sim.state("sk-key-1"))["keys"].values()
        assert counts["by_status"] == {"200": 1, "429": 1}
        assert len(await sim.requests("sk-key-1")) == 2
        await sim.add_account("broke", "sim-broke", standing="no_credit")
        with pytest.raises(openai.RateLimitError, match="quota"):
            await client.with_options(api_key="sim-broke").models.list()
        await sim.reset()
        assert (await sim.state())["requests"] == 0


async def test_it_stops_at_once_though_a_request_hangs_and_frees_its_port() -> None:
    sim = SimServer()
    await sim.start()
    async with client_of(sim) as client:
        await sim.fault(None, "hang")
        waiting = asyncio.create_task(client.chat.completions.create(model="gpt-4o", messages=ASK))
        while not (await sim.state())["keys"]:  # noqa: ASYNC110  (the provider has no event for this)
            await asyncio.sleep(0)
        async with asyncio.timeout(1.0):
            await sim.stop()
        with pytest.raises(openai.APIConnectionError):
            await waiting
    async with SimServer(port=sim.port) as again:
        assert again.port == sim.port
    await sim.stop()  # a second time does nothing


async def test_a_taken_port_is_an_error_and_leaves_nothing_behind() -> None:
    async with SimServer() as sim:
        with pytest.raises(OSError, match="in use"):
            await SimServer(port=sim.port).start()


async def test_signals_stay_with_the_host() -> None:
    before = signal.getsignal(signal.SIGINT)
    async with SimServer() as sim:
        assert signal.getsignal(signal.SIGINT) is before
        assert sim.describe()["keys"] == ["sim-key-1", "sim-key-2", "sim-key-3"]
    assert signal.getsignal(signal.SIGINT) is before


async def test_a_fault_that_makes_no_sense_is_refused() -> None:
    async with SimServer() as sim:
        with pytest.raises(msgspec.ValidationError):
            await sim.fault(None, "hang", colour="red")
