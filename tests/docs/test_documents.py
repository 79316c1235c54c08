"""Every snippet of the three migration documents that shows our side runs, unmodified, against a live provider.

The provider is the simulated one, over real HTTP; the proxy is a real process. A snippet that shows another product
(LiteLLM, the Express proxy, hand-made key juggling) is not ours to run.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.processes import proxy_process
from tests.support.sim import Sim, sim_process
from tests.support.snippets import Snippet, run_python, snippets

ROOT = Path(__file__).parents[2]
SPEC = Path(os.environ.get("APIKEYROUTER_SPEC", ROOT.parent / "shared/spec"))
DOCUMENTS = ["migration-litellm.md", "migration-overview.md", "migration-llm-api-key-proxy.md"]
FOREIGN = (
    "litellm.",
    "import litellm",
    "global current_key_index",
    "global total_cost",
    "from litellm",
    "total_cost = 0.0",
)

pytestmark = pytest.mark.data


def ours(language: str) -> list[Snippet]:
    found = []
    for name in DOCUMENTS:
        path = SPEC / name
        if path.exists():
            found += [s for s in snippets(path) if s.language == language]
    return found


def python_snippets() -> list[Snippet]:
    return [s for s in ours("python") if not any(mark in s.code for mark in FOREIGN)]


@pytest.fixture(scope="module")
def sim() -> Iterator[Sim]:
    with sim_process() as process:
        yield process


@pytest.fixture
async def names(sim: Sim, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[dict[str, Any]]:
    """What the text around a snippet has set up before it: a router with a provider, a key and an intent."""
    monkeypatch.setenv("OPENAI_BASE_URL", f"{sim.base_url}")
    from apikeyrouter import ApiKeyRouter, Message, NoEligibleKeysError, OpenAIAdapter, RequestIntent

    router = ApiKeyRouter()
    adapter = OpenAIAdapter()
    await router.register_provider("provided", adapter)
    key = await router.register_key("sk-provided", "provided")
    stand_in = SimpleNamespace(ChatCompletion=SimpleNamespace(create=lambda *_, **__: "the old way"))
    scope: dict[str, Any] = {
        "asyncio": asyncio,
        "router": router,
        "adapter": adapter,
        "key_id": key.id,
        "intent": RequestIntent(
            model="gpt-4", messages=[Message(role="user", content="Hello!")], provider_id="provided"
        ),
        "OpenAIAdapter": OpenAIAdapter,
        "RequestIntent": RequestIntent,
        "Message": Message,
        "NoEligibleKeysError": NoEligibleKeysError,
        "openai": stand_in,
    }
    scope["response"] = scope["api_response"] = await router.route(scope["intent"])
    # Later steps of a document go on with its "openai" provider, which its first step registered.
    await router.register_provider("openai", adapter)
    await router.register_key("sk-before", "openai")
    yield scope
    for made in {id(r): r for r in (router, scope["router"])}.values():
        await made.aclose()


def test_the_documents_are_there() -> None:
    if not SPEC.exists():
        pytest.skip("data not found, skipped")
    assert len(python_snippets()) >= 20


@pytest.mark.parametrize("snippet", python_snippets(), ids=str)
async def test_python_snippet_runs(snippet: Snippet, names: dict[str, Any]) -> None:
    if 'register_provider("openai"' in snippet.code and "ApiKeyRouter()" not in snippet.code:
        # the snippet registers on a router that the text has just made
        await names["router"].aclose()
        from apikeyrouter import ApiKeyRouter

        names["router"] = ApiKeyRouter()
        await names["router"].start()
        await names["router"].key_manager.register("sk-earlier", "openai")
    if "litellm_compat_response" in snippet.code and "LiteLLM format" in snippet.code:
        # its first line shows the other product's response object, beside ours
        names["response"].__dict__["choices"] = [SimpleNamespace(message=SimpleNamespace(content="theirs"))]
    result = await run_python(snippet, names)
    if "litellm_compat_response" in result:
        converted = result["litellm_compat_response"](names["api_response"])
        assert converted["choices"][0]["message"]["content"]
        assert converted["usage"]["total_tokens"] > 0
        assert converted["model"].startswith("gpt-4")
    if "router.route(" in snippet.code and "response" in result and "except" not in snippet.code:
        assert result["response"].content


@pytest.fixture(scope="module")
def proxy(sim: Sim, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A proxy on the port of the documents (8000), or on a free one where that is taken."""
    with proxy_process(sim, tmp_path_factory.mktemp("proxy"), port=8000) as running:
        yield running.port


@pytest.mark.parametrize("snippet", [s for s in ours("javascript") if "localhost:8000" in s.code], ids=str)
def test_javascript_fetch_snippet_runs(snippet: Snippet, proxy: int) -> None:
    code = snippet.code.replace("localhost:8000", f"127.0.0.1:{proxy}")
    script = (
        f"{code}\nconst body = await response.json();\nconsole.log(response.status, body.choices[0].message.content);"
    )
    node = ROOT / "scripts/node"
    done = subprocess.run(
        [str(node), "node", "--input-type=module", "-e", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("200 ")


def curl_snippets() -> list[Snippet]:
    return [s for s in ours("bash") if "localhost:8000/v1" in s.code]


@pytest.mark.parametrize("snippet", curl_snippets(), ids=str)
def test_curl_snippet_runs(snippet: Snippet, proxy: int) -> None:
    assert shutil.which("curl")
    command = snippet.code[snippet.code.index("curl") :].rstrip().replace("localhost:8000", f"127.0.0.1:{proxy}")
    # As printed the messages are "[...]", which is no JSON: the answer must say so and show what is.
    told = subprocess.run(["bash", "-c", command + " -s"], capture_output=True, text=True, timeout=60, check=True)
    assert "not valid JSON" in told.stdout
    filled = command.replace("[...]", '[{"role": "user", "content": "Hello!"}]')
    answer = subprocess.run(["bash", "-c", filled + " -s"], capture_output=True, text=True, timeout=60, check=True)
    assert '"choices"' in answer.stdout


def dotenv_snippets() -> list[Snippet]:
    return [s for s in ours("bash") if "APIKEYROUTER_ENCRYPTION_KEY" in s.code]


@pytest.mark.parametrize("snippet", dotenv_snippets(), ids=str)
def test_dotenv_snippet_starts_a_proxy(snippet: Snippet, sim: Sim, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(snippet.code)
    with proxy_process(sim, tmp_path) as running:
        assert running.get("/readyz")[0] == 200


def server_snippets() -> list[Snippet]:
    return [s for s in ours("bash") if "uvicorn apikeyrouter_proxy.main:app" in s.code]


@pytest.mark.parametrize("snippet", server_snippets(), ids=str)
def test_server_command_starts_a_proxy(snippet: Snippet, sim: Sim, tmp_path: Path) -> None:
    """The uvicorn command as printed, run where it says, with our environment in place of poetry's."""
    lines = [line for line in snippet.code.splitlines() if "uvicorn" in line]
    arguments = lines[0].removeprefix("poetry run uvicorn ").split()
    assert arguments[0] == "apikeyrouter_proxy.main:app"
    with proxy_process(sim, tmp_path, uvicorn_arguments=[a for a in arguments if a not in ("--port", "3000")]) as up:
        status, body = up.post(
            "/v1/chat/completions", {"model": "gpt-4", "messages": [{"role": "user", "content": "Hi"}]}
        )
        assert status == 200, body
