"""Routers made of a program's environment: which provider is chosen, what is refused, and that they really ask it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from apikeyrouter import EnvSettings, from_env
from apikeyrouter.domain.errors import ConfigurationError
from tests.support.command import clean_environ
from tests.support.routers import ask
from tests.support.upstream import Upstream, upstream

OPENAI, CLAUDE = {"OPENAI_API_KEY": "sk-open-1"}, {"ANTHROPIC_API_KEY": "sk-claude-1"}
AZURE = {
    "AZURE_OPENAI_API_KEY": "azure-1", "AZURE_OPENAI_ENDPOINT": "https://x.openai.azure.com",
    "AZURE_OPENAI_API_VERSION": "2024-10-21", "AZURE_OPENAI_DEPLOYMENT": "prod-4o",
}  # fmt: skip


@pytest.fixture
def provider() -> Iterator[Upstream]:
    with upstream() as app:
        yield app


@pytest.mark.parametrize(
    ("environ", "chosen", "model"),
    [
        (AZURE | OPENAI | CLAUDE, "azure", "prod-4o"),
        (OPENAI | CLAUDE, "openai", "gpt-4o-mini"),
        (CLAUDE, "anthropic", "claude-haiku-4-5"),
        ({"OPENAI_API_KEY": "your_litellm_api_key_here"} | CLAUDE, "anthropic", "claude-haiku-4-5"),
        (OPENAI | {"MODEL": "claude-3-opus"}, "openai", "claude-3-opus"),
    ],
)
def test_azure_goes_before_compatible_ones_and_these_before_anthropic(
    environ: dict[str, str], chosen: str, model: str
) -> None:
    found = EnvSettings.from_env(environ)
    assert (found.provider_id, found.model) == (chosen, model)


@pytest.mark.parametrize("lacking", AZURE)
def test_azure_counts_only_with_its_whole_set(lacking: str) -> None:
    part = {name: value for name, value in AZURE.items() if name != lacking}
    assert EnvSettings.from_env(part | OPENAI).provider_id == "openai"


@pytest.mark.parametrize("environ", [{}, {"OPENAI_API_KEY": "  "}, {"OPENAI_API_KEY": "sk-..."}])
async def test_without_any_credential_one_error_names_the_three_ways(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        await from_env(environ)
    (fault,) = refused.value.faults
    assert all(name in fault for name in ("AZURE_OPENAI_API_KEY", "OPENAI_API_KEY", "ANTHROPIC_API_KEY"))


def test_every_fault_is_named_at_once_and_no_value_is_repeated() -> None:
    wrong = {"TEMPERATURE": "hot", "REQUEST_TIMEOUT": "-1", "MAX_RETRY": "1.5", "MAX_ITERATIONS": "0", "DEBUG": "maybe"}
    with pytest.raises(ConfigurationError) as refused:
        EnvSettings.from_env(OPENAI | wrong)
    assert [fault.partition(":")[0] for fault in refused.value.faults] == list(wrong)
    assert not any(value in fault for fault in refused.value.faults for value in ("hot", "maybe"))


async def test_the_router_asks_the_server_that_the_environment_names(provider: Upstream) -> None:
    environ = {"OPENAI_API_KEY": "sk-open-1,sk-open-2", "OPENAI_BASE_URL": provider.base_url, "MAX_RETRY": "0"}
    async with await from_env(environ) as router:
        for _ in range(2):
            assert (await router.route(ask())).content == "Hello!"
        assert {one.key for one in provider.seen} == {"sk-open-1", "sk-open-2"}
        assert router.settings.attempts_max == 1


def test_the_documents_example_file_gives_its_defaults(tmp_path: Path) -> None:
    found = EnvSettings.from_env(clean_environ(tmp_path, OPENAI | {"DETAILED_ERROR": "true", "MODEL": "gpt-4o"}))
    assert found == EnvSettings("openai", "OPENAI_API_KEY", model="gpt-4o", detailed_error=True)
    assert (found.temperature, found.request_timeout_s, found.max_retry, found.max_iterations) == (0.03, 300.0, 3, 12)
