"""Where a Redis store can be: databases, names, TLS, passwords; which servers it refuses; what it forgets, and when."""

from __future__ import annotations

import logging
import secrets
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.domain.interfaces.shared_ledger import Legacy, UsageQuery
from apikeyrouter.domain.interfaces.state_store import StateQuery, StoreBatch
from apikeyrouter.domain.models.health_state import HealthStatus
from apikeyrouter.infrastructure.state_store import open_store
from apikeyrouter.infrastructure.state_store.redis_store import RedisStateStore
from apikeyrouter.testing.store_borrower import WINDOW, Borrower, assert_exact, lines_of, put_budget, totals_of
from apikeyrouter.testing.store_rows import decision_row, event_row, key_row, usage_row
from tests.support.certificates import make_authority
from tests.support.servers import RedisServer, free_port

HOUR, DAY = 3_600, 86_400


async def round_trip(url: str) -> list[str]:
    """Writes a key and reads all of them."""
    store = open_store(url)
    try:
        await store.apply(StoreBatch(keys=[key_row("k")]))
        return [row.key_id for row in await store.load_keys()]
    finally:
        await store.close()


async def key_ids(url: str) -> list[str]:
    async with opened(url) as store:
        return [row.key_id for row in await store.load_keys()]


@asynccontextmanager
async def opened(url: str, **settings: Any) -> AsyncIterator[RedisStateStore]:
    store = RedisStateStore(url, **settings)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def refusal(url: str) -> str:
    """What opening the store says."""
    store = RedisStateStore(url)
    with pytest.raises(StateStoreError) as caught:
        await store.open()
    await store.close()
    health = await store.health_check()
    assert health.status is HealthStatus.Down
    text = "".join(traceback.format_exception(caught.value))
    assert caught.value.message in text
    return text


# Places


async def test_names_and_databases_are_stores_of_their_own(redis_url: str) -> None:
    other_database = redis_url.removesuffix("0") + "1"
    places = [redis_url, f"{redis_url}?name=other", other_database]
    for place in places:
        assert await key_ids(place) == []
        assert await round_trip(place) == ["k"]
    async with opened(places[1]) as store:
        start = (await store.changes(None, 0)).cursor
        await round_trip(redis_url)
        assert (await store.changes(start, 0)).changes == ()


async def test_every_key_of_a_store_has_its_prefix_and_its_hash_tag(redis_server: RedisServer, redis_url: str) -> None:
    async with opened(f"{redis_url}?name=prod") as store:
        batch = StoreBatch([key_row("}k{")], [], [event_row(1)], [decision_row("d")], [usage_row(490_000 * HOUR)])
        await store.apply(batch)
        await put_budget(store, "}b{")
        await Borrower(store, "}w{").lease(10, budget_id="}b{", spent=3)
        await store.put_setting("s", b"")
    keys = [line for line in redis_server.command("KEYS", "*").split(b"\r\n") if line.startswith(b"akr")]
    assert len(keys) > 15
    assert all(key.startswith(b"akr:{prod}:") for key in keys)
    assert b"$" + str(len(keys)).encode() not in redis_server.command("KEYS", "akr:{prod}:*")[:4]


async def test_tls_works_and_a_stranger_is_refused(tmp_path: Path) -> None:
    tls_port = free_port()
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()
    authority = make_authority(ours)
    strangers = make_authority(theirs)
    pair = str(ours / "server.pem")
    arguments = ["--tls-port", str(tls_port), "--tls-cert-file", pair, "--tls-key-file", pair]
    arguments += ["--tls-ca-cert-file", str(authority.ca_file), "--tls-auth-clients", "no"]
    with RedisServer(arguments=arguments) as server:
        url = f"rediss://localhost:{tls_port}/0"
        assert await round_trip(f"{url}?ssl_ca_certs={authority.ca_file}") == ["k"]
        assert await key_ids(server.url) == ["k"]
        assert "certificate verify failed" in await refusal(f"{url}?ssl_ca_certs={strangers.ca_file}")
        assert "certificate verify failed" in await refusal(url)


async def test_passwords_are_needed_taken_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    password = secrets.token_hex(8)
    with RedisServer(password=password, arguments=["--appendonly", "no"]) as server:
        with caplog.at_level(logging.DEBUG):
            assert await round_trip(server.url) == ["k"]
            assert "refused" in await refusal(server.url.replace(f":{password}@", ""))
            wrong = await refusal(server.url.replace(password, f"{password}x"))
            assert "refused our user or password" in wrong
            store = RedisStateStore(server.url)
            await store.open()
            server.kill()
            with pytest.raises(StateStoreError) as caught:
                await store.load_keys()
            await store.close()
        for text in (
            wrong,
            caplog.text,
            repr(store),
            store.description,
            "".join(traceback.format_exception(caught.value)),
        ):
            assert password not in text


async def test_a_user_with_all_rights_on_our_keys_is_enough(redis_server: RedisServer, redis_url: str) -> None:
    password = secrets.token_hex(8)
    rules = ["on", f">{password}", "~akr:*", "+@all", "-@dangerous", "+info"]
    assert redis_server.command("ACL", "SETUSER", "router", *rules).startswith(b"+OK")
    try:
        url = redis_url.replace("redis://", f"redis://router:{password}@")
        assert await round_trip(url) == ["k"]
        async with opened(url) as store:
            assert (await store.health_check()).details["loss_window"] == "about 1 s", "INFO says enough without CONFIG"
            await put_budget(store)
            assert (await Borrower(store).lease(10)).granted == 10
        assert redis_server.command("ACL", "SETUSER", "router", "resetkeys", "~other:*").startswith(b"+OK")
        assert "ACL" in await refusal(url)
    finally:
        redis_server.command("ACL", "DELUSER", "router")


async def test_where_nobody_listens_is_said_at_once() -> None:
    said = await refusal(f"redis://127.0.0.1:{free_port()}/0")
    assert "cannot be reached" in said


# Servers


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
async def test_a_server_that_evicts_is_refused_with_what_to_set(policy: str) -> None:
    with RedisServer(arguments=["--maxmemory-policy", policy, "--rename-command", "CONFIG", ""]) as server:
        said = await refusal(server.url)
        assert policy in said
        assert "maxmemory-policy noeviction" in said


async def test_a_policy_that_changes_later_is_told_by_the_next_health_check(redis_server: RedisServer) -> None:
    async with opened(redis_server.url) as store:
        try:
            assert redis_server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu").startswith(b"+OK")
            health = await store.health_check()
            assert health.status is HealthStatus.Down
            assert "noeviction" in health.details["error"]
        finally:
            assert redis_server.command("CONFIG", "SET", "maxmemory-policy", "noeviction").startswith(b"+OK")
        assert (await store.health_check()).status is HealthStatus.Healthy


@pytest.mark.parametrize(
    ("arguments", "window", "warns"),
    [
        (["--appendfsync", "always"], "none on this node", False),
        (["--appendfsync", "everysec"], "about 1 s", False),
        (["--appendfsync", "no"], "what its operating system had not written yet (about 30 s)", True),
        (["--appendonly", "no", "--save", "60 1"], "everything since the last RDB snapshot", True),
        (["--appendonly", "no"], "everything: it keeps nothing on disk", True),
    ],
)
async def test_what_a_crash_of_the_server_may_lose_is_said_and_warned_of(
    arguments: list[str], window: str, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisServer(arguments=arguments) as server, caplog.at_level(logging.INFO, logger="apikeyrouter"):
        async with opened(server.url) as store:
            details = (await store.health_check()).details
            assert details["loss_window"] == window
            assert details["server_version"].startswith("7.")
            await store.health_check()
        warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert [window in record.getMessage() for record in warnings] == ([True] if warns else [])


async def test_a_replica_is_refused(redis_server: RedisServer) -> None:
    with RedisServer(arguments=["--replicaof", "127.0.0.1", str(redis_server.port)]) as replica:
        assert "replica" in await refusal(replica.url)


async def test_keys_of_another_format_are_refused_and_left_alone(redis_server: RedisServer, redis_url: str) -> None:
    await round_trip(redis_url)
    assert redis_server.command("SET", "akr:{main}:format", "2").startswith(b"+OK")
    assert "another version" in await refusal(redis_url)
    assert await round_trip(f"{redis_url}?name=other") == ["k"]


# What is forgotten


async def test_old_hours_become_days_and_very_old_days_go(redis_server: RedisServer, redis_url: str) -> None:
    async with opened(redis_url) as store:
        now_s = int((await Borrower(store).call()).now_utc_s)
        today = now_s - now_s % DAY
        old = [usage_row(today - 50 * DAY + n * HOUR, cost=1, model=f"m{n % 2}") for n in range(24)]
        older = [usage_row(today - 500 * DAY + n * HOUR, cost=1) for n in range(24)]
        new = [usage_row(today - 30 * DAY + n * HOUR, cost=1) for n in range(24)]
        for _ in range(4):
            await store.apply(StoreBatch(usage=[*old, *older, *new]))
            old, older, new = [], [], [usage_row(today, cost=1)]
        by_hour = {row.hour_s: row.cost_nano_usd for row in await store.query_usage(UsageQuery(by=("hour_s",)))}
        expected = {today - 30 * DAY + n * HOUR: 1 for n in range(24)}
        assert by_hour == {today - 50 * DAY: 24, today: 3, **expected}
        keys = redis_server.command("KEYS", "akr:{main}:usage:*")
        assert keys.count(b"usage:days:") == 1
        assert keys.count(b"usage:hours:") == 25


async def test_the_oldest_windows_of_a_budget_go_but_never_its_total(redis_url: str) -> None:
    async with opened(redis_url) as store:
        await put_budget(store, limit=10**9)
        one = Borrower(store, "w1")
        await one.lease(5, window=0, oldest=0, spent=5)
        for first in range(0, 2_100, 100):
            windows = [WINDOW + (first + n) * HOUR for n in range(100)]
            await one.call(*(one.ask(2, window=window, oldest=window, spent=1) for window in windows))
        kept = await store.load_windows([("b", 0, WINDOW + 10_000 * HOUR)])
        assert len(kept) == 2_000
        assert kept[0].window == 0
        assert kept[1].window == WINDOW + 101 * HOUR
        presumed = await store.recover_worker("w1", {("b", 0): Legacy(5, 1)})
        assert presumed == 1 + 1_999, "slices of windows that are forgotten are, too"
        assert len(await store.load_windows([("b", 0, WINDOW + 10_000 * HOUR)])) == 2_000
        assert (await assert_exact(store, "b", 0)).spent == 6


async def test_entries_of_all_budgets_together_stay_below_their_maximum(redis_url: str) -> None:
    async with opened(redis_url, max_events=50) as store:
        for name in "abc":
            await put_budget(store, name, limit=10**9)
        one = Borrower(store)
        for spent in range(1, 101):
            await one.call(*(one.ask(spent, budget_id=name, spent=spent) for name in "abc"))
        lines = [line for name in "abc" for line in await lines_of(store, name)]
        assert len(lines) == 50 + 3
        for name in "abc":
            assert (await assert_exact(store, name)).spent == 100


async def test_a_log_whose_maximum_was_lowered_shrinks_step_by_step(redis_url: str) -> None:
    async with opened(redis_url) as store:
        await store.apply(StoreBatch(events=[event_row(number) for number in range(3_000)]))
    async with opened(redis_url, max_events=100) as store:
        counts = []
        for number in range(4):
            await store.apply(StoreBatch(events=[event_row(10_000 + number)]))
            counts.append(len(await store.query_events(StateQuery("key.transition", limit=10_000))))
        assert counts[0] < 3_000
        assert counts[-1] == 100


async def test_a_long_log_is_searched_wholly(redis_url: str) -> None:
    async with opened(redis_url) as store:
        rows = [
            decision_row(f"d{n}", at_s=n // 1_300, key_id="rare" if n % 1_000 == 7 else "key") for n in range(4_000)
        ]
        await store.apply(StoreBatch(decisions=rows))
        found = await store.query_decisions(StateQuery("RoutingDecision", key_id="rare"))
        assert [row.decision_id for row in found] == ["d3007", "d2007", "d1007", "d7"]
        assert len(await store.query_decisions(StateQuery("RoutingDecision", limit=10_000))) == 4_000
        page = await store.query_decisions(StateQuery("RoutingDecision", key_id="key", limit=3, offset=3_000))
        assert [row.decision_id for row in page] == ["d996", "d995", "d994"]


async def test_texts_that_are_not_unicode_are_refused(redis_url: str) -> None:
    async with opened(redis_url) as store:
        for call in (
            store.get_setting("\ud800"),
            store.get_decision("\ud800"),
            store.apply(StoreBatch(keys=[key_row("k", provider_id="\ud800")])),
            store.apply(StoreBatch(events=[event_row(1, entity_id="\ud800")])),
            store.delete_key("\ud800"),
            store.apply(StoreBatch(events=[event_row(float("nan"))])),
            Borrower(store, "\ud800").call(),
        ):
            with pytest.raises(StateStoreError):
                await call
        assert (await totals_of(store)).spent == 0
