"""Who may do what, asked of `Access` itself: open mode, keys, web pages, back-off."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.feed import ChangeFeed
from apikeyrouter.infrastructure.state_store.memory_store import MemoryStateStore
from apikeyrouter.testing.virtual_time import ManualClock
from apikeyrouter_proxy.access import Access, Role, check_safe_start
from apikeyrouter_proxy.settings import ProxySettings
from apikeyrouter_proxy.virtual_keys import VirtualKeys
from apikeyrouter_proxy.wire.errors import WireError

ADMIN_KEY = "admin-" + "k" * 20
ANYWHERE = "0.0.0.0"
HOST = {b"host": b"127.0.0.1:8000"}


class Gate:
    """An `Access` with its keys and clock."""

    def __init__(self, **settings: Any) -> None:
        self.clock = ManualClock(100.0)
        store = MemoryStateStore(clock=self.clock)
        self.keys = VirtualKeys(store, self.clock)
        self.settings = ProxySettings(**settings)
        self.access = Access(self.settings, self.keys, self.clock, ChangeFeed(store, self.clock))

    async def open(self) -> Gate:
        await self.keys.open()
        return self

    def ask(self, headers: dict[bytes, bytes] | None = None, *, client: str = "127.0.0.1", admin: bool = False) -> str:
        """The principal's id, or "status code"."""
        scope = {"type": "http", "client": (client, 50_000)}
        check = self.access.authenticate_admin if admin else self.access.authenticate
        try:
            return check(scope, {**HOST, **(headers or {})}).id
        except WireError as error:
            return f"{error.status} {json.loads(error.body)['error']['code']}"


def bearer(token: str) -> dict[bytes, bytes]:
    return {b"authorization": b"Bearer " + token.encode()}


async def test_on_loopback_without_virtual_keys_any_or_no_bearer_is_fine() -> None:
    gate = await Gate().open()
    assert gate.ask() == "local"
    assert gate.ask(bearer("whatever")) == "local"
    assert gate.ask(admin=True) == "local"
    assert gate.ask(client="::1") == "local"


async def test_creating_a_virtual_key_ends_open_mode_for_good() -> None:
    gate = await Gate().open()
    view, token = await gate.keys.create("one")
    assert gate.ask() == "401 invalid_api_key"
    assert gate.ask(bearer(token)) == view.id
    await gate.keys.revoke(view.id)
    assert gate.ask() == "401 invalid_api_key"
    assert gate.ask(admin=True) == "local"  # nobody has an admin key yet: the operator must not be locked out


async def test_an_admin_virtual_key_closes_the_management_api() -> None:
    gate = await Gate().open()
    _, client = await gate.keys.create("client")
    admin, token = await gate.keys.create("boss", Role.Admin)
    assert gate.ask(admin=True) == "401 invalid_api_key"
    assert gate.ask(bearer(client), admin=True) == "403 admin_key_required"
    assert gate.ask(bearer(token), admin=True) == admin.id
    assert gate.ask(bearer(token)) == admin.id


async def test_an_admin_key_of_the_environment_closes_the_management_api_only() -> None:
    gate = await Gate(admin_key=Secret(ADMIN_KEY)).open()
    assert gate.ask() == "local"
    assert gate.ask(admin=True) == "401 invalid_api_key"
    assert gate.ask(bearer(ADMIN_KEY), admin=True) == "admin"
    assert gate.ask({b"x-api-key": ADMIN_KEY.encode()}, admin=True) == "admin"
    assert gate.ask(bearer(ADMIN_KEY[:-1] + "z"), admin=True) == "401 invalid_api_key"


@pytest.mark.parametrize("settings", [{"host": ANYWHERE}, {"require_auth": True}])
async def test_elsewhere_or_on_demand_a_key_is_always_needed(settings: dict[str, Any]) -> None:
    gate = await Gate(admin_key=Secret(ADMIN_KEY), **settings).open()
    assert gate.ask() == "401 invalid_api_key"
    assert gate.ask(admin=True) == "401 invalid_api_key"
    assert gate.ask(bearer(ADMIN_KEY)) == "admin"


@pytest.mark.parametrize("client", ["192.168.1.7", "10.0.0.1", "2001:db8::1", "", "testclient"])
async def test_open_mode_holds_for_callers_from_this_machine_only(client: str) -> None:
    gate = await Gate().open()
    assert gate.ask(client=client) == "401 invalid_api_key"
    assert gate.ask(client=client, admin=True) == "401 invalid_api_key"


@pytest.mark.parametrize("header", [b"x-api-key", b"x-goog-api-key"])
async def test_three_headers_carry_a_key(header: bytes) -> None:
    gate = await Gate().open()
    view, token = await gate.keys.create("one")
    assert gate.ask({header: token.encode()}) == view.id
    assert gate.ask({b"authorization": b"bearer  " + token.encode()}) == view.id
    assert gate.ask({b"authorization": b"Basic dTpw", header: token.encode()}) == view.id


async def test_unknown_wrong_revoked_and_expired_keys_get_the_same_answer() -> None:
    gate = await Gate().open()
    _, expired_token = await gate.keys.create("old", expires_at=gate.clock.utc_now() + timedelta(seconds=1))
    revoked, revoked_token = await gate.keys.create("gone")
    await gate.keys.revoke(revoked.id)
    gate.clock.advance(5)
    answers = set()
    for token in (expired_token, revoked_token, revoked_token[:-1] + "_", "akr_" + "x" * 61, "sk-" + "y" * 20, "z"):
        with pytest.raises(WireError) as caught:
            gate.access.authenticate({"client": ("127.0.0.1", 1)}, bearer(token))
        answers.add((caught.value.status, caught.value.body, tuple(caught.value.headers)))
        assert token.encode() not in caught.value.body or len(token) == 1
    assert len(answers) == 1


@pytest.mark.parametrize(
    "host",
    [b"evil.example", b"evil.example:8000", b"127.0.0.1.evil.example", b"localhost.evil.example:8000", b"192.168.1.5",
     b"testserver", b"", b"[::2]", b"127.0.0.1@evil.example", b"localhost:8000:80", b"0.0.0.0:8000", b"localhost:"],
)  # fmt: skip
async def test_open_mode_refuses_a_foreign_host(host: bytes) -> None:
    gate = await Gate().open()
    assert gate.ask({b"host": host}) == "421 host_not_allowed"
    assert gate.ask({b"host": host}, admin=True) == "421 host_not_allowed"


@pytest.mark.parametrize("host", [b"127.0.0.1", b"localhost:8000", b"LOCALHOST", b"[::1]:9", b"[::1]", b"llm.test:1"])
async def test_open_mode_answers_to_loopback_names_and_those_allowed(host: bytes) -> None:
    gate = await Gate(allowed_hosts=("llm.test",)).open()
    assert gate.ask({b"host": host}) == "local"
    assert gate.ask({b"host": host}) == "local"


@pytest.mark.parametrize(
    "headers",
    [{b"origin": b"https://evil.example"}, {b"origin": b"null"}, {b"origin": b"http://localhost:3000"},
     {b"origin": b"http://127.0.0.1:8001"}, {b"origin": b""}, {b"sec-fetch-site": b"cross-site"},
     {b"origin": b"http://evil.example/127.0.0.1:8000"}, {b"origin": b"https://127.0.0.1:8000.evil.example"}],
)  # fmt: skip
async def test_open_mode_refuses_web_pages_of_other_origins(headers: dict[bytes, bytes]) -> None:
    gate = await Gate().open()
    assert gate.ask(headers) == "403 origin_not_allowed"
    assert gate.ask({**headers, **bearer("any")}, admin=True) == "403 origin_not_allowed"


@pytest.mark.parametrize(
    "headers",
    [{b"origin": b"http://127.0.0.1:8000"}, {b"origin": b"https://app.test"}, {b"origin": b"HTTPS://APP.test"},
     {b"sec-fetch-site": b"same-origin"}, {b"sec-fetch-site": b"none"},
     {b"origin": b"https://app.test", b"sec-fetch-site": b"cross-site"}],
)  # fmt: skip
async def test_open_mode_serves_its_own_pages_and_those_allowed(headers: dict[bytes, bytes]) -> None:
    gate = await Gate(allowed_origins=("https://app.test",)).open()
    assert gate.ask(headers) == "local"


async def test_a_key_makes_host_and_origin_irrelevant() -> None:
    gate = await Gate().open()
    view, token = await gate.keys.create("one")
    assert gate.ask({b"host": b"llm.example", b"origin": b"app://desktop", **bearer(token)}) == view.id


async def test_wrong_keys_are_slowed_down_per_address_while_right_virtual_keys_pass() -> None:
    gate = await Gate(admin_key=Secret(ADMIN_KEY), host=ANYWHERE).open()
    view, token = await gate.keys.create("one")
    for _ in range(20):
        assert gate.ask(bearer("guess"), client="203.0.113.9") == "401 invalid_api_key"
    assert gate.ask(bearer("guess"), client="203.0.113.9") == "429 too_many_auth_failures"
    # a guess that is right is not even looked at, so guessing gains nothing
    assert gate.ask(bearer(ADMIN_KEY), client="203.0.113.9", admin=True) == "429 too_many_auth_failures"
    assert gate.ask(bearer(token), client="203.0.113.9") == view.id
    assert gate.ask(bearer(ADMIN_KEY), client="203.0.113.10", admin=True) == "admin"
    gate.clock.advance(60.1)
    assert gate.ask(bearer(ADMIN_KEY), client="203.0.113.9", admin=True) == "admin"


async def test_asking_without_any_key_is_not_counted_as_a_guess() -> None:
    gate = await Gate(require_auth=True, admin_key=Secret(ADMIN_KEY)).open()
    for _ in range(50):
        assert gate.ask() == "401 invalid_api_key"
    assert gate.ask(bearer(ADMIN_KEY)) == "admin"


async def test_the_table_of_failing_addresses_is_bounded() -> None:
    gate = await Gate(require_auth=True, admin_key=Secret(ADMIN_KEY)).open()
    for number in range(5000):
        gate.ask(bearer("guess"), client=f"203.0.{number // 256}.{number % 256}")
    assert len(gate.access._failures._counts) <= 4096


async def test_metrics_are_open_on_this_machine_and_need_an_admin_key_elsewhere() -> None:
    scope = {"client": ("127.0.0.1", 1)}
    gate = await Gate(admin_key=Secret(ADMIN_KEY)).open()
    await gate.keys.create("one")
    assert gate.access.authenticate_metrics(scope, HOST).id == "local"
    public = await Gate(admin_key=Secret(ADMIN_KEY), host=ANYWHERE).open()
    with pytest.raises(WireError):
        public.access.authenticate_metrics(scope, HOST)
    assert public.access.authenticate_metrics(scope, {**HOST, **bearer(ADMIN_KEY)}).id == "admin"
    shown = await Gate(host=ANYWHERE, metrics_public=True).open()
    assert shown.access.authenticate_metrics({"client": ("203.0.113.9", 1)}, {}).id == "local"


@pytest.mark.parametrize(
    "settings", [{"host": ANYWHERE}, {"host": "192.168.1.5"}, {"host": "::"}, {"require_auth": True}]
)
async def test_an_unprotected_public_start_is_refused_in_words(settings: dict[str, Any]) -> None:
    gate = await Gate(**settings).open()
    with pytest.raises(ConfigurationError, match="APIKEYROUTER_ADMIN_KEY"):
        check_safe_start(gate.settings, gate.keys)
    view, _ = await gate.keys.create("one")
    check_safe_start(gate.settings, gate.keys)
    await gate.keys.revoke(view.id)
    with pytest.raises(ConfigurationError):
        check_safe_start(gate.settings, gate.keys)
    protected = await Gate(admin_key=Secret(ADMIN_KEY), **settings).open()
    check_safe_start(protected.settings, protected.keys)


async def test_loopback_starts_without_any_key() -> None:
    gate = await Gate().open()
    check_safe_start(gate.settings, gate.keys)
