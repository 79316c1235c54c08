"""Two proxies on one store, started apart: one truth about budgets in 250 ms, each alert once; outages are named."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import ProxyProcess, proxy_process
from tests.support.receiver import Receiver, new_secret, receiver
from tests.support.servers import PostgresServer
from tests.support.sim import Sim, sim_process

WITHIN_S = 0.25
COST = Decimal("0.001")
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 100}
"""100 tokens of output, at a price of $10 a million and nothing for the input."""

SEALED = {"APIKEYROUTER_ENCRYPTION_KEY": "a passphrase of the tests"}


@pytest.fixture(scope="module")
def sim_server() -> Iterator[Sim]:
    with sim_process({"reply_tokens": [100, 100], "limits": "none"}) as sim:
        yield sim


@pytest.fixture(scope="module")
def hooks() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


@pytest.fixture(scope="module")
def pair(
    sim_server: Sim, hooks: Receiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ProxyProcess, ProxyProcess]]:
    folder = tmp_path_factory.mktemp("pair")
    env = {
        **SEALED,
        "APIKEYROUTER_STORE": f"sqlite:///{folder}/state.sqlite",
        "APIKEYROUTER_WEBHOOK_URL": hooks.url,
        "APIKEYROUTER_WEBHOOK_SECRET": new_secret(),
    }
    with ExitStack() as running:
        first, second = (running.enter_context(proxy_process(sim_server, folder, env=env)) for _ in range(2))
        set_price(first)
        time.sleep(WITHIN_S)
        yield first, second


def set_price(proxy: ProxyProcess) -> None:
    price = {"unit": "per_1m", "input": "0", "output": "10"}
    assert proxy.ask("PUT", "/api/v1/prices/openai/gpt-4o-mini", price)[0] == 200


def create(proxy: ProxyProcess, limit: str, tag: str, **body: Any) -> str:
    """A budget over everything that carries this tag; its id."""
    asked = {"limit": limit, "scope": "per_tag", "scope_id": f"test={tag}", **body}
    status, made = proxy.post("/api/v1/budgets", asked)
    assert status == 201, made
    return str(made["id"])


def chat(proxy: ProxyProcess, tag: str) -> tuple[int, Any, dict[str, str]]:
    return proxy.ask("POST", "/v1/chat/completions", CHAT, {"x-akr-tags": f"test={tag}"})


def soon(what: Callable[[], bool], within_s: float = WITHIN_S) -> None:
    """It becomes so in time."""
    until_s = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < until_s, "it did not happen in time"
        time.sleep(0.005)


@pytest.mark.parametrize("turned", [False, True])
def test_what_one_process_does_to_a_budget_the_other_enforces_within_250_ms(
    pair: tuple[ProxyProcess, ProxyProcess], sim: Sim, turned: bool
) -> None:
    here, there = pair[::-1] if turned else pair
    tag = f"turned-{turned}"
    assert chat(there, tag)[0] == 200
    budget_id = create(here, "0.0001", tag)
    soon(lambda: chat(there, tag)[0] == 402)
    assert here.ask("PATCH", f"/api/v1/budgets/{budget_id}", {"limit": "1"})[0] == 200
    soon(lambda: chat(there, tag)[0] == 200)
    for proxy in (here, there):  # both have a slice now
        assert chat(proxy, tag)[0] == 200
    assert here.ask("PATCH", f"/api/v1/budgets/{budget_id}", {"limit": "0.0011"})[0] == 200
    soon(lambda: chat(there, tag)[0] == 402)
    assert here.ask("PATCH", f"/api/v1/budgets/{budget_id}", {"enforcement_mode": "soft"})[0] == 200
    soon(lambda: chat(there, tag)[0] == 200)
    assert here.ask("PATCH", f"/api/v1/budgets/{budget_id}", {"enforcement_mode": "hard"})[0] == 200
    soon(lambda: chat(there, tag)[0] == 402)
    assert here.ask("DELETE", f"/api/v1/budgets/{budget_id}")[0] == 204
    soon(lambda: chat(there, tag)[0] == 200)


def test_each_alert_is_told_once_by_whichever_process(
    pair: tuple[ProxyProcess, ProxyProcess], sim: Sim, hooks: Receiver
) -> None:
    budget_id = create(pair[0], str(20 * COST), "alerts")
    time.sleep(4 * WITHIN_S)  # both must have heard of it; how soon they do is another test's business
    statuses: list[int] = []

    def spend(proxy: ProxyProcess) -> None:
        statuses.extend(chat(proxy, "alerts")[0] for _ in range(8))

    threads = [threading.Thread(target=spend, args=(proxy,)) for proxy in pair for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] * 20 + [402] * 12
    hooks.wait_for(4)
    time.sleep(1.0)  # a second telling would come within this
    told = [hook.json for hook in hooks.got if hook.json["data"]["budget_id"] == budget_id]
    assert sorted(one["data"]["percent"] for one in told) == [50, 80, 95, 100]
    assert {one["type"] for one in told} == {"budget.threshold"}
    assert all(hook.signed_with(new_secret()) for hook in hooks.got)
    assert len({hook.id for hook in hooks.got}) == len(hooks.got)
    for proxy in pair:
        events = proxy.get(f"/api/v1/events?kind=budget.threshold&entity_id={budget_id}")[1]["data"]
        assert sorted(event["document"]["percent"] for event in events) == [50, 80, 95, 100]
        now = proxy.get(f"/api/v1/budgets/{budget_id}")[1]
        assert Decimal(now["current_spend"]) == 20 * COST
        assert Decimal(now["held"]) == Decimal(now["overrun"]) == 0


def test_without_the_store_hard_budgets_answer_503_soft_ones_go_on_and_all_is_counted(sim: Sim, tmp_path: Path) -> None:
    with PostgresServer() as postgres:
        env = {**SEALED, "APIKEYROUTER_STORE": postgres.fresh_url()}
        with proxy_process(sim, tmp_path, env=env) as proxy:
            set_price(proxy)
            key = proxy.post("/api/v1/virtual-keys", {"name": "ci"})[1]["key"]
            budgets = {mode: create(proxy, "0.05", mode, enforcement_mode=mode) for mode in ("hard", "soft")}

            def ask(mode: str) -> tuple[int, Any, dict[str, str]]:
                sent = {"x-akr-tags": f"test={mode}", "Authorization": f"Bearer {key}"}
                return proxy.ask("POST", "/v1/chat/completions", CHAT, sent)

            served = {mode: [ask(mode)[0] for _ in range(3)].count(200) for mode in budgets}
            assert served == {"hard": 3, "soft": 3}
            postgres.stop()
            with ThreadPoolExecutor(12) as at_once:
                hard = list(at_once.map(ask, ["hard"] * 12))
            soft = [ask("soft")[0] for _ in range(20)]
            assert {status for status, _, _ in hard} <= {200, 503}
            refused = [(body, headers) for status, body, headers in hard if status == 503]
            served["hard"] += 12 - len(refused)
            served["soft"] += 20
            assert refused, "unmetered service"
            for body, headers in refused:
                assert body["error"]["code"] == "store_unavailable"
                assert int(headers["retry-after"]) >= 1
                assert headers.get("x-should-retry") != "false"
            assert soft == [200] * 20
            assert proxy.ask("GET", "/readyz")[0] == 503
            postgres.start()
            soon(lambda: ask("hard")[0] == 200, 10.0)
            served["hard"] += 1
            for mode, count in served.items():
                soon(
                    lambda mode=mode, count=count: (  # type: ignore[misc]  # bound at once
                        Decimal(proxy.get(f"/api/v1/budgets/{budgets[mode]}")[1]["current_spend"]) == count * COST
                    ),
                    5.0,
                )
