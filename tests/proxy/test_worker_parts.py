"""The parts that several processes are made of: shared connections, added-up metrics, providers and retired material
that two processes change at once, and settings that stay the same over restarts of a worker."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from apikeyrouter import ApiKeyRouter
from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.models.events import RequestEnded
from apikeyrouter.infrastructure.state_store.memory_store import MemoryStateStore
from apikeyrouter.testing.virtual_time import ManualClock
from apikeyrouter_proxy import logs
from apikeyrouter_proxy.balance import FairListener, Seats
from apikeyrouter_proxy.metrics import Gauges, KeyGauge, Metrics
from apikeyrouter_proxy.metrics_board import MetricsBoard, fold_ended
from apikeyrouter_proxy.providers import AddedProvider, ProviderBook
from apikeyrouter_proxy.revoked import RetiredMaterial
from apikeyrouter_proxy.settings import ProxySettings, frozen_environ
from apikeyrouter_proxy.simulation import SETTING, Simulation

# -- connections ------------------------------------------------------------------------------------------------------


class Counted(asyncio.Protocol):
    """Counts the connections of a worker."""

    def __init__(self, open_: set[Counted]) -> None:
        self._open = open_

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._open.add(self)
        self.transport = transport


@asynccontextmanager
async def crowd(
    path: Path, workers: int, listening: int | None = None
) -> AsyncIterator[tuple[Callable[[], list[int]], list[FairListener], int]]:
    """Workers that accept from one socket in one event loop, `listening` of them: (what each has, they, the port)."""
    seats = Seats.create(path / "seats", workers)
    have: list[set[Counted]] = [set() for _ in range(workers)]
    with socket.create_server(("127.0.0.1", 0), backlog=200) as listener:
        copies = [listener.dup() for _ in range(listening or workers)]
        doors = [
            FairListener(
                copy,
                lambda mine=have[i]: Counted(mine),  # type: ignore[misc]
                seats=seats,
                worker=i + 1,
                connections=lambda mine=have[i]: len(mine),  # type: ignore[misc]
            )
            for i, copy in enumerate(copies)
        ]
        try:
            yield (lambda: [len(one) for one in have]), doors, listener.getsockname()[1]
        finally:
            for door in doors:
                door.close()
                await door.wait_closed()
            for connection in set().union(*have):
                connection.transport.abort()
            for copy in copies:
                copy.close()
            await asyncio.sleep(0)


async def connect(port: int, count: int) -> list[asyncio.StreamWriter]:
    return [writer for _, writer in [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]]


async def close_all(writers: list[asyncio.StreamWriter]) -> None:
    for writer in writers:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not what():  # noqa: ASYNC110 - the sockets decide, and tell nobody
            await asyncio.sleep(0.002)


async def test_each_worker_takes_its_share(tmp_path: Path) -> None:
    async with crowd(tmp_path, 3) as (have, _, port):
        writers = await connect(port, 60)
        await until(lambda: sum(have()) == 60)
        assert min(have()) >= 16, have()
        await close_all(writers)


async def test_a_worker_that_hangs_keeps_no_connection_waiting(tmp_path: Path) -> None:
    async with crowd(tmp_path, 2, listening=1) as (have, _, port):
        Seats(tmp_path / "seats").put(2, 0)  # it is there, it has nothing, and it never accepts
        writers = await connect(port, 20)
        await until(lambda: have() == [20, 0])
        await close_all(writers)


async def test_a_seat_without_a_worker_counts_for_nothing(tmp_path: Path) -> None:
    seats = Seats.create(tmp_path / "seats", 3)
    assert seats.least_of_others(1) is None
    seats.put(2, 7)
    seats.put(3, 4)
    assert (seats.least_of_others(1), seats.least_of_others(3)) == (4, 7)
    seats.leave(3)
    assert seats.least_of_others(1) == 7


async def test_a_closed_door_accepts_no_more_and_leaves_its_seat(tmp_path: Path) -> None:
    async with crowd(tmp_path, 2) as (have, doors, port):
        doors[0].close()
        writers = await connect(port, 10)
        await until(lambda: have() == [0, 10])
        assert Seats(tmp_path / "seats").least_of_others(2) is None
        await close_all(writers)


# -- metrics ----------------------------------------------------------------------------------------------------------


def ended(model: str = "gpt-4o", outcome: str = "ok") -> RequestEnded:
    return RequestEnded(
        request_id="r",
        operation="chat/completions",
        model=model,
        provider_id="openai",
        key_label="key-1",
        outcome=outcome,
        status=200,
        stream=False,
        duration_s=0.2,
        ttft_s=0.1,
        input_tokens=10,
        output_tokens=5,
        cost_nano_usd=1_000_000,
        attempts=(("key-1", outcome),),
    )


def value(text: bytes, start: str) -> float:
    found = [row for row in text.decode().splitlines() if row.startswith(start)]
    assert len(found) == 1, found
    return float(found[0].rpartition(" ")[2])


def test_a_scrape_adds_up_counters_histograms_and_what_is_under_way(tmp_path: Path) -> None:
    first, second = (Metrics(MetricsBoard(tmp_path, f"worker-{i}-1")) for i in (1, 2))
    for _ in range(3):
        first.request_ended(ended())
    second.request_ended(ended())
    second.request_ended(ended("only-there"))
    key = KeyGauge("key_1", "key-1", "openai", "available", 2)
    second.share(Gauges(keys=[key], in_flight=2, holds_open=1, connections=[("o", "idle", 4)], keys_usable=9))
    text = first.exposition(Gauges(keys=[key], in_flight=1, connections=[("o", "idle", 3)], keys_usable=1))
    labels = '{model="gpt-4o",operation="chat/completions",outcome="ok",provider="openai"}'
    assert value(text, f"apikeyrouter_requests_total{labels}") == 4
    assert value(text, "apikeyrouter_attempts_total") == 5
    bucket = labels.replace("{", '{le="0.25",')
    assert value(text, f"apikeyrouter_request_duration_seconds_bucket{bucket}") == 4
    assert value(text, 'apikeyrouter_tokens_total{direction="input",model="only-there"') == 10
    assert value(text, "apikeyrouter_in_flight ") == 3
    assert value(text, "apikeyrouter_key_in_flight") == 4
    assert value(text, "apikeyrouter_upstream_connections") == 7
    assert value(text, "apikeyrouter_workers") == 2
    assert value(text, "apikeyrouter_keys_usable") == 1  # the same in every worker: not added
    assert value(text, "apikeyrouter_key_state") == 1


def test_what_an_ended_worker_counted_stays_and_what_it_had_under_way_goes(tmp_path: Path) -> None:
    for i in (1, 2):
        gone = Metrics(MetricsBoard(tmp_path, f"worker-{i}-1"))
        gone.request_ended(ended())
        gone.share(Gauges(in_flight=5))
        fold_ended(tmp_path, f"worker-{i}-1")
        fold_ended(tmp_path, f"worker-{i}-1")  # only once
    fold_ended(tmp_path, "worker-3-1")  # it left nothing
    left = Metrics(MetricsBoard(tmp_path, "worker-1-2"))
    left.request_ended(ended())
    text = left.exposition(Gauges(in_flight=1))
    assert value(text, "apikeyrouter_requests_total") == 3
    assert value(text, "apikeyrouter_in_flight ") == 1
    assert value(text, "apikeyrouter_workers") == 1


def test_a_file_that_is_no_snapshot_spoils_no_scrape(tmp_path: Path) -> None:
    (tmp_path / "worker-9-9.metrics").write_bytes(b"not one")
    alone = Metrics(MetricsBoard(tmp_path, "worker-1-1"))
    alone.request_ended(ended())
    assert value(alone.exposition(Gauges()), "apikeyrouter_requests_total") == 1


def test_without_a_board_nothing_is_written(tmp_path: Path) -> None:
    Metrics().share(Gauges())
    assert list(tmp_path.iterdir()) == []


# -- logs -------------------------------------------------------------------------------------------------------------


def test_request_lines_go_out_in_pieces_that_a_pipe_takes_whole(capfd: pytest.CaptureFixture[str]) -> None:
    written: list[int] = []
    real = os.write

    def counting(descriptor: int, piece: bytes) -> int:
        written.append(len(piece))
        return real(descriptor, piece)

    lines = [f"{i} " + "x" * 300 + "\n" for i in range(100)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", counting)
        logs.write_whole_lines("".join(lines))
        logs.write_whole_lines("")
    assert capfd.readouterr().out == "".join(lines)
    assert max(written) <= 4096
    assert len(written) <= 9


# -- providers and retired material -----------------------------------------------------------------------------------


async def test_providers_that_two_processes_add_at_once_are_both_kept() -> None:
    clock = ManualClock(5.0)
    store = MemoryStateStore(clock=clock)
    async with ApiKeyRouter(store) as here, ApiKeyRouter(store) as there:
        first, second = ProviderBook(store, clock), ProviderBook(store, clock)
        await first.add(here, AddedProvider("a", "http://127.0.0.1:1/v1"))
        await second.add(there, AddedProvider("b", "http://127.0.0.1:2/v1"))  # it has not heard of a: the list lacks it
        await first.refresh(here)
        await second.refresh(there)
        assert set(first.added) == set(second.added) == {"a", "b"}
        assert set(here.providers) == set(there.providers) == {"a", "b"}
        clock.advance(1.0)
        await second.remove(there, "a")
        await first.refresh(here)
        assert set(first.added) == set(here.providers) == {"b"}
        clock.advance(1.0)
        await first.add(here, AddedProvider("a", "http://127.0.0.1:3/v1"))
        await second.refresh(there)
        assert second.added["a"].base_url == "http://127.0.0.1:3/v1"
        later = ProviderBook(store, clock)
        await later.refresh(here)
        assert set(later.added) == {"a", "b"}


async def test_a_list_of_providers_of_an_older_version_is_read() -> None:
    store = MemoryStateStore()
    await store.put_setting("providers", b'[{"id":"old","base_url":"http://127.0.0.1:1/v1"}]')
    async with ApiKeyRouter(store) as router:
        book = ProviderBook(store, ManualClock())
        await book.refresh(router)
        assert set(book.added) == set(router.providers) == {"old"}


async def test_removed_providers_are_remembered_for_a_while_only() -> None:
    clock = ManualClock(5.0)
    store = MemoryStateStore(clock=clock)
    async with ApiKeyRouter(store) as router:
        book = ProviderBook(store, clock)
        for i in range(130):
            await book.add(router, AddedProvider(f"p{i}", "http://127.0.0.1:1/v1"))
            await book.remove(router, f"p{i}")
        assert (await store.get_setting("providers") or b"").count(b'"removed":true') <= 101


async def test_material_that_two_processes_retire_at_once_stays_retired() -> None:
    store = MemoryStateStore()
    first, second = RetiredMaterial(store), RetiredMaterial(store)
    await first.open()
    await second.open()
    one, two = Secret("material-1"), Secret("material-2")
    await first.remember("openai", one)
    await second.remember("openai", two)
    later = RetiredMaterial(store)
    await later.open()
    assert await later.holds("openai", one)
    assert await later.holds("openai", two)
    assert not await later.holds("azure", one)
    await later.forget("openai", one)
    assert not await first.holds("openai", one)
    await first.forget("openai", Secret("never seen"))


async def test_a_list_of_retired_material_of_an_older_version_is_read() -> None:
    store = MemoryStateStore()
    old = RetiredMaterial(store)
    await old.open()
    material = Secret("material-1")
    digest = old._hash("openai", material)
    await store.put_setting("retired_material.list", f'["{digest}"]'.encode())
    await old.open()
    assert await old.holds("openai", material)
    await old.forget("openai", material)
    assert not await old.holds("openai", material)


# -- the simulation ---------------------------------------------------------------------------------------------------


async def test_a_second_process_joins_the_simulation_and_either_ends_it_for_both() -> None:
    store = MemoryStateStore()
    environ = {"APIKEYROUTER_ENCRYPTION_KEY": "passphrase of the test"}
    async with ApiKeyRouter(store, environ=environ) as here, ApiKeyRouter(store, environ=environ) as there:
        over: list[str] = []
        first = Simulation(here, lambda: over.append("first"))
        second = Simulation(there, lambda: over.append("second"))
        assert await first.find() is None
        server = await first.begin()
        found = await second.find()
        assert found == server.base_url == first.base_url
        await second.join(found)
        await second.end()
        await first.refresh()
        assert over == ["second", "first"]
        assert first.base_url is None
        assert first.ours is None
        assert "simulated" not in here.providers
        assert "simulated" not in there.providers
        assert await store.load_keys() == []
        assert await second.find() is None
        await first.close()


async def test_a_simulation_that_crashed_is_cleared_away() -> None:
    store = MemoryStateStore()
    async with ApiKeyRouter(store) as router:
        crashed = Simulation(router, lambda: None)
        server = await crashed.begin()
        await server.stop()
        assert len(await store.load_keys()) == 3
        assert await Simulation(router, lambda: None).find() is None
        assert await store.load_keys() == []
        assert await store.get_setting(SETTING) == b""


# -- settings ---------------------------------------------------------------------------------------------------------


def test_frozen_settings_do_not_follow_their_files(tmp_path: Path) -> None:
    dotenv, secret = tmp_path / ".env", tmp_path / "admin"
    dotenv.write_text("PROXY_PORT=1234\nOPENAI_API_KEY=sk-" + "a" * 20 + "\n")
    secret.write_text("admin-" + "k" * 20)
    environ = {"HOME": "/home/x", "APIKEYROUTER_ADMIN_KEY_FILE": str(secret), "PROXY_WORKERS": "3"}
    before = ProxySettings.from_environ(environ, dotenv)
    frozen = frozen_environ(environ, dotenv)
    dotenv.write_text("PROXY_PORT=9999\n")
    secret.unlink()
    assert ProxySettings.from_environ(frozen) == before
    assert (before.workers, before.port, len(before.env_keys)) == (3, 1234, 1)
    with pytest.raises(ConfigurationError, match="APIKEYROUTER_ADMIN_KEY_FILE"):
        frozen_environ(environ, dotenv)


@pytest.mark.parametrize("text", ["0", "65", "-1", "two", "1.5"])
def test_a_number_of_workers_is_checked(text: str) -> None:
    with pytest.raises(ConfigurationError, match="WEB_CONCURRENCY: expected a number of processes"):
        ProxySettings.from_environ({"HOME": "/home/x", "WEB_CONCURRENCY": text})


def test_our_own_name_of_the_number_of_workers_wins() -> None:
    environ = {"HOME": "/home/x", "WEB_CONCURRENCY": "4"}
    assert ProxySettings.from_environ(environ).workers == 4
    assert ProxySettings.from_environ({**environ, "PROXY_WORKERS": "2"}).workers == 2
