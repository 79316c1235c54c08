"""What finished batches used is charged once, at the price of batches, when their owner looks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from apikeyrouter.infrastructure.adapters.anthropic_adapter import AnthropicAdapter
from apikeyrouter_proxy.batch_usage import usage_of_results
from tests.support.server import Served, run_proxy
from tests.support.upstream import Upstream, upstream

BATCH = {"id": "batch_1", "object": "batch", "model": "gpt-4o-mini", "output_file_id": "file-out"}
USAGE = {
    "input_tokens": 1_000_000, "output_tokens": 100_000, "total_tokens": 1_100_000,
    "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0},
}  # fmt: skip
HALF = Decimal("0.105")
"""A million input tokens at 0.15 and a hundred thousand output tokens at 0.60 dollars per million, halved."""


@pytest.fixture
def provider() -> Iterator[Upstream]:
    with upstream() as app:
        app.answers("/v1/batches/batch_1", BATCH | {"status": "in_progress", "usage": None})
        yield app


def over(provider: Upstream, status: str = "completed") -> None:
    provider.answers("/v1/batches/batch_1", BATCH | {"status": status, "usage": USAGE})


def spent(served: Served) -> Decimal:
    (budget,) = served.get("/api/v1/budgets").json["data"]
    return Decimal(budget["current_spend"])


def look(served: Served, **headers: str) -> Any:
    answer = served.get("/v1/batches/batch_1", headers)
    assert answer.status == 200
    return answer.json


@pytest.mark.parametrize("status", ["completed", "expired", "cancelled"])
def test_a_batch_is_charged_once_when_it_is_over(provider: Upstream, status: str) -> None:
    with run_proxy(provider.base_url, ["sk-upstream-0"]) as (served, _):
        served.post("/api/v1/budgets", {"limit": "0.01", "period": "daily"})
        assert look(served)["status"] == "in_progress"
        assert spent(served) == 0
        over(provider, status)
        for _ in range(3):
            assert look(served)["status"] == status
            assert spent(served) == HALF  # above the limit too: the provider has charged it
        assert served.post("/v1/chat/completions", {"model": "gpt-4o-mini", "messages": []}).status == 402


def test_neither_a_restart_nor_another_process_charges_again(provider: Upstream, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    over(provider)
    with run_proxy(provider.base_url, ["sk-upstream-0"], store_url=url) as (served, _):
        served.post("/api/v1/budgets", {"limit": "10", "period": "daily"})
        look(served)
        assert spent(served) == HALF
    with run_proxy(provider.base_url, ["sk-upstream-0"], store_url=url) as (served, _):
        look(served)
        assert spent(served) == HALF


def test_the_virtual_key_that_looks_pays(provider: Upstream) -> None:
    over(provider)
    with run_proxy(provider.base_url, ["sk-upstream-0"]) as (served, _):
        made = served.post("/api/v1/virtual-keys", {"name": "night-shift"}).json
        secret = next(value for value in made.values() if isinstance(value, str) and value.startswith("akr"))
        look(served, Authorization=f"Bearer {secret}")
        rows = served.get("/api/v1/spend?by=virtual_key").json
        assert "0.105" in json.dumps(rows)
        assert made["id"] in json.dumps(rows) or "night-shift" in json.dumps(rows)


def test_the_results_of_anthropics_batches_are_charged_by_line(provider: Upstream) -> None:
    def line(model: str, number: int) -> dict[str, Any]:
        usage = {"input_tokens": 1_000_000, "output_tokens": 100_000}
        message = {"id": f"msg_{number}", "type": "message", "model": model, "content": [], "usage": usage}
        return {"custom_id": str(number), "result": {"type": "succeeded", "message": message}}

    lines = [line("claude-haiku-4-5", 1), line("claude-haiku-4-5", 2), line("claude-sonnet-4-6", 3)]
    lines.append({"custom_id": "4", "result": {"type": "errored", "error": {"type": "error"}}})
    told = b"\n".join(json.dumps(one).encode() for one in lines)
    provider.answers("/v1/messages/batches/msgbatch_1/results", told, kind="application/x-jsonl")
    with run_proxy(provider.base_url, ["sk-upstream-0"]) as (served, proxy):
        proxy.router.directory.register("anthropic", AnthropicAdapter(provider.base_url), overwrite=True)
        key = {"provider_id": "anthropic", "key_material": "sk-ant-" + "key-1"}
        assert served.post("/api/v1/keys", key).status == 201
        served.post("/api/v1/budgets", {"limit": "100", "period": "daily"})
        for _ in range(2):
            answer = served.get("/v1/messages/batches/msgbatch_1/results", {"anthropic-version": "2023-06-01"})
            assert (answer.status, answer.body) == (200, told)
            assert spent(served) == 2 * Decimal("0.75") + Decimal("2.25")  # half of 1 and 5, and of 3 and 15 dollars


def test_a_line_of_results_that_is_too_deep_to_read_costs_no_other_line() -> None:
    usage = {"input_tokens": 3, "output_tokens": 2}
    line = json.dumps({"custom_id": "a", "result": {"type": "succeeded", "message": {"model": "m", "usage": usage}}})
    deep = '{"a":' * 3000 + "1" + "}" * 3000
    ((model, found),) = usage_of_results(f"{deep}\n{line}\n".encode())
    assert (model, found.input_tokens, found.output_tokens) == ("m", 3, 2)
