"""Batches that nobody looks at any more are looked at by the proxy, and charged once to whoever made them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from apikeyrouter.infrastructure.adapters.anthropic_adapter import AnthropicAdapter
from apikeyrouter.testing.virtual_time import ManualClock
from apikeyrouter_proxy.batch_watch import BatchWatch
from apikeyrouter_proxy.bootstrap import Proxy
from tests.support.server import Served, run_proxy
from tests.support.sim import Sim
from tests.support.upstream import Upstream, upstream

PATH = "/v1/batches/batch_1"
BATCH = {"id": "batch_1", "object": "batch", "model": "gpt-4o-mini", "status": "in_progress", "usage": None}
USAGE = {"input_tokens": 1_000_000, "output_tokens": 100_000, "total_tokens": 1_100_000}
HALF = Decimal("0.105")
"""A million input tokens at 0.15 and a hundred thousand output tokens at 0.60 dollars per million, halved."""


@pytest.fixture
def provider() -> Iterator[Upstream]:
    with upstream() as app:
        app.answers("/v1/files", {"id": "file-1", "object": "file"})
        app.answers("/v1/batches", BATCH)
        app.answers(PATH, BATCH)
        yield app


def over(provider: Upstream) -> None:
    provider.answers(PATH, BATCH | {"status": "completed", "usage": USAGE})


def make(served: Served, **headers: str) -> None:
    assert served.post("/v1/files", {"purpose": "batch"}, headers).status == 200
    assert served.post("/v1/batches", {"input_file_id": "file-1"}, headers).status == 200


def keep_budget(served: Served) -> None:
    """A soft one: a hard one takes no batch, since nobody knows before what it will cost."""
    made = served.post("/api/v1/budgets", {"limit": "100", "period": "daily", "enforcement_mode": "soft"})
    assert made.status == 201, made.json


def run(proxy: Proxy, work: Coroutine[Any, Any, None]) -> None:
    """On the proxy's own loop."""
    assert proxy.housekeeper is not None
    asyncio.run_coroutine_threadsafe(work, proxy.housekeeper.get_loop()).result(20)


def worker(proxy: Proxy, later_s: float) -> BatchWatch:
    """Another worker on the same store, `later_s` from now."""
    return BatchWatch(proxy.router, ManualClock(utc=proxy.clock.utc_now() + timedelta(seconds=later_s)))


def looks(provider: Upstream) -> int:
    return sum(one.target == PATH for one in provider.seen)


def spent(served: Served) -> Decimal:
    (budget,) = served.get("/api/v1/budgets").json["data"]
    return Decimal(budget["current_spend"])


def test_a_batch_that_nobody_looks_at_is_charged_when_it_is_over(provider: Upstream) -> None:
    with run_proxy(provider.base_url, ["sk-upstream-0"]) as (served, proxy):
        keep_budget(served)
        make(served)
        run(proxy, worker(proxy, 60).tick())
        assert looks(provider) == 0, "it is not due before five minutes are over"
        run(proxy, worker(proxy, 301).tick())
        assert (looks(provider), spent(served)) == (1, Decimal(0))
        over(provider)
        run(proxy, worker(proxy, 400).tick())
        assert looks(provider) == 1
        run(proxy, worker(proxy, 602).tick())
        assert (looks(provider), spent(served)) == (2, HALF)
        run(proxy, worker(proxy, 86_400).tick())
        assert looks(provider) == 2, "what is charged is not asked about again"
        assert served.get(PATH).status == 200
        assert spent(served) == HALF


def test_of_four_workers_one_looks_and_the_charge_comes_once(provider: Upstream, tmp_path: Path) -> None:
    async def all_of_them(proxy: Proxy) -> None:
        await asyncio.gather(*(worker(proxy, 301).tick() for _ in range(4)))

    over(provider)
    url = f"sqlite:///{tmp_path / 'shared.db'}"  # whose answers take turns
    with run_proxy(provider.base_url, ["sk-upstream-0"], store_url=url) as (served, proxy):
        keep_budget(served)
        make(served)
        run(proxy, all_of_them(proxy))
        assert (looks(provider), spent(served)) == (1, HALF)


def test_open_batches_survive_a_restart(provider: Upstream, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    with run_proxy(provider.base_url, ["sk-upstream-0", "sk-upstream-1"], store_url=url) as (served, _):
        keep_budget(served)
        make(served)
    maker = provider.last.key
    over(provider)
    with run_proxy(provider.base_url, ["sk-upstream-0", "sk-upstream-1"], store_url=url) as (served, proxy):
        run(proxy, worker(proxy, 301).tick())
        assert (provider.last.key, spent(served)) == (maker, HALF)
        run(proxy, worker(proxy, 7_200).tick())
        assert spent(served) == HALF


def test_whoever_made_it_pays_also_when_another_one_looks_first(provider: Upstream) -> None:
    with run_proxy(provider.base_url, ["sk-upstream-0"]) as (served, _):
        night, day = (served.post("/api/v1/virtual-keys", {"name": name}).json for name in ("night", "day"))
        make(served, Authorization=f"Bearer {night['key']}")
        over(provider)
        assert served.get(PATH, {"Authorization": f"Bearer {day['key']}"}).status == 200
        rows = served.get("/api/v1/spend?by=virtual_key").json["data"]
        (paid,) = [json.dumps(row) for row in rows if "0.105" in json.dumps(row)]
        assert night["id"] in paid


def test_a_provider_that_fails_is_asked_again_and_one_that_knows_nothing_is_not(provider: Upstream) -> None:
    with run_proxy(provider.base_url, ["sk-upstream-0"]) as (served, proxy):
        keep_budget(served)
        make(served)
        provider.answers(PATH, {"error": {"message": "down", "type": "server_error"}}, status=500)
        run(proxy, worker(proxy, 301).tick())
        over(provider)
        run(proxy, worker(proxy, 602).tick())
        assert spent(served) == HALF
        make(served)
        provider.answers(PATH, {"error": {"message": "No such batch"}}, status=404)
        run(proxy, worker(proxy, 301).tick())
        seen = looks(provider)
        run(proxy, worker(proxy, 7_200).tick())
        assert looks(provider) == seen


def test_what_never_ends_is_given_up_after_eight_days(provider: Upstream) -> None:
    with run_proxy(provider.base_url, ["sk-upstream-0"]) as (served, proxy):
        make(served)
        run(proxy, worker(proxy, 8.1 * 86_400).tick())
        assert looks(provider) == 1
        run(proxy, worker(proxy, 9 * 86_400).tick())
        assert looks(provider) == 1


def test_anthropics_batches_are_charged_by_their_results(provider: Upstream) -> None:
    place = "/v1/messages/batches"
    message = {"id": "msg_1", "type": "message", "model": "claude-haiku-4-5", "content": []}
    line = {"custom_id": "1", "result": {"type": "succeeded", "message": message | {"usage": USAGE}}}
    batch = {"id": "msgbatch_1", "type": "message_batch", "processing_status": "in_progress"}
    provider.answers(place, batch)
    provider.answers(f"{place}/msgbatch_1", batch | {"processing_status": "ended"})
    provider.answers(f"{place}/msgbatch_1/results", json.dumps(line).encode(), kind="application/x-jsonl")
    with run_proxy(provider.base_url, ["sk-upstream-0"]) as (served, proxy):
        proxy.router.directory.register("anthropic", AnthropicAdapter(provider.base_url), overwrite=True)
        key = {"provider_id": "anthropic", "key_material": "sk-ant-" + "key-1"}
        assert served.post("/api/v1/keys", key).status == 201
        keep_budget(served)
        assert served.post(place, {"requests": []}).status == 200
        run(proxy, worker(proxy, 301).tick())
        assert spent(served) == Decimal("0.75")  # half of 1 and 5 dollars per million
        assert provider.last.headers["anthropic-version"]
        seen = len(provider.seen)
        run(proxy, worker(proxy, 7_200).tick())
        assert len(provider.seen) == seen


def test_a_batch_of_the_simulated_provider_is_charged_by_what_it_tells(sim: Sim) -> None:
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Tell me of rivers"}]}
    line = json.dumps({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}).encode()
    form = b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    form += b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n' + line + b"\r\n--x--\r\n"
    with run_proxy(sim.base_url, ["sim-key-a"]) as (served, proxy):
        keep_budget(served)
        uploaded = served.ask("POST", "/v1/files", form, {"Content-Type": "multipart/form-data; boundary=x"})
        asked = {"input_file_id": uploaded.json["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        assert served.post("/v1/batches", asked).status == 200
        run(proxy, worker(proxy, 301).tick())
        assert spent(served) > 0
