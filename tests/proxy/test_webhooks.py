"""Webhooks against a real receiver: signed, repeated until they arrive, and not lost by a restart."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from apikeyrouter.domain.cost.budgets import BudgetThresholdReached
from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.interfaces.state_store import StateStore, StoreBatch
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.infrastructure.clock import SystemClock
from apikeyrouter.infrastructure.state_store.memory_store import MemoryStateStore
from apikeyrouter.infrastructure.state_store.sqlite_store import SQLiteStateStore
from apikeyrouter_proxy.settings import ProxySettings
from apikeyrouter_proxy.webhook_target import WebhookTarget, is_reachable, read_target
from apikeyrouter_proxy.webhooks import Message, Timing, Webhooks, latest_messages
from tests.support.processes import free_port, proxy_process
from tests.support.receiver import Receiver, new_secret, receiver
from tests.support.server import run_proxy
from tests.support.sim import Sim
from tests.support.snippets import run_python, snippets

CLOCK = SystemClock()
QUICK = Timing(attempt_s=5.0, first_wait_s=0.02, wait_max_s=0.1, give_up_s=60.0, orphan_s=0.3, scan_s=0.1)


def alert(percent: int = 80, **changes: Any) -> BudgetThresholdReached:
    fields: dict[str, Any] = {
        "budget_id": "budget_1", "scope": "per_team", "scope_id": "search", "mode": "hard", "percent": percent,
        "limit_nano_usd": 10 * 10**9, "spent_nano_usd": 8_000_000_001, "window_id": "2026-11-21",
    }  # fmt: skip
    return BudgetThresholdReached(**{**fields, **changes})


def target(url: str, *secrets: str, allow_private: bool = False) -> WebhookTarget:
    faults: list[str] = []
    found = read_target(url, " ".join(secrets or (new_secret(),)), allow_private=allow_private, faults=faults)
    assert found is not None
    assert faults == []
    return found


def sender(url: str, store: StateStore | None = None, timing: Timing = QUICK, **more: Any) -> Webhooks:
    return Webhooks(target(url), store or MemoryStateStore(), CLOCK, Random(1), timing=timing, **more)


async def until(true: Callable[[], object], within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not true():
            await CLOCK.sleep(0.01)


async def tried(hooks: Webhooks, attempts: int) -> Message:
    """The newest message once it has been tried so often."""
    async with asyncio.timeout(10):
        while (found := (await hooks.newest(1))[0]).attempts < attempts:
            await CLOCK.sleep(0.01)
    return found


async def test_an_alert_arrives_signed_and_says_all_with_exact_amounts() -> None:
    with receiver() as there:
        hooks = sender(there.url)
        hooks.start()
        hooks.budget_alert(alert())
        await until(lambda: there.got and not hooks.pending)
        await hooks.aclose()
        (delivery,) = there.got
    assert (delivery.path, delivery.headers["content-type"]) == ("/hooks/budgets", "application/json")
    assert delivery.signed_with(new_secret())
    assert not delivery.signed_with(new_secret(b"x"))
    event = delivery.json
    assert event["type"] == "budget.threshold"
    assert event["data"]["at"] == event["timestamp"]
    assert event["data"]["at"].endswith("Z")
    del event["data"]["at"]
    assert event["data"] == {
        "budget_id": "budget_1", "scope": "per_team", "scope_id": "search", "mode": "hard", "percent": 80,
        "limit": "10", "spent": "8.000000001", "currency": "USD", "window": "2026-11-21",
    }  # fmt: skip


def test_the_signature_is_the_one_of_the_published_example() -> None:
    found = target("https://example.com/", "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signature = found.signature("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_the_documented_check_accepts_ours_and_refuses_forged_altered_and_old_ones() -> None:
    page = Path(__file__).parents[2] / "docs/how-to/budgets.md"
    (block,) = [one for one in snippets(page) if "def is_genuine" in one.code]
    is_genuine = (await run_python(block, {}))["is_genuine"]
    with receiver() as there:
        hooks = sender(there.url)
        hooks.start()
        hooks.budget_alert(alert())
        await until(lambda: there.got)
        await hooks.aclose()
    headers, body = there.got[0].headers, there.got[0].body
    assert is_genuine(headers, body, new_secret())
    assert not is_genuine(headers, body, new_secret(b"x"))
    assert not is_genuine(headers, body.replace(b"80", b"81"), new_secret())
    assert not is_genuine({**headers, "webhook-id": "msg_other"}, body, new_secret())
    earlier = str(int(headers["webhook-timestamp"]) - 3600)
    assert not is_genuine({**headers, "webhook-timestamp": earlier}, body, new_secret())


async def test_two_secrets_sign_twice_so_that_one_can_be_replaced() -> None:
    old, new = new_secret(b"o"), new_secret(b"n")
    with receiver() as there:
        hooks = Webhooks(target(there.url, new, old), MemoryStateStore(), CLOCK, Random(1), timing=QUICK)
        hooks.start()
        hooks.budget_alert(alert())
        await until(lambda: there.got)
        await hooks.aclose()
    assert there.got[0].signed_with(old)
    assert there.got[0].signed_with(new)


async def test_it_is_repeated_with_the_same_id_until_the_receiver_takes_it() -> None:
    with receiver() as there:
        there.fail(500, 503, 401, 302, location="http://127.0.0.1:9/elsewhere")
        hooks = sender(there.url)
        hooks.start()
        hooks.budget_alert(alert())
        await until(lambda: len(there.got) == 5 and not hooks.pending)
        (told,) = await hooks.newest(10)
        await hooks.aclose()
    assert len({delivery.id for delivery in there.got}) == 1
    assert {delivery.body for delivery in there.got} == {there.got[0].body}
    assert all(delivery.signed_with(new_secret()) for delivery in there.got)
    assert {delivery.path for delivery in there.got} == {"/hooks/budgets"}
    assert (told.state, told.attempts, told.detail) == ("delivered", 5, "status 204")


async def test_a_receiver_that_is_not_there_gets_it_when_it_comes() -> None:
    there = Receiver()
    port = free_port()
    hooks = sender(f"http://127.0.0.1:{port}/hooks/budgets")
    hooks.start()
    hooks.budget_alert(alert())
    waiting = await tried(hooks, 2)
    assert waiting.state == "retrying"
    assert "refused" in waiting.detail
    with receiver(port, there):
        await until(lambda: there.got and not hooks.pending)
    await hooks.aclose()


async def test_an_alert_told_twice_is_sent_once_and_others_besides() -> None:
    with receiver() as there:
        hooks = sender(there.url)
        hooks.start()
        for event in (alert(), alert(), alert(95), alert(window_id="2026-11-22")):
            hooks.budget_alert(event)
        await until(lambda: len(there.got) == 3 and not hooks.pending)
        hooks.budget_alert(alert())
        await CLOCK.sleep(0.05)
        await hooks.aclose()
    assert len({delivery.id for delivery in there.got}) == len(there.got) == 3


async def test_the_receivers_wish_to_wait_is_respected() -> None:
    with receiver() as there:
        there.fail(429, retry_after="1")
        hooks = sender(there.url, timing=Timing(first_wait_s=0.01, wait_max_s=5.0))
        hooks.start()
        hooks.budget_alert(alert())
        await until(lambda: there.got)
        await CLOCK.sleep(0.5)
        assert len(there.got) == 1
        await until(lambda: len(there.got) == 2)
        await hooks.aclose()


async def test_it_is_given_up_when_the_receiver_is_gone_and_when_it_is_too_old() -> None:
    with receiver() as there:
        there.fail(410)
        hooks = sender(there.url)
        hooks.start()
        hooks.budget_alert(alert())
        await until(lambda: there.got and not hooks.pending)
        (gone,) = await hooks.newest(1)
        await hooks.aclose()
    assert (gone.state, gone.detail, gone.attempts) == ("failed", "given up: status 410", 1)
    with receiver() as there:
        there.fail(*[500] * 1000)
        hooks = sender(there.url, timing=Timing(first_wait_s=0.02, wait_max_s=0.05, give_up_s=0.3))
        hooks.start()
        hooks.budget_alert(alert())
        await until(lambda: there.got and not hooks.pending)
        (old,) = await hooks.newest(1)
        await hooks.aclose()
    assert (old.state, old.detail) == ("failed", "given up: status 500")
    assert old.attempts == len(there.got) > 3


async def test_the_queue_is_bounded_and_gives_up_the_oldest() -> None:
    hooks = sender(f"http://127.0.0.1:{free_port()}/")
    for i in range(1003):
        hooks.budget_alert(alert(budget_id=f"budget_{i}"))
    assert (hooks.pending, hooks.dropped) == (1000, 3)
    told = {one.detail for one in await hooks.newest(2000)}
    assert told == {"", "given up: the queue is full"}
    await hooks.aclose()


async def test_queueing_waits_for_nobody() -> None:
    class Slow(MemoryStateStore):
        async def flush(self) -> None:
            await CLOCK.sleep(3600)

    hooks = sender(f"http://127.0.0.1:{free_port()}/", Slow())
    hooks.start()
    async with asyncio.timeout(1):
        hooks.budget_alert(alert())
        await asyncio.sleep(0)
    assert hooks.pending == 1
    await hooks.aclose()


# -- restarts and other processes -----------------------------------------------------------------------------------


async def test_a_restart_loses_nothing(tmp_path: Path) -> None:
    store = SQLiteStateStore(tmp_path / "state.sqlite")
    hooks = sender(f"http://127.0.0.1:{free_port()}/", store)
    hooks.start()
    hooks.budget_alert(alert())
    hooks.budget_alert(alert(100))
    first = {one.id: one.body for one in await hooks.newest(10)}
    await hooks.aclose()
    await store.close()
    with receiver() as there:
        again = sender(there.url, SQLiteStateStore(tmp_path / "state.sqlite"), timing=Timing())
        again.start()  # the ordinary timing: what was left behind in order is sent at once
        await until(lambda: len(there.got) == 2 and not again.pending)
        assert {one.state for one in await again.newest(10)} == {"delivered"}
        await again.aclose()
        await again._store.close()
    assert {delivery.id: delivery.body.decode() for delivery in there.got} == first


async def test_what_a_dead_process_left_behind_is_sent_by_exactly_one_other(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    dead_store = SQLiteStateStore(path)
    dead = sender(f"http://127.0.0.1:{free_port()}/", dead_store)
    for i in range(5):
        dead.budget_alert(alert(budget_id=f"budget_{i}"))
    await dead_store.flush()  # never started, never closed: as if it had been killed
    with receiver() as there:
        stores = [SQLiteStateStore(path) for _ in range(4)]
        others = [sender(there.url, store) for store in stores]
        for one in others:
            one.start()
        await until(lambda: len(there.got) >= 5 and not any(one.pending for one in others))
        await CLOCK.sleep(0.5)
        for one in others:
            await one.aclose()
    for store in [dead_store, *stores]:
        await store.close()
    assert len(there.got) == 5
    assert len({delivery.id for delivery in there.got}) == 5


async def test_a_living_process_keeps_its_messages(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    stores = [SQLiteStateStore(path) for _ in range(2)]
    await stores[0].open()
    with receiver() as there:
        there.fail(*[500] * 12)
        timing = Timing(first_wait_s=0.1, wait_max_s=0.1, orphan_s=0.5, scan_s=0.05)
        owner, other = (sender(there.url, store, timing) for store in stores)
        other.start()
        owner.start()
        owner.budget_alert(alert())
        owner.budget_alert(alert(95))
        await until(lambda: not owner.pending)
        assert other.pending == 0
        (first, second) = await owner.newest(10)
        await owner.aclose()
        await other.aclose()
    for store in stores:
        await store.close()
    assert first.attempts + second.attempts == len(there.got) == 14


async def test_messages_that_wait_for_their_turn_are_not_taken_for_orphans(tmp_path: Path) -> None:
    stores = [SQLiteStateStore(tmp_path / "state.sqlite") for _ in range(2)]
    await stores[0].open()
    with receiver() as there:
        there.slow_s = 0.1
        timing = Timing(first_wait_s=0.1, orphan_s=0.8, scan_s=0.05)
        owner, other = (sender(there.url, store, timing) for store in stores)
        other.start()
        owner.start()
        for i in range(16):
            owner.budget_alert(alert(budget_id=f"budget_{i}"))
        await until(lambda: not owner.pending)
        await owner.aclose()
        await other.aclose()
    for store in stores:
        await store.close()
    assert len(there.got) == len({delivery.id for delivery in there.got}) == 16


class Behind:
    """A clock that is ten seconds slow."""

    def monotonic_s(self) -> float:
        return CLOCK.monotonic_s()

    def utc_now(self) -> datetime:
        return CLOCK.utc_now() - timedelta(seconds=10)

    async def sleep(self, delay_s: float) -> None:
        await CLOCK.sleep(delay_s)


class Late(SQLiteStateStore):
    """Reads at once, and writes when the gate opens."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.gate = asyncio.Event()
        self.waits = False

    async def apply(self, batch: StoreBatch) -> None:
        self.waits = True
        await self.gate.wait()
        await super().apply(batch)


async def test_of_two_that_take_over_at_once_the_first_writer_wins_whatever_the_clocks_say(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    dead, late, early = SQLiteStateStore(path), Late(path), SQLiteStateStore(path)
    left = sender(f"http://127.0.0.1:{free_port()}/", dead)
    left.budget_alert(alert())
    await left.aclose()
    await dead.close()
    with receiver() as there:
        loser = Webhooks(target(there.url), late, Behind(), Random(1), timing=QUICK)
        loser.start()
        await until(lambda: late.waits)
        winner = sender(there.url, early)
        winner.start()
        await until(lambda: there.got and not winner.pending)
        await early.flush()
        late.gate.set()
        await CLOCK.sleep(0.3)
        assert loser.pending == 0
        await loser.aclose()
        await winner.aclose()
    await late.close()
    await early.close()
    assert len(there.got) == 1


def line(owner: str, at_s: float, **changes: Any) -> Message:
    fields: dict[str, Any] = {"id": "m", "type": "t", "body": "{}", "created_at_s": 0.0, "next_at_s": 0.0}
    return Message(**{**fields, "owner": owner, "at_s": at_s, **changes})


def test_only_the_first_claim_of_a_line_counts_and_the_loser_has_no_say() -> None:
    first = line("a", 1.0)
    won, lost = line("b", 1.001, claims=first.line), line("c", 1.001, claims=first.line)
    assert latest_messages([first, won, lost])["m"] == won
    assert latest_messages([first, lost, won])["m"] == lost
    late = line("a", 5.0, state="retrying")
    assert latest_messages([first, won, lost, late])["m"] == won
    released = line("", 6.0, claims=won.line)
    assert latest_messages([first, won, lost, late, released])["m"] == released
    assert latest_messages([first, won, line("", 6.0, claims=late.line)])["m"] == won


# -- where they may go ----------------------------------------------------------------------------------------------


def environ(**more: str) -> dict[str, str]:
    return {"HOME": "/home/somebody", **more}


def faults_of(**more: str) -> str:
    with pytest.raises(ConfigurationError) as raised:
        ProxySettings.from_environ(environ(**more))
    return "\n".join(raised.value.faults)


def test_a_url_without_a_secret_is_refused_with_how_to_make_one() -> None:
    told = faults_of(APIKEYROUTER_WEBHOOK_URL="https://example.com/hook")
    assert "APIKEYROUTER_WEBHOOK_SECRET" in told
    assert "openssl rand -base64 32" in told


@pytest.mark.parametrize(
    "secret", ["hunter2" * 6, "whsec_", "whsec_" + "c2hvcnQ=", "whsec_" + "!" * 44, new_secret() + " and-more"]
)
def test_a_weak_or_malformed_secret_is_refused_and_not_repeated(secret: str) -> None:
    told = faults_of(APIKEYROUTER_WEBHOOK_URL="https://example.com/hook", APIKEYROUTER_WEBHOOK_SECRET=secret)
    assert "24 to 64 bytes" in told
    assert secret.removeprefix("whsec_") == "" or secret.removeprefix("whsec_")[:8] not in told


@pytest.mark.parametrize(
    "url",
    ["http://example.org/x", "ftp://example.org", "example.org", "https:///path", "https://u:pw@example.com/",
     "https://example.com:99999/", "http://10.0.0.1/", "http://localhost.example.com/", "https://example.com/#x",
     "https://exa mple.com/"],
)  # fmt: skip
def test_urls_that_cannot_be_used_are_refused(url: str) -> None:
    told = faults_of(APIKEYROUTER_WEBHOOK_URL=url, APIKEYROUTER_WEBHOOK_SECRET=new_secret())
    assert told.startswith("APIKEYROUTER_WEBHOOK_URL:")
    assert url not in told


def test_the_settings_are_read_and_show_neither_path_nor_secret() -> None:
    read = ProxySettings.from_environ(
        environ(
            APIKEYROUTER_WEBHOOK_URL="https://example.com/private-path",
            APIKEYROUTER_WEBHOOK_SECRET=new_secret(),
            APIKEYROUTER_WEBHOOK_ALLOW_PRIVATE="true",
        )
    )
    assert read.webhook is not None
    assert read.webhook.allow_private
    assert read.webhook.secrets == (Secret(b"k" * 32),)
    assert "private-path" not in repr(read)
    assert "https://example.com" in repr(read)
    assert ProxySettings.from_environ(environ()).webhook is None
    assert "set both" in faults_of(APIKEYROUTER_WEBHOOK_SECRET=new_secret())


def test_the_secret_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(new_secret() + "\n")
    read = ProxySettings.from_environ(
        environ(APIKEYROUTER_WEBHOOK_URL="https://example.com/", APIKEYROUTER_WEBHOOK_SECRET_FILE=str(file))
    )
    assert read.webhook is not None


PRIVATE = ["10.1.2.3", "192.168.0.1", "172.16.0.1", "100.64.0.1", "fd00::1", "::ffff:10.0.0.1", "64:ff9b::a00:1"]
NEVER = [
    "169.254.169.254",
    "fe80::1",
    "fe80::1%eth0",
    "::ffff:169.254.169.254",
    "0.0.0.0",
    "::",
    "224.0.0.1",
    "ff02::1",
]
PUBLIC = ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"]


@pytest.mark.parametrize("address", [*PRIVATE, *NEVER, "127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_private_addresses_are_not_reached_unless_that_was_allowed(address: str) -> None:
    assert not is_reachable(address, local=False, allow_private=False)
    assert is_reachable(address, local=False, allow_private=True) is (address not in NEVER)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_reached_but_not_under_a_local_name(address: str) -> None:
    assert is_reachable(address, local=False, allow_private=False)
    assert not is_reachable(address, local=True, allow_private=True)


async def test_a_public_name_that_leads_inside_is_not_followed() -> None:
    class Rebound(WebhookTarget):
        """Its name is public and its address is not."""

        @property
        def local(self) -> bool:
            return False

    with receiver() as there:
        hooks = Webhooks(Rebound(there.url, (Secret(b"k" * 32),)), MemoryStateStore(), CLOCK, Random(1), timing=QUICK)
        hooks.start()
        hooks.budget_alert(alert())
        told = await tried(hooks, 1)
        await hooks.aclose()
    assert there.got == []
    assert "APIKEYROUTER_WEBHOOK_ALLOW_PRIVATE" in told.detail


async def test_a_huge_answer_is_not_read() -> None:
    taken = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        try:
            while True:
                writer.write(b"x" * 65_536)
                await writer.drain()
                taken += 65_536
        except ConnectionError:
            writer.close()

    server = await asyncio.start_server(flood, "127.0.0.1", 0)
    async with server:
        hooks = sender(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        hooks.start()
        hooks.budget_alert(alert())
        await until(lambda: not hooks.pending)
        (told,) = await hooks.newest(1)
        await hooks.aclose()
    assert told.state == "delivered"
    assert taken < 16 * 2**20
    assert json.loads(told.body)["data"]["percent"] == 80


# -- in a proxy -----------------------------------------------------------------------------------------------------


def test_a_test_event_is_sent_and_its_delivery_is_listed() -> None:
    with receiver() as there, run_proxy(webhook=target(there.url)) as (served, _):
        there.fail(500)
        queued = served.post("/api/v1/webhooks/test")
        assert queued.status == 202
        (first,) = there.wait_for(1)
        listed = served.get("/api/v1/webhooks").json
        assert (listed["target"], listed["total"]) == (there.url.removesuffix("/hooks/budgets"), 1)
        (shown,) = listed["data"]
        assert shown["id"] == queued.json["id"] == first.id
        assert shown["body"].encode() == first.body
        assert shown["state"] in ("queued", "retrying")
    assert first.json["type"] == "webhook.test"
    assert "hooks/budgets" not in json.dumps(listed)


def test_without_a_receiver_there_is_nothing_to_list_or_test() -> None:
    with run_proxy() as (served, _):
        assert served.get("/api/v1/webhooks").json["target"] is None
        refused = served.post("/api/v1/webhooks/test")
    assert (refused.status, refused.code) == (404, "not_found")
    assert "APIKEYROUTER_WEBHOOK_URL" in refused.json["error"]["message"]


def test_an_alert_is_not_lost_when_the_proxy_stops(sim: Sim, tmp_path: Path) -> None:
    env = {"APIKEYROUTER_WEBHOOK_SECRET": new_secret(), "APIKEYROUTER_STORE": f"sqlite:///{tmp_path / 'state.sqlite'}"}
    port = free_port()
    env["APIKEYROUTER_WEBHOOK_URL"] = f"http://127.0.0.1:{port}/hooks/budgets"
    with proxy_process(sim, tmp_path, env=env) as proxy:
        assert proxy.post("/api/v1/webhooks/test", {})[0] == 202
    there = Receiver()
    with receiver(port, there), proxy_process(sim, tmp_path, env=env):
        (delivery,) = there.wait_for(1)
    assert delivery.signed_with(new_secret())
