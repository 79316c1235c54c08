"""Credentials that are exchanged for access tokens: over real HTTP, with a clock that the test moves."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from apikeyrouter import ApiKeyRouter, KeyState, OpenAIAdapter, SQLiteStateStore
from apikeyrouter.domain.errors import ConfigurationError, KeyRegistrationError
from tests.support.routers import ask
from tests.support.sim import Sim
from tests.support.tokens import TokenServer, token_server

SECRET = "-".join(["client", "secret", "of", "the", "test"])


class MovedClock:
    """The system's clock, moved ahead by hand."""

    def __init__(self) -> None:
        from apikeyrouter.infrastructure.clock import SystemClock

        self._real = SystemClock()
        self.ahead_s = 0.0

    def monotonic_s(self) -> float:
        return self._real.monotonic_s() + self.ahead_s

    def utc_now(self) -> datetime:
        return self._real.utc_now().astimezone(UTC) + timedelta(seconds=self.ahead_s)

    async def sleep(self, seconds: float) -> None:
        await self._real.sleep(seconds)


def client_of(server: TokenServer) -> dict[str, str]:
    return {"kind": "client_credentials", "token_url": server.url, "client_id": "me", "client_secret": SECRET}


async def router_at(sim: Sim, clock: MovedClock, path: Path | None = None) -> ApiKeyRouter:
    store = None if path is None else SQLiteStateStore(path)
    router = ApiKeyRouter(store, clock=clock, environ={"APIKEYROUTER_ENCRYPTION_KEY": "a phrase of the test"})
    await router.register_provider("openai", OpenAIAdapter(sim.base_url))
    return router


async def seen_to(*routers: ApiKeyRouter) -> None:
    """Returns when nothing is due any more. The routers' own housekeeping looks after credentials too."""
    for router in routers:
        await router.credentials.tick()
    async with asyncio.timeout(10):
        while any(  # noqa: ASYNC110 - housekeeping tells nobody when it has done something
            one.due_s == float("inf") for router in routers for one in router.credentials._watches.values()
        ):
            await asyncio.sleep(0.005)


def sent_with(sim: Sim) -> str:
    return str(sim.requests()[-1]["key"])


async def test_a_token_is_exchanged_ahead_of_its_end_and_the_key_stays_the_same(sim: Sim) -> None:
    clock = MovedClock()
    async with token_server(life_s=1000) as tokens, await router_at(sim, clock) as router:
        key = await router.register_credential("openai", client_of(tokens), label="robot")
        assert tokens.asked == [{"grant_type": "client_credentials", "client_id": "me", "client_secret": SECRET}]
        await router.route(ask())
        assert sent_with(sim) == "sim-key-token-1"
        clock.ahead_s += 750
        await seen_to(router)
        assert len(tokens.asked) == 1, "a fifth of its life is not left yet"
        clock.ahead_s += 60
        await seen_to(router)
        await router.route(ask())
        assert sent_with(sim) == "sim-key-token-2"
        (listed,) = await router.state_store.list_keys(provider_id="openai")
        assert (listed.id, listed.metadata["credential"]) == (key.id, "client_credentials")
        await router.key_manager.update(key.id, metadata={"weight": 2})
        assert router.key_manager.get(key.id).metadata["credential"] == "client_credentials"


async def test_one_time_refresh_tokens_survive_a_restart_and_nothing_readable_is_stored(
    sim: Sim, tmp_path: Path
) -> None:
    clock, path = MovedClock(), tmp_path / "state.sqlite"
    first = "-".join(["refresh", "token", "number", "one"])
    async with token_server(life_s=600, one_time=first) as tokens:
        spec = {"kind": "refresh_token", "token_url": tokens.url, "client_id": "me", "refresh_token": first}
        async with await router_at(sim, clock, path) as router:
            await router.register_credential("openai", spec)
        clock.ahead_s += 590
        async with await router_at(sim, clock, path) as router:
            await seen_to(router)
            await router.route(ask())
            assert sent_with(sim) == "sim-key-token-2"
        assert [form["refresh_token"] for form in tokens.asked] == [first, first + "+"]
        stored = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
        assert first.encode() not in stored
        assert b"sim-key-token-2" not in stored


async def test_while_no_token_comes_the_old_one_serves_and_the_trail_says_why(sim: Sim) -> None:
    clock = MovedClock()
    async with token_server(life_s=1000) as tokens, await router_at(sim, clock) as router:
        key = await router.register_credential("openai", client_of(tokens))
        tokens.refuse = "temporarily_unavailable"
        clock.ahead_s += 850
        await seen_to(router)
        await router.route(ask())
        assert sent_with(sim) == "sim-key-token-1"
        from apikeyrouter.domain.interfaces.state_store import StateQuery

        (event,) = await router.state_store.query_events(StateQuery("credential.failed", entity_id=key.id))
        assert event.document["why"] == "The token endpoint answered 400 temporarily_unavailable."
        assert SECRET not in str(event)
        tokens.refuse = ""
        clock.ahead_s += 6
        await seen_to(router)
        await router.route(ask())
        assert sent_with(sim) == "sim-key-token-3"


async def test_a_token_that_the_provider_refuses_is_exchanged_at_once(sim: Sim) -> None:
    clock = MovedClock()
    async with token_server(life_s=100_000) as tokens, await router_at(sim, clock) as router:
        await router.register_credential("openai", client_of(tokens))
        clock.ahead_s += 60
        await seen_to(router)
        sim.fault("sim-key-token-1", "revoked")
        with pytest.raises(Exception, match=r"(?i)refuse|auth"):
            await router.route(ask())
        await seen_to(router)
        clock.ahead_s += 10
        await router.route(ask())
        assert sent_with(sim) == "sim-key-token-2"


async def test_a_service_account_signs_what_google_wants(sim: Sim) -> None:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    clock = MovedClock()
    async with token_server() as tokens, await router_at(sim, clock) as router:
        file = {
            "type": "service_account",
            "project_id": "p",
            "client_email": "robot@p.example",
            "private_key": pem,
            "token_uri": tokens.url,
        }
        await router.register_credential("openai", file)
        (form,) = tokens.asked
        head, claims, signature = form["assertion"].split(".")

        def plain(part: str) -> bytes:
            return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))

        private.public_key().verify(plain(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256())
        told = json.loads(plain(claims))
        assert told["iss"] == "robot@p.example"
        assert told["aud"] == tokens.url
        assert told["exp"] - told["iat"] == 3600


async def test_a_helper_program_gives_tokens(sim: Sim, tmp_path: Path) -> None:
    count = tmp_path / "count"
    program = (
        f"import json, pathlib; p = pathlib.Path({str(count)!r}); n = len(p.read_text()) + 1 if p.exists() else 1;"
        "p.write_text('x' * n); print(json.dumps({'access_token': f'sim-key-helped-{n}', 'expires_in': 100}))"
    )
    clock = MovedClock()
    async with await router_at(sim, clock) as router:
        await router.register_credential("openai", {"kind": "command", "argv": [sys.executable, "-c", program]})
        clock.ahead_s += 90
        await seen_to(router)
        await router.route(ask())
        assert sent_with(sim) == "sim-key-helped-2"
        with pytest.raises(KeyRegistrationError, match="ended with status 3"):
            await router.register_credential(
                "openai", {"kind": "command", "argv": [sys.executable, "-c", "raise SystemExit(3)"]}
            )


async def test_of_two_workers_one_exchanges_and_the_other_hears_of_it(sim: Sim, tmp_path: Path) -> None:
    clock, path = MovedClock(), tmp_path / "state.sqlite"
    async with (
        token_server(life_s=1000) as tokens,
        await router_at(sim, clock, path) as one,
        await router_at(sim, clock, path) as two,
    ):
        key = await one.register_credential("openai", client_of(tokens))
        await two.key_manager.refresh()
        clock.ahead_s += 810
        await seen_to(two, one, two)
        assert len(tokens.asked) == 2
        await two.key_manager.refresh()
        assert two.key_manager.get(key.id).secret.reveal() == "sim-key-token-2"
        assert two.key_manager.get(key.id).state is KeyState.Available


async def test_what_cannot_work_is_said_at_once_and_nothing_secret_is_quoted(sim: Sim) -> None:
    async with token_server(refuse="invalid_client") as tokens, await router_at(sim, MovedClock()) as router:
        with pytest.raises(KeyRegistrationError, match="400 invalid_client"):
            await router.register_credential("openai", client_of(tokens))
        assert await router.state_store.list_keys() == []
        for wrong, why in (
            ({"kind": "magic"}, "'kind' must be one of azure_entra"),
            ({"kind": "client_credentials", "client_secret": SECRET, "colour": 1}, "no field 'colour'"),
            ({**client_of(tokens), "token_url": "http://example.com/token"}, "must be an https address"),
            ({"kind": "azure_entra", "tenant": "a/b", "client_id": "c", "client_secret": SECRET}, "'tenant' must be"),
        ):
            with pytest.raises(ConfigurationError) as refused:
                await router.register_credential("openai", wrong)
            assert why in str(refused.value)
            assert SECRET not in str(refused.value)
