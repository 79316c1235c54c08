"""Money through the outermost door: official SDKs, HTTP, one process and two, and nothing spent above a limit.

The simulated provider answers with 100 tokens each, whatever is asked for, unless `max_tokens` is less; prices are set
so that such a reply costs a tenth of a cent.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

import httpx2 as httpx
import openai
import pytest

from tests.support.processes import ProxyProcess, proxy_process
from tests.support.sim import Sim, sim_process

PROMPT = "Hello!"
"""9 tokens, as the simulated provider counts."""

LONGER = "Please tell me what you know about the river and its bridges, and why they were built."

PRICES = {
    "gpt-4o-mini": {"input": "0", "output": "10"},
    "gpt-4o": {"input": "2.5", "output": "9.775"},  # about 1 : 4, as the list has it
}
"""US dollars a million tokens; either way 9 tokens in and 100 out cost $0.001."""

ONE = Decimal("0.001")
REPLY_TOKENS = 100


@pytest.fixture(scope="module")
def sim_server() -> Iterator[Sim]:
    config = {"reply_tokens": [REPLY_TOKENS, REPLY_TOKENS], "limits": "none", "pace": {"first_token_s": 0.01}}
    with sim_process(config) as sim:
        yield sim


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "two processes"])
def proxy(request: pytest.FixtureRequest, sim_server: Sim, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("money")
    with proxy_process(sim_server, folder, env={"PROXY_WORKERS": str(request.param)}) as running:
        for name, price in PRICES.items():
            status, told = running.ask("PUT", f"/api/v1/prices/openai/{name}", {"unit": "per_1m", **price})[:2]
            assert status == 200, told
        time.sleep(0.3)  # every process has heard of the prices
        yield running


@dataclass
class Account:
    """A virtual key with a budget of its own."""

    proxy: ProxyProcess
    key: dict[str, Any]
    budget_id: str

    @property
    def budget(self) -> dict[str, Any]:
        status, found = self.proxy.get(f"/api/v1/budgets/{self.budget_id}")
        assert status == 200, found
        return dict(found)

    def at_rest(self, spent: Decimal) -> dict[str, Any]:
        """The budget, once nothing is held and `spent` is; what another process settled is told within 250 ms."""
        until_s = time.monotonic() + 2.0
        while True:
            budget = self.budget
            if Decimal(budget["current_spend"]) == spent and not Decimal(budget["held"]):
                return budget
            assert time.monotonic() < until_s, f"not {spent}, or still held: {budget}"
            time.sleep(0.02)

    def report(self) -> dict[str, Any]:
        """The sums of the spend report about this key, once all of it was posted."""
        time.sleep(0.6)
        status, found = self.proxy.get(f"/api/v1/spend?by=virtual-key&virtual_key={self.key['id']}")
        assert status == 200, found
        return dict(found["sum"])


def account(proxy: ProxyProcess, limit: str, **body: Any) -> Account:
    """`body`: of the budget; without a scope it is the virtual key's."""
    key = virtual_key(proxy, "client")
    budget = {"scope": "per_virtual_key", "scope_id": key["id"], **body} if "scope" not in body else body
    status, made = proxy.post("/api/v1/budgets", {"limit": limit, **budget})
    assert status == 201, made
    time.sleep(0.3)  # other processes enforce it from here on
    return Account(proxy, key, made["id"])


def virtual_key(proxy: ProxyProcess, name: str, **body: Any) -> dict[str, Any]:
    status, key = proxy.post("/api/v1/virtual-keys", {"name": name, **body})
    assert status == 201, key
    return dict(key)


@dataclass
class Tally:
    """What clients got. Costs are of what the provider reported, at the price that was set."""

    costs: list[Decimal] = field(default_factory=list)
    refused: list[openai.APIStatusError] = field(default_factory=list)

    @property
    def spent(self) -> Decimal:
        return sum(self.costs, Decimal(0))


def cost_of(model: str, usage: Any) -> Decimal:
    """By hand."""
    price = PRICES[model]
    micro: Decimal = Decimal(price["input"]) * usage.prompt_tokens + Decimal(price["output"]) * usage.completion_tokens
    return micro / 1_000_000


@asynccontextmanager
async def clients(account: Account, count: int) -> AsyncIterator[list[openai.AsyncOpenAI]]:
    """Official clients as users make them, retries and all."""
    made = [
        openai.AsyncOpenAI(
            base_url=account.proxy.base_url,
            api_key=account.key["key"],
            http_client=openai.DefaultAsyncHttpxClient(verify=False, trust_env=False),
        )
        for _ in range(count)
    ]
    try:
        yield made
    finally:
        for client in made:
            await client.close()


async def ask(
    client: openai.AsyncOpenAI, tally: Tally, model: str, max_tokens: int, *, stream: bool = False, prompt: str = PROMPT
) -> bool:
    """One request; whether it was served."""
    asked: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
    }
    if stream:
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
    try:
        raw = await client.chat.completions.with_raw_response.create(**asked)
        if stream:
            usage = [chunk async for chunk in raw.parse()][-1].usage
        else:
            usage = raw.parse().usage
            assert Decimal(raw.headers["x-akr-cost"]) == cost_of(model, usage)
    except openai.APIStatusError as error:
        assert error.status_code == 402, error
        tally.refused.append(error)
        return False
    tally.costs.append(cost_of(model, usage))
    return True


@pytest.mark.parametrize("model", PRICES)
async def test_a_budget_for_ten_serves_ten_of_84_that_ask_for_five_times_as_much(
    proxy: ProxyProcess, sim: Sim, model: str
) -> None:
    mine = account(proxy, "0.01")
    tally = Tally()
    async with clients(mine, 64) as many:
        await asyncio.gather(*(ask(client, tally, model, 5 * REPLY_TOKENS) for client in many))
        for client in many[:20]:
            await ask(client, tally, model, 5 * REPLY_TOKENS)
    assert len(tally.costs) == 10
    assert len(tally.refused) == 74
    assert tally.spent <= Decimal("0.01")
    budget = mine.at_rest(tally.spent)
    assert Decimal(budget["overrun"]) == 0
    assert sim.seen() == 10, "a refused request reached the provider, or an SDK tried again"
    report = mine.report()
    assert (report["requests"], Decimal(report["cost"])) == (10, tally.spent)
    for error in tally.refused:
        assert_refusal(error, mine)


def assert_refusal(error: openai.APIStatusError, mine: Account) -> None:
    """The documented body and headers."""
    assert isinstance(error.body, dict)
    assert (error.code, error.type) == ("budget_exceeded", "insufficient_quota")
    facts = error.body["budget"]
    assert facts["ids"] == [mine.budget_id]
    assert (facts["scope"], facts["scope_id"]) == ("per_virtual_key", mine.key["id"])
    limit, spent, held = (Decimal(facts[name]) for name in ("limit_usd", "spent_usd", "held_usd"))
    assert limit == Decimal("0.01")
    assert Decimal(facts["remaining_usd"]) == limit - spent - held >= 0
    assert Decimal(facts["needed_usd"]) > limit - spent
    reset = datetime.fromisoformat(facts["reset_at"]).timestamp()
    headers = error.response.headers
    assert headers["x-should-retry"] == "false"
    assert math.isclose(float(headers["retry-after"]), reset - time.time(), abs_tol=30)


@pytest.mark.parametrize("model", PRICES)
async def test_64_clients_use_up_a_budget_to_the_last_part_and_never_more(
    proxy: ProxyProcess, sim: Sim, model: str
) -> None:
    mine = account(proxy, "0.05")
    tally = Tally()

    async def spend(client: openai.AsyncOpenAI, number: int) -> None:
        for turn in range(20):
            prompt = LONGER if (number + turn) % 3 == 0 else PROMPT
            most = 50 + 30 * (number % 9)
            if not await ask(client, tally, model, most, stream=number % 2 == 0, prompt=prompt):
                return

    async with clients(mine, 64) as many:
        await asyncio.gather(*(spend(client, number) for number, client in enumerate(many)))
        while await ask(many[0], tally, model, 20):
            pass
    spent, limit = tally.spent, Decimal("0.05")
    budget = mine.at_rest(spent)
    assert limit * Decimal("0.98") <= spent <= limit
    assert Decimal(budget["overrun"]) == Decimal(budget["presumed"]) == 0
    assert sim.seen() == len(tally.costs), "a request that was not served reached the provider"
    report = mine.report()
    assert (report["requests"], Decimal(report["cost"])) == (len(tally.costs), spent)
    status, entries = proxy.get(f"/api/v1/budgets/{mine.budget_id}/entries?limit=10000")
    assert status == 200
    assert sum(Decimal(entry["amount"]) for entry in entries["data"]) == spent


# -- one request at a time --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def single(sim_server: Sim, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    with proxy_process(sim_server, tmp_path_factory.mktemp("single")) as running:
        for name, price in PRICES.items():
            assert running.ask("PUT", f"/api/v1/prices/openai/{name}", {"unit": "per_1m", **price})[0] == 200
        yield running


def chat(account: Account, body: dict[str, Any] | None = None, **headers: str) -> httpx.Response:
    """One plain request with the account's key."""
    asked = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}], **(body or {})}
    sent = {"Authorization": f"Bearer {account.key['key']}", **{n.replace("_", "-"): v for n, v in headers.items()}}
    with httpx.Client(trust_env=False, timeout=20) as client:
        return client.post(f"{account.proxy.base_url}/chat/completions", json=asked, headers=sent)


@pytest.mark.parametrize("stream", [False, True])
def test_replies_tell_of_the_tightest_budget_and_of_a_lowered_limit(
    single: ProxyProcess, sim: Sim, stream: bool
) -> None:
    mine = account(single, "0.0004", period="hourly")
    wide = single.post("/api/v1/budgets", {"limit": "5", "scope": "per_virtual_key", "scope_id": mine.key["id"]})[1]
    reply = chat(mine, {"max_tokens": 100, "stream": stream})
    assert reply.status_code == 200
    assert reply.headers["x-akr-max-tokens"] == "40"
    assert sim.requests()[-1]["json"]["max_tokens"] == 40
    assert reply.headers["x-budget-id"] == mine.budget_id != wide["id"]
    assert Decimal(reply.headers["x-budget-limit"]) == Decimal("0.0004")
    assert Decimal(reply.headers["x-budget-remaining"]) == 0  # a stream's is what is held, a whole reply's what it cost
    reset_s = int(reply.headers["x-budget-reset"])
    assert reset_s % 3600 == 0
    assert 0 < reset_s - time.time() <= 3600
    mine.at_rest(Decimal("0.0004"))
    free = chat(Account(single, virtual_key(single, "free"), ""), {"max_tokens": 100, "stream": stream})
    assert not [name for name in free.headers if name.startswith("x-budget") or name == "x-akr-max-tokens"]


def test_without_a_known_price_a_hard_budget_refuses_and_a_soft_one_does_not(single: ProxyProcess, sim: Sim) -> None:
    unpriced = {"model": "my-local-model", "max_tokens": 10}
    hard, soft = account(single, "1"), account(single, "1", enforcement_mode="soft")
    refused = chat(hard, unpriced)
    assert refused.status_code == 402
    error = refused.json()["error"]
    assert (error["code"], error["type"]) == ("unknown_price", "insufficient_quota")
    assert "my-local-model" in error["message"]
    assert refused.headers["x-should-retry"] == "false"
    assert sim.seen() == 0
    assert chat(soft, unpriced).status_code == 200


def test_a_file_by_reference_is_refused_by_name_under_a_hard_budget(single: ProxyProcess, sim: Sim) -> None:
    content = [{"type": "file", "file": {"file_id": "file-" + "1" * 8}}]
    by_reference = {"model": "gpt-4o", "max_tokens": 10, "messages": [{"role": "user", "content": content}]}
    refused = chat(account(single, "1"), by_reference)
    assert refused.status_code == 402
    error = refused.json()["error"]
    assert error["code"] == "unbounded_cost"
    assert "file" in error["message"]
    assert refused.headers["x-should-retry"] == "false"
    assert sim.seen() == 0


def test_a_budget_per_tag_limits_what_the_header_names_and_nothing_else(single: ProxyProcess, sim: Sim) -> None:
    mine = account(single, "0.0011", scope="per_tag", scope_id="feature=chat")
    limited = {"x_akr_tags": "env=prod, feature=chat"}
    assert chat(mine, {"max_tokens": 100}, **limited).status_code == 200
    refused = chat(mine, {"max_tokens": 100}, **limited)
    assert refused.status_code == 402
    facts = refused.json()["error"]["budget"]
    assert (facts["scope"], facts["scope_id"]) == ("per_tag", "feature=chat")
    assert chat(mine, {"max_tokens": 100}, x_akr_tags="feature=search").status_code == 200
    assert chat(mine, {"max_tokens": 100}).status_code == 200
    mine.at_rest(ONE)


def test_a_teams_budget_covers_all_of_its_virtual_keys_whatever_they_say(single: ProxyProcess, sim: Sim) -> None:
    team = account(single, "0.0021", scope="per_team", scope_id="finance")
    members = [
        Account(single, virtual_key(single, name, team="finance", tags={"env": "prod"}), team.budget_id)
        for name in ("ann", "bob")
    ]
    for member in members:
        assert chat(member, {"max_tokens": 100}, x_akr_tags="team=other,env=test").status_code == 200
    assert [chat(member, {"max_tokens": 100}).status_code for member in members] == [402, 402]
    assert chat(team, {"max_tokens": 100}, x_akr_tags="team=finance").status_code == 200  # nobody joins by a header
    team.at_rest(2 * ONE)
    time.sleep(0.6)
    rows = single.get("/api/v1/spend?by=team&by=tag&team=finance")[1]["data"]
    assert [(row["tag"], row["requests"], Decimal(row["cost"])) for row in rows] == [("env=prod", 2, 2 * ONE)]


def test_a_tag_of_the_key_itself_cannot_be_shed(single: ProxyProcess, sim: Sim) -> None:
    key = virtual_key(single, "trial", tags={"plan": "trial"})
    mine = account(single, "0.0011", scope="per_tag", scope_id="plan=trial")
    mine.key = key
    assert chat(mine, {"max_tokens": 100}, x_akr_tags="plan=paid").status_code == 200
    assert chat(mine, {"max_tokens": 100}, x_akr_tags="plan=paid").status_code == 402
