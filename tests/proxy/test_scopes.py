"""What a virtual key may not do: other models, other providers, other doors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.support.processes import ProxyProcess, proxy_process
from tests.support.sim import Sim

ADMIN = "admin-of-this-test-" + "z" * 12
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}]}


@pytest.fixture
def guarded(sim: Sim, tmp_path: Path) -> Iterator[ProxyProcess]:
    with proxy_process(sim, tmp_path, env={"APIKEYROUTER_ADMIN_KEY": ADMIN}) as proxy:
        yield proxy


def issued(proxy: ProxyProcess, **scopes: object) -> dict[str, str]:
    status, made = proxy.post(
        "/api/v1/virtual-keys", {"name": "client", "role": "client", **scopes}, {"Authorization": f"Bearer {ADMIN}"}
    )
    assert status == 201, made
    return {"Authorization": f"Bearer {made['key']}"}


def test_a_key_of_one_provider_cannot_use_another(sim: Sim, guarded: ProxyProcess) -> None:
    own, other = issued(guarded, providers=["openai"]), issued(guarded, providers=["elsewhere"])
    assert guarded.post("/v1/chat/completions", CHAT, own)[0] == 200
    status, answer = guarded.post("/v1/chat/completions", CHAT, other)
    assert (status, answer["error"]["code"]) == (403, "not_allowed")
    assert sum(r["path"].endswith("/chat/completions") for r in sim.requests()) == 1


def test_a_key_of_one_model_cannot_use_another(guarded: ProxyProcess) -> None:
    small = issued(guarded, models=["gpt-4o-mini"])
    assert guarded.post("/v1/chat/completions", CHAT, small)[0] == 200
    status, answer = guarded.post("/v1/chat/completions", CHAT | {"model": "gpt-4o"}, small)
    assert (status, answer["error"]["code"]) == (403, "model_not_allowed")


def test_once_a_virtual_key_exists_everybody_needs_one(guarded: ProxyProcess) -> None:
    assert guarded.post("/v1/chat/completions", CHAT)[0] == 200
    issued(guarded)
    status, answer = guarded.post("/v1/chat/completions", CHAT, {"Authorization": "Bearer any"})
    assert (status, answer["error"]["code"]) == (401, "invalid_api_key")
    with (
        openai.OpenAI(base_url=guarded.base_url, api_key="any", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.chat.completions.create(**CHAT)  # type: ignore[call-overload]
