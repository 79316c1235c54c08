"""Where a PostgreSQL store can be: servers, sockets, TLS, schemas; what it makes there, and what it refuses."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.domain.interfaces.shared_ledger import LeaseWorker, UsageQuery
from apikeyrouter.domain.interfaces.state_store import StoreBatch
from apikeyrouter.domain.models.health_state import HealthStatus
from apikeyrouter.infrastructure.state_store import open_store
from apikeyrouter.infrastructure.state_store.memory_ledger import WINDOWS_MAX
from apikeyrouter.infrastructure.state_store.postgres_store import PostgresStateStore
from apikeyrouter.testing.store_borrower import Borrower, put_budget
from apikeyrouter.testing.store_rows import key_row, usage_row
from tests.support.certificates import Authority, make_authority
from tests.support.servers import PostgresServer, free_port


async def round_trip(url: str) -> list[str]:
    """Writes a key and reads all of them."""
    store = open_store(url)
    try:
        await store.apply(StoreBatch(keys=[key_row("k")]))
        return [row.key_id for row in await store.load_keys()]
    finally:
        await store.close()


async def test_both_schemes_a_socket_and_options_lead_to_the_same_place(postgres_server: PostgresServer) -> None:
    url = postgres_server.fresh_url()
    schema = url.partition("schema=")[2]
    assert await round_trip(url) == ["k"]
    for other in (
        url.replace("postgresql://", "postgres://"),
        url.replace("postgresql://", "POSTGRESQL+asyncpg://"),
        f"{postgres_server.socket_url}&schema={schema}",
        f"{url}&sslmode=disable&application_name=mine",
    ):
        store = open_store(other)
        assert [row.key_id for row in await store.load_keys()] == ["k"], other
        await store.close()


async def test_schemas_are_stores_of_their_own_and_the_default_one_has_our_name(
    postgres_server: PostgresServer,
) -> None:
    one, other = postgres_server.fresh_url(), postgres_server.fresh_url()
    assert await round_trip(one) == ["k"]
    store, default = open_store(other), open_store(postgres_server.url)
    start = (await store.changes(None, 0)).cursor
    assert await store.load_keys() == []
    assert await round_trip(one) == ["k"]
    assert (await store.changes(start, 0)).changes == ()
    await default.load_keys()
    await store.close()
    await default.close()
    connection = await asyncpg.connect(postgres_server.url)
    assert await connection.fetchval("SELECT to_regclass('apikeyrouter.leases')::text") == "apikeyrouter.leases"
    assert await connection.fetchval("SELECT to_regclass('public.leases')") is None
    await connection.close()


async def test_sixteen_stores_that_start_at_once_make_the_tables_once(postgres_url: str) -> None:
    stores = [PostgresStateStore(postgres_url) for _ in range(16)]
    await asyncio.gather(*(store.open() for store in stores))
    await asyncio.gather(*(store.apply(StoreBatch(keys=[key_row(f"k{n}")])) for n, store in enumerate(stores)))
    assert len(await stores[0].load_keys()) == 16
    await asyncio.gather(*(store.close() for store in stores))


async def test_tables_of_a_newer_version_or_of_another_program_are_refused_and_left_alone(
    postgres_server: PostgresServer,
) -> None:
    newer, strange = postgres_server.fresh_url(), postgres_server.fresh_url()
    await round_trip(newer)
    connection = await asyncpg.connect(postgres_server.url)
    await connection.execute(f'SET search_path = "{newer.partition("schema=")[2]}"')
    await connection.execute("INSERT INTO schema_version (version) VALUES (99)")
    schema = strange.partition("schema=")[2]
    await connection.execute(f'CREATE SCHEMA "{schema}"; CREATE TABLE "{schema}".keys (mine int)')
    for url, told in ((newer, "version 99.*upgrade"), (strange, "another program.*schema=NAME")):
        with pytest.raises(StateStoreError, match=told):
            await round_trip(url)
    tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1", schema)
    assert [row[0] for row in tables] == ["keys"]
    await connection.close()


async def test_a_role_without_rights_needs_a_schema_that_it_owns(postgres_server: PostgresServer) -> None:
    connection = await asyncpg.connect(postgres_server.url)
    await connection.execute("CREATE ROLE modest LOGIN")
    url = postgres_server.socket_url.replace("tests@", "modest@") + "&schema=modest_place"
    with pytest.raises(StateStoreError, match="CREATE on the database"):
        await round_trip(url)
    await connection.execute("CREATE SCHEMA modest_place AUTHORIZATION modest")
    assert await round_trip(url) == ["k"]
    store = PostgresStateStore(url)
    await put_budget(store)
    assert (await Borrower(store).lease(10)).granted == 10
    await store.close()
    await connection.close()


async def test_hours_long_past_become_days_and_days_long_past_go(postgres_server: PostgresServer) -> None:
    url, day = postgres_server.fresh_url(), 86_400
    store = PostgresStateStore(url)
    now_s = int((await store.lease(LeaseWorker("w"), [])).now_utc_s)
    today = now_s - now_s % day
    hours = [usage_row(today - 50 * day + n * 3_600, cost=1, model=f"m{n % 2}") for n in range(24)]
    old = [usage_row(today - 500 * day, cost=1_000)]
    await store.apply(StoreBatch(usage=[*hours, *old, usage_row(today + 3_600, cost=100)]))
    await store.close()
    store = PostgresStateStore(url)  # a new process folds with the first usage that it writes
    await store.apply(StoreBatch(usage=[usage_row(today - 50 * day + 3_600, cost=1, model="m1")]))
    later = PostgresStateStore(url)
    await later.apply(StoreBatch(usage=[usage_row(today + 3_600, cost=100)]))
    found = await store.query_usage(UsageQuery(by=("hour_s", "model")))
    assert [(row.hour_s, row.model, row.cost_nano_usd) for row in found] == [
        (today + 3_600, "gpt-4", 200),
        (today - 50 * day, "m1", 13),
        (today - 50 * day, "m0", 12),
    ]
    connection = await asyncpg.connect(postgres_server.url)
    await connection.execute(f'SET search_path = "{url.partition("schema=")[2]}"')
    assert await connection.fetchval("SELECT count(*) FROM usage") == 3
    await connection.close()
    await store.close()
    await later.close()


async def test_windows_long_past_are_forgotten_and_totals_without_a_start_are_not(postgres_url: str) -> None:
    store = PostgresStateStore(postgres_url)
    await put_budget(store, limit=10**9)
    one, most = Borrower(store), WINDOWS_MAX + WINDOWS_MAX // 10
    await one.lease(1, window=0, spent=1)
    for first in range(1, most + 2, 500):
        windows = range(first, min(first + 500, most + 2))
        await one.call(*(one.ask(1, window=n * 3_600, oldest=n * 3_600, spent=1) for n in windows))
    await one.lease(1, window=10**7 * 3_600, spent=1)
    kept = sorted(window.window for window in await store.load_windows([("b", 0, 2**60)]))
    assert WINDOWS_MAX <= len(kept) <= most
    assert (kept[0], kept[-2], kept[-1]) == (0, (most + 1) * 3_600, 10**7 * 3_600)
    assert len(await store.query_entries("b", limit=10_000)) == len(kept)
    await store.close()


def everything_said(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error)


async def test_passwords_are_in_no_description_and_in_no_error(postgres_server: PostgresServer) -> None:
    word = "hunter" + "2" * 6
    wrong = postgres_server.url.replace(postgres_server.password, word)
    nobody = f"postgresql://tests:{word}@127.0.0.1:{free_port()}/postgres?password={word}&sslpassword={word}"
    for url, told in ((wrong, "refused the role or its password"), (nobody, "cannot be reached")):
        store = open_store(url)
        assert word not in store.description + repr(store) + repr(vars(store))
        assert store.description.startswith("postgresql://tests@127.0.0.1:")
        with pytest.raises(StateStoreError, match=told) as caught:
            await store.load_keys()
        assert word not in everything_said(caught.value)
        health = await store.health_check()
        assert health.status is HealthStatus.Down
        assert word not in repr(health)
        await store.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def tls_server(authority: Authority) -> Iterator[PostgresServer]:
    server = PostgresServer()
    server.use_certificate(authority.ca_file.with_name("server.pem"))
    with server:
        yield server


async def test_tls_is_used_when_it_is_asked_for_and_certificates_are_checked(
    tls_server: PostgresServer, authority: Authority, tmp_path: Path
) -> None:
    url = tls_server.fresh_url()
    assert await round_trip(f"{url}&sslmode=require") == ["k"]
    assert await round_trip(f"{url}&sslmode=verify-full&sslrootcert={authority.ca_file}") == ["k"]
    (tmp_path / "other").mkdir()
    stranger = make_authority(tmp_path / "other")
    with pytest.raises(StateStoreError, match="certificate"):
        await round_trip(f"{url}&sslmode=verify-full&sslrootcert={stranger.ca_file}")


async def test_a_server_without_tls_is_refused_when_tls_is_asked_for(postgres_server: PostgresServer) -> None:
    with pytest.raises(StateStoreError, match="SSL"):
        await round_trip(f"{postgres_server.fresh_url()}&sslmode=require")
