"""`apikeyrouter credentials`: from a file and by a device login, at a running proxy; what is exchanged stays secret."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx2 as httpx

from tests.support.command import Ran, run_cli
from tests.support.processes import ProxyProcess
from tests.support.tokens import token_server

SECRET = "-".join(["client", "secret", "of", "the", "test"])


async def cli(proxy: ProxyProcess, folder: Path, *arguments: str, status: int = 0) -> Ran:
    env = {"PROXY_PORT": str(proxy.port)}
    return await asyncio.to_thread(run_cli, *arguments, folder=folder, env=env, status=status)


async def test_a_credential_from_a_file_serves_and_its_secret_is_shown_nowhere(
    fresh: ProxyProcess, tmp_path: Path
) -> None:
    async with token_server(prefix="sim-key-file") as tokens:
        file = tmp_path / "credential.json"
        spec = {"kind": "client_credentials", "token_url": tokens.url, "client_id": "me", "client_secret": SECRET}
        file.write_text(json.dumps(spec))
        added = await cli(fresh, tmp_path, "credentials", "add", "openai", "--file", str(file), "--label", "robot")
        listed = await cli(fresh, tmp_path, "keys", "show", "robot")
        assert "client_credentials" in listed.out
        assert SECRET not in added.all + listed.all
        assert tokens.asked[0]["client_secret"] == SECRET
        reply = await asyncio.to_thread(
            httpx.post,
            f"http://127.0.0.1:{fresh.port}/v1/chat/completions",
            json={"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]},
            headers={"x-akr-keys": "robot"},
        )
        assert (reply.status_code, reply.headers["x-akr-key"]) == (200, "robot")


async def test_the_answer_for_a_new_credential_is_the_view_of_its_key(fresh: ProxyProcess) -> None:
    async with token_server(prefix="sim-key-file") as tokens:
        spec = {"kind": "client_credentials", "token_url": tokens.url, "client_id": "me", "client_secret": SECRET}
        body = {"provider_id": "openai", "credential": spec}
        status, made, _ = await asyncio.to_thread(fresh.ask, "POST", "/api/v1/credentials", body)
        assert status == 201, made
        assert made["defined"] == {"source": "api", "at": ""}
        shown = (await asyncio.to_thread(fresh.get, f"/api/v1/keys/{made['id']}"))[1]
        assert set(made) == set(shown)
        assert (made["id"], made["label"], made["defined"]) == (shown["id"], shown["label"], shown["defined"])


async def test_a_device_login_waits_for_the_person_and_keeps_the_refresh_token(
    fresh: ProxyProcess, tmp_path: Path
) -> None:
    first = "-".join(["refresh", "token", "number", "one"])
    async with token_server(prefix="sim-key-login", one_time=first, pending=2) as tokens:
        device = tokens.url.replace("/token", "/device")
        told = await cli(
            fresh, tmp_path, "credentials", "login", "openai", "--device-url", device, "--token-url", tokens.url,
            "--client-id", "app", "--label", "me",
        )  # fmt: skip
        assert "https://login.example/device" in told.out
        assert "WORD-7" in told.out
        assert first not in told.all
        grants = [form["grant_type"].rpartition(":")[2] for form in tokens.asked]
        assert grants == ["device_code", "device_code", "device_code", "refresh_token"]
        assert tokens.asked[-1]["refresh_token"] == first
        listed = await cli(fresh, tmp_path, "keys", "show", "me", "--json")
        assert listed.json["metadata"]["credential"] == "refresh_token"


async def test_what_is_wrong_is_said_and_programs_are_not_run_for_callers_of_the_api(
    fresh: ProxyProcess, tmp_path: Path
) -> None:
    file = tmp_path / "credential.json"
    file.write_text(json.dumps({"kind": "command", "argv": ["touch", str(tmp_path / "ran")]}))
    refused = await cli(fresh, tmp_path, "credentials", "add", "openai", "--file", str(file), status=1)
    assert "programs are not run for callers of this API" in refused.all
    assert not (tmp_path / "ran").exists()
    file.write_text(json.dumps({"kind": "client_credentials", "client_secret": SECRET}))
    refused = await cli(fresh, tmp_path, "credentials", "add", "openai", "--file", str(file), status=1)
    assert "'token_url' is missing" in refused.all
    assert SECRET not in refused.all
    inside = {"kind": "client_credentials", "token_url": "https://169.254.169.254/token", "client_id": "me"}
    file.write_text(json.dumps({**inside, "client_secret": SECRET}))
    refused = await cli(fresh, tmp_path, "credentials", "add", "openai", "--file", str(file), status=1)
    assert "private network" in refused.all
