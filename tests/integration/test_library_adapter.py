"""Providers through an installed library: the same router, holds and failover. Skipped where the library is missing."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any, Literal

import pytest

from apikeyrouter import ApiKeyRouter, OpenAIAdapter
from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.interfaces.transport import HttpRequest
from apikeyrouter.domain.models.call import Call, Operation, peek
from apikeyrouter.infrastructure.adapters.library_adapter import LibraryAdapter, LibraryTransport
from apikeyrouter.infrastructure.clock import SystemClock
from apikeyrouter.infrastructure.transport import HttpTransport
from apikeyrouter.wire.losses import UntranslatableError
from tests.support.routers import ask
from tests.support.sim import Sim

PARTS: list[tuple[Literal["litellm", "any-llm"], str, str]] = [
    ("litellm", "litellm", "openai/"),
    ("any-llm", "any_llm", "openai:"),
]
BOTH = [
    pytest.param(library, prefix, marks=pytest.mark.skipif(find_spec(module) is None, reason=f"{module} is missing"))
    for library, module, prefix in PARTS
]
MISSING = [library for library, module, _ in PARTS if find_spec(module) is None]


@asynccontextmanager
async def router_through(
    library: Literal["litellm", "any-llm"], prefix: str, sim: Sim, keys: list[str]
) -> AsyncIterator[ApiKeyRouter]:
    clock = SystemClock()
    options: dict[str, Any] = {"api_base": sim.base_url}
    async with ApiKeyRouter(transport=LibraryTransport(HttpTransport(clock=clock), clock)) as router:
        await router.register_provider("tail", LibraryAdapter(library, prefix=prefix, options=options))
        for key in keys:
            await router.register_key(key, "tail")
        yield router


@pytest.mark.parametrize(("library", "prefix"), BOTH)
async def test_replies_streams_and_usage_come_through(
    sim: Sim, library: Literal["litellm", "any-llm"], prefix: str
) -> None:
    async with router_through(library, prefix, sim, [sim.keys[0]]) as router:
        response = await router.route(ask(model="tail/gpt-4o-mini"))
        assert response.content
        assert response.metadata.tokens_used.total_tokens > 0
        assert sim.requests()[-1]["json"]["model"] == "gpt-4o-mini"
        stream = router.route_stream(ask(model="tail/gpt-4o-mini"))
        assert "".join([str(chunk) async for chunk in stream])


@pytest.mark.parametrize(("library", "prefix"), BOTH)
async def test_a_key_that_is_limited_is_left_for_another_one(
    sim: Sim, library: Literal["litellm", "any-llm"], prefix: str
) -> None:
    sim.fault(sim.keys[0], "rate_limited", retry_after_s=30)
    async with router_through(library, prefix, sim, sim.keys[:2]) as router:
        for _ in range(3):
            assert (await router.route(ask(model="tail/gpt-4o-mini"))).content


@pytest.mark.parametrize("library", MISSING)
def test_a_library_that_is_not_installed_is_named_and_never_imported(library: Literal["litellm", "any-llm"]) -> None:
    with pytest.raises(ConfigurationError, match="is not installed"):
        LibraryAdapter(library)
    assert not {"litellm", "any_llm"} & sys.modules.keys()


def test_another_name_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="any-llm, litellm"):
        LibraryAdapter("langchain")  # type: ignore[arg-type]


async def test_arguments_of_the_library_are_none_that_a_caller_may_give() -> None:
    adapter = object.__new__(LibraryAdapter)  # making one needs the library, being safe does not
    adapter._prefix, adapter._options = "openai/", {"api_base": "http://127.0.0.1:1"}
    body = b'{"model":"m","messages":[],"api_base":"http://evil.example"}'
    call = Call("r", Operation.Chat, "m", body, peek(body), started_s=0.0, deadline_s=1.0)
    headers = [(b"authorization", b"Bearer k"), (b"x-library-options", b'{"api_base":"http://evil.example"}')]
    with pytest.raises(UntranslatableError, match="api_base"):
        adapter.prepared(HttpRequest("POST", "http://x", list(headers), body), call)
    call.drop_params = True
    made = adapter.prepared(HttpRequest("POST", "http://x", list(headers), body), call)
    assert b"evil" not in made.body + b"".join(value for _, value in made.headers)
    assert made.dropped == ("api_base",)


async def test_what_is_for_no_library_goes_over_http_as_ever(sim: Sim) -> None:
    clock = SystemClock()
    async with ApiKeyRouter(transport=LibraryTransport(HttpTransport(clock=clock), clock)) as router:
        await router.register_provider("openai", OpenAIAdapter(sim.base_url))
        await router.register_key(sim.keys[0], "openai")
        assert (await router.route(ask())).content
