"""Hard budgets hold the longest reply of a model, which the model catalogue knows for makers besides OpenAI too."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest

from apikeyrouter.infrastructure.adapters.openai_adapter import OpenAIAdapter
from apikeyrouter.infrastructure.catalogue.models import longest_reply
from tests.support.server import run_proxy
from tests.support.upstream import Upstream, upstream


@pytest.fixture(scope="module")
def provider() -> Iterator[Upstream]:
    with upstream() as app:
        yield app


@pytest.mark.parametrize(
    ("model", "least", "most"),
    [
        ("claude-opus-4-5-20251101", "1.60", "1.61"),  # 64,000 tokens at 25 dollars per million, not 200,000
        ("claude-3-haiku-20240307", "0.00512", "0.0055"),  # 4,096 at 1.25
        ("gemini-3.1-flash-lite", "0.098", "0.099"),  # 65,536 at 1.50
    ],
)
def test_a_request_without_a_cap_fits_a_budget_that_its_longest_reply_fits(
    provider: Upstream, model: str, least: str, most: str
) -> None:
    for limit, status in ((least, 402), (most, 200)):
        with run_proxy(provider.base_url, ["sk-upstream-0"], router_config={"clamp_output": False}) as (served, proxy):
            proxy.router.directory.register("hub", OpenAIAdapter(provider.base_url, claims_all=True))
            key = {"provider_id": "hub", "key_material": "sk-hub-0"}
            assert served.post("/api/v1/keys", key).status == 201
            limit_usd = str(Decimal(limit) - (Decimal("0.002") if status == 402 else 0))
            assert served.post("/api/v1/budgets", {"limit": limit_usd, "period": "daily"}).status == 201
            body = {"model": f"hub/{model}", "messages": [{"role": "user", "content": "Hello!"}]}
            assert served.post("/v1/chat/completions", body).status == status, (model, limit_usd)


def test_open_models_have_no_longest_reply_of_their_own() -> None:
    assert longest_reply("claude-sonnet-4-5-20250929") == 64_000
    assert longest_reply("anthropic/claude-sonnet-4-5") == 64_000
    assert longest_reply("gpt-oss-120b") is None
    assert longest_reply("nobody-knows-this") is None
