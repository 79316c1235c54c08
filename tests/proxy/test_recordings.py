"""Every recorded OpenAI chat and embeddings exchange, replayed by an upstream of ours, passes through the proxy.

Bytes arrive as recorded in both directions, but for what has to change: a stream's request gains `stream_options` when
the client did not ask for usage. The usage that the proxy settles equals the recording's, and the official SDK accepts
it.
"""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from apikeyrouter.domain.cost.usage import usage_of_openai_object
from tests.support.processes import ProxyProcess, proxy_process
from tests.support.replay import Recording, ReplayServer, replaying
from tests.support.sim import Sim

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("APIKEYROUTER_DATA", ROOT.parent / "shared/data")) / "exchanges/dev.jsonl"
PATHS = ("/v1/chat/completions", "/v1/embeddings")

pytestmark = pytest.mark.data


def recordings() -> dict[str, Recording]:
    if not DATA.exists():
        return {}
    found: dict[str, Recording] = {}
    with DATA.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if row["host"] == "api.openai.com" and row["path"] in PATHS and isinstance(row["request"], dict):
                found[f"sk-replay-{len(found):04d}"] = Recording(row)
    return found


@pytest.fixture(scope="module")
def replay() -> Iterator[tuple[ReplayServer, ProxyProcess]]:
    found = recordings()
    if not found:
        pytest.skip("data not found, skipped")
    with replaying(found) as server, proxy_for(server) as proxy:
        yield server, proxy


def proxy_for(server: ReplayServer):  # type: ignore[no-untyped-def]
    import tempfile

    upstream = Sim(server.base_url, "", [])
    return proxy_process(
        upstream, Path(tempfile.mkdtemp()), keys=list(server.recordings), env={"APIKEYROUTER_CONSIDERED_MAX": "1000"}
    )


def labels(proxy: ProxyProcess) -> dict[str, str]:
    """Label of each key by the order of registration: keys are asked for by allow-listing their label."""
    status, keys = proxy.get("/api/v1/keys")
    assert status == 200
    return {f"sk-replay-{i:04d}": key["id"] for i, key in enumerate(keys["data"] if isinstance(keys, dict) else keys)}


def send(proxy: ProxyProcess, path: str, body: bytes, key_id: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)
    try:
        headers = {"Content-Type": "application/json", "x-akr-keys": key_id}
        connection.request("POST", path, body, headers)
        reply = connection.getresponse()
        return reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read()
    finally:
        connection.close()


def test_every_exchange_passes_unchanged(replay: tuple[ReplayServer, ProxyProcess]) -> None:
    server, proxy = replay
    ids = labels(proxy)
    streamed = whole = priced = 0
    for key, recording in server.recordings.items():
        sent = json.dumps(recording.request).encode()
        status, headers, body = send(proxy, recording.path, sent, ids[key])
        assert status == recording.status, (key, body[:300])
        asked_for_usage = bool((recording.request.get("stream_options") or {}).get("include_usage"))
        if recording.is_stream:
            streamed += 1
            extra = recording.usage is not None and not asked_for_usage
            assert body == recording.body or extra, key
            received = json.loads(server.received[key])
            assert received.pop("stream_options")["include_usage"] is True
            wanted = {k: v for k, v in recording.request.items() if k != "stream_options"}
            assert received == wanted
        else:
            whole += 1
            assert body == recording.body, key
            assert server.received[key] == sent, key
        if recording.usage is not None and recording.status == 200:
            priced += 1
            _, decision = proxy.get(f"/api/v1/decisions/{headers['x-akr-decision']}")
            oracle = usage_of_openai_object({"usage": recording.usage})
            assert oracle is not None
            assert (decision["input_tokens"], decision["output_tokens"]) == (oracle.input_tokens, oracle.output_tokens)
    assert streamed >= 50
    assert whole >= 90
    assert priced >= 100


def test_the_official_sdk_accepts_every_exchange(replay: tuple[ReplayServer, ProxyProcess]) -> None:
    server, proxy = replay
    ids = labels(proxy)
    with openai.OpenAI(base_url=proxy.base_url, api_key="any", max_retries=0) as client:
        for key, recording in server.recordings.items():
            request = dict(recording.request)
            extra = {"extra_headers": {"x-akr-keys": ids[key]}, "extra_body": request}
            try:
                if recording.path.endswith("embeddings"):
                    assert client.embeddings.create(model=request["model"], input=request["input"], **extra).data  # type: ignore[arg-type]
                elif recording.is_stream:
                    chunks = list(
                        client.chat.completions.create(
                            model=request["model"], messages=request["messages"], stream=True, **extra
                        )  # type: ignore[call-overload]
                    )
                    assert chunks, key
                else:
                    reply = client.chat.completions.create(
                        model=request["model"], messages=request["messages"], **extra
                    )  # type: ignore[call-overload]
                    assert reply.choices, key
            except openai.APIStatusError as error:
                assert error.status_code == recording.status >= 400, key
