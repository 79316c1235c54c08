"""The catalogue of providers: every row is whole, sourced, and makes an adapter."""

from __future__ import annotations

from datetime import date
from urllib.parse import urlsplit

import pytest

from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.interfaces.provider_adapter import ProviderAdapter
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.models.call import Operation
from apikeyrouter.domain.quota.dialects.registry import DIALECTS
from apikeyrouter.infrastructure.catalogue import KEYLESS, ProviderRow, find_row, provider, rows
from apikeyrouter.infrastructure.catalogue.provider_row import row_of
from apikeyrouter.infrastructure.catalogue.providers import NATIVE

ROWS = list(rows().values())
NAMED = [
    "groq",
    "mistral",
    "deepseek",
    "together",
    "fireworks",
    "openrouter",
    "xai",
    "cerebras",
    "perplexity",
    "huggingface",
    "nvidia",
    "sambanova",
    "moonshot",
    "zai",
    "alibaba",
    "minimax",
    "baseten",
    "deepinfra",
    "novita",
    "hyperbolic",
    "nebius",
    "lambda",
    "cohere-compatible",
    "ai21",
    "upstage",
    "scaleway",
    "ovhcloud",
    "github",
    "databricks",
    "cloudflare",
    "vercel",
    "venice",
    "featherless",
    "friendli",
    "inference",
    "chutes",
    "siliconflow",
    "stepfun",
    "volcengine",
    "writer",
    "voyage",
    "jina",
    "ollama-cloud",
    "litellm",
    "apikeyrouter",
    "ollama",
    "vllm",
    "llamacpp",
    "lmstudio",
    "tgi",
    "sglang",
    "localai",
]


def environment(row: ProviderRow) -> dict[str, str]:
    """Values for what a row's base URL leaves open."""
    return {name: "https://acme.example" if row.base_url.startswith("{") else "acme" for name in row.variables}


def test_at_least_forty_five_providers_are_known_and_all_that_were_promised() -> None:
    assert len(ROWS) >= 45
    assert set(NAMED) <= rows().keys()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_row_is_whole_and_says_where_it_was_checked_and_when(row: ProviderRow) -> None:
    assert row.faults() == []
    assert row.name
    assert row.dialect in DIALECTS
    assert row.docs.startswith("https://") or row.id == "apikeyrouter"
    assert date(2026, 1, 1) <= date.fromisoformat(row.checked) <= date(2026, 12, 31)
    local = row.keyless and row.id != "litellm"
    assert local or row.base_url.startswith(("https://", "{")) or row.id == "litellm"
    assert row.keyless or row.env or row.shared_env


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_row_makes_an_adapter_that_puts_the_key_where_the_row_says(row: ProviderRow) -> None:
    adapter = provider(row.id, environ=environment(row))
    assert isinstance(adapter, ProviderAdapter)
    material = "k-" + row.id
    request = adapter.build_models_request(Secret(material))
    assert dict(request.headers)[row.header.encode()].decode().endswith(material)
    assert material not in request.url
    assert Operation.Raw in adapter.get_capabilities().operations
    if row.keyless:
        assert row.header.encode() not in dict(adapter.build_models_request(Secret(KEYLESS)).headers)


def test_no_name_and_no_variable_means_two_providers() -> None:
    names = [name for row in ROWS for name in (row.id, *row.aliases)]
    assert len(names) == len(set(names))
    assert not set(names) & set(NATIVE)
    variables = [name for row in ROWS for name in row.env]
    assert len(variables) == len(set(variables))
    assert not set(variables) & {name for row in ROWS for name in row.shared_env}


def test_two_remote_rows_have_two_addresses() -> None:
    addresses = [row.base_url for row in ROWS if not row.keyless]
    assert len(addresses) == len(set(addresses))
    assert all(urlsplit(address).hostname or address.startswith("{") for address in addresses)


def test_names_people_write_find_the_row() -> None:
    for name, row_id in (("Together_AI", "together"), ("x-ai", "xai"), ("dashscope", "alibaba"), ("groq", "groq")):
        found = find_row(name)
        assert found is not None
        assert found.id == row_id


def test_an_unknown_name_is_told_with_the_nearest_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"Did you mean groq"):
        provider("groqq")
    with pytest.raises(ConfigurationError, match=r"known as 'mistrall'.*Did you mean mistral"):
        provider("mistrall")


def test_an_address_that_lacks_a_variable_names_it() -> None:
    with pytest.raises(
        ConfigurationError, match=r"set CLOUDFLARE_ACCOUNT_ID, or its whole base URL in CLOUDFLARE_BASE"
    ):
        provider("cloudflare", environ={})
    adapter = provider("cloudflare", environ={"CLOUDFLARE_ACCOUNT_ID": "abc"})
    assert adapter.base_url == "https://api.cloudflare.com/client/v4/accounts/abc/ai/v1"
    assert provider("groq", environ={"GROQ_BASE_URL": "http://127.0.0.1:9/v1/"}).base_url == "http://127.0.0.1:9/v1"


def test_a_row_of_the_users_own_needs_an_id_and_an_address() -> None:
    row = row_of({"id": "acme", "base_url": "https://llm.acme.example/v1", "operations": ["chat/completions"]})
    assert row.operations == {Operation.Chat: "chat/completions"}
    like = row_of({"id": "eu-mistral", "base_url": "https://eu.example/v1"}, like=find_row("mistral"))
    assert like.quirks == rows()["mistral"].quirks
    for wrong, told in (
        ({"id": "Acme", "base_url": "https://a.example"}, "id:"),
        ({"id": "acme", "base_url": "a.example"}, "base URL"),
        ({"id": "acme", "base_url": "https://a.example", "quirk": []}, "unknown field"),
        ({"id": "acme", "base_url": "https://a.example", "quirks": ["odd"]}, "odd"),
        ({"id": "acme", "base_url": "https://a.example", "operations": {"chat/completions": "/chat"}}, "leading slash"),
    ):
        with pytest.raises(ConfigurationError, match=told):
            row_of(wrong)
