"""Document 004, snippet by snippet and in its own order, runs unmodified; its `app.*` imports are ours by that name.

The LiteLLM proxy is played by the simulated provider over real HTTP; only the address `localhost:4000` is replaced.
"""

from __future__ import annotations

import ast
import asyncio
import logging
import os
import textwrap
import types
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from tests.support.litellm_like import litellm_like
from tests.support.server import Served
from tests.support.snippets import Snippet, snippets

ROOT = Path(__file__).parents[2]
SPEC = Path(os.environ.get("APIKEYROUTER_SPEC", ROOT.parent / "shared/spec")) / "modelmuxer-litellm-provider.md"

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def gateway() -> Iterator[Served]:
    with litellm_like() as served:
        yield served


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """One snippet turns debug logging on for the whole process."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def python_snippets() -> list[Snippet]:
    return [one for one in snippets(SPEC) if one.language == "python"] if SPEC.exists() else []


def run(snippet: Snippet, names: dict[str, Any], runner: asyncio.Runner, port: int) -> str:
    """Runs a snippet as a script where it brings its own loop, else with top-level await; what it printed."""
    code = textwrap.dedent(snippet.code).replace("localhost:4000", f"127.0.0.1:{port}")
    compiled = compile(
        "\n" * (snippet.line - 1) + code, str(SPEC), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
    )
    with redirect_stdout(StringIO()) as printed:
        result = types.FunctionType(compiled, names)()
        if asyncio.iscoroutine(result):
            runner.run(result)
    return printed.getvalue()


@pytest.mark.usefixtures("logging_as_before")
def test_every_python_snippet_of_document_004_runs(gateway: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    if not SPEC.exists():
        pytest.skip("data not found, skipped")
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "modelmuxer_shim"))
    for name in ("LITELLM_BASE_URL", "LITELLM_API_KEY", "DEFAULT_ROUTING_STRATEGY", "CASCADE_ROUTING_ENABLED"):
        monkeypatch.delenv(name, raising=False)
    names: dict[str, Any] = {"__name__": "__main__"}
    printed = ""
    found = python_snippets()
    assert len(found) == 10
    with asyncio.Runner() as runner:
        for snippet in found:
            printed += run(snippet, names, runner, gateway.port)
            if "select_model" in snippet.code:
                assert names["selected_model"] in names["provider"].get_supported_models()
        assert names["response"].choices[0].message.content
        assert names["response"].cost_usd <= 0.01
        assert names["selected_provider"] == "litellm"
        assert "Cost: $0.0" in printed
        assert "Streaming complete!" in printed
        assert "Most cost-effective model: " in printed
        assert "4096" in printed
        assert "✅ Healthy" in printed
        assert "gpt-4" in printed
        runner.run(names["provider"].aclose())
