"""The official OpenAI SDK for Node, and plain curl, against the running proxy."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from apikeyrouter.domain.models.call import Operation
from apikeyrouter.infrastructure.adapters.openai_adapter import OpenAIAdapter
from tests.support.processes import ProxyProcess
from tests.support.server import run_proxy
from tests.support.sim import Sim
from tests.support.upstream import upstream

ROOT = Path(__file__).parents[2]
WHOLE = [one for one in Operation if one not in (Operation.Messages, Operation.Gemini, Operation.Raw)]


@pytest.mark.node
def test_node_sdk(sim: Sim, proxy_server: ProxyProcess) -> None:
    done = subprocess.run(
        [str(ROOT / "scripts/node"), "node", "openai.mjs"],
        cwd=ROOT / "tests/node",
        env=os.environ | {"BASE_URL": proxy_server.base_url},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok ") == 12


@pytest.mark.node
def test_node_sdk_where_the_provider_has_everything(sim: Sim) -> None:
    """Stored responses, files and batches at one provider, pictures at another."""
    with upstream() as pictures, run_proxy(sim.base_url, sim.keys) as (served, proxy):
        pictures.answers("/v1/images/generations", {"created": 1, "data": [{"b64_json": "aGVsbG8="}]})
        directory = proxy.router.directory
        directory.register("openai", OpenAIAdapter(sim.base_url, operations=WHOLE), overwrite=True)
        directory.register("pictures", OpenAIAdapter(pictures.base_url, operations=WHOLE, claims_all=False))
        made = served.post("/api/v1/keys", {"key_material": "sk-pictures-key", "provider_id": "pictures"})
        assert made.status == 201, made.json
        done = subprocess.run(
            [str(ROOT / "scripts/node"), "node", "openai.mjs"],
            cwd=ROOT / "tests/node",
            env=os.environ | {"BASE_URL": f"{served.origin}/v1", "EVERYTHING": "1"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == ["ok", "storedResponses", "ok", "images", "ok", "batches"]


def curl(proxy: ProxyProcess, *arguments: str) -> str:
    command = ["curl", "-sS", f"{proxy.base_url}/chat/completions", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def test_curl_without_a_content_type(sim: Sim, proxy_server: ProxyProcess) -> None:
    body = '{"model": "gpt-4", "messages": [{"role": "user", "content": "Hello!"}]}'
    assert '"choices"' in curl(proxy_server, "-H", "Authorization: Bearer YOUR_KEY", "-d", body)


def test_curl_streams(sim: Sim, proxy_server: ProxyProcess) -> None:
    body = '{"model": "gpt-4", "stream": true, "messages": [{"role": "user", "content": "Hello!"}]}'
    said = curl(proxy_server, "-N", "-d", body)
    assert said.startswith("data: {")
    assert said.endswith("data: [DONE]\n\n")


def test_curl_with_expect_continue_and_a_large_body(sim: Sim, proxy_server: ProxyProcess, tmp_path: Path) -> None:
    body = tmp_path / "body.json"
    body.write_text('{"model": "gpt-4o", "messages": [{"role": "user", "content": "' + "word " * 40_000 + '"}]}')
    assert '"choices"' in curl(proxy_server, "-H", "Expect: 100-continue", "--data-binary", f"@{body}")


def test_bad_bodies_are_answered_in_words(sim: Sim, proxy_server: ProxyProcess) -> None:
    for body, words in [
        ("", "it is empty"),
        ("not json", "not valid JSON"),
        ("[1, 2]", "wrong type"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "'model' is missing"),
        ('{"model": "gpt-4o"}', "'messages' is missing"),
        ('{"model": 7, "messages": []}', "wrong type"),
        ('{"model": "gpt-4o", "stream": "yes", "messages": [1]}', "wrong type"),
    ]:
        status, answer, headers = proxy_server.ask("POST", "/v1/chat/completions", body.encode())
        assert status == 400, body
        assert words in answer["error"]["message"]
        assert answer["error"]["type"] == "invalid_request_error"
        assert headers["content-type"] == "application/json"
    assert sim.seen() == 0
