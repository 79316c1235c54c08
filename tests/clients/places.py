"""What the clients meet: a proxy before simulated providers of three formats, and one whose every key is spent.

Main entries: `serving()` and `spent()`. Both demand keys, as a proxy of a team does. Laws: real HTTP, processes of
their own; faults are set for one request at a time, so that a test leaves nothing behind.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.clients.running import Place
from tests.support.processes import proxy_process
from tests.support.sim import Sim, sim_process
from tests.support.upstream import Upstream, upstream

__all__ = ["MODELS", "RETRY_AFTER_S", "STATEFUL_MODEL", "World", "serving", "spent"]

MODELS = {
    "openai": "openai/gpt-4o-mini",
    "anthropic": "anthropic/claude-sonnet-4-5",
    "gemini": "gemini/gemini-2.5-flash",
}
"""A model of each provider, whose format is the provider's name."""
RETRY_AFTER_S = 45
_ROWS = """
[providers.stateful]
base_url = "{sim}"
env = ["STATEFUL_API_KEY"]
makes = ["none-by-itself"]
[providers.stateful.operations]
"chat/completions" = "chat/completions"
"responses" = "responses"
"embeddings" = "embeddings"
[providers.studio]
base_url = "{studio}"
env = ["STUDIO_API_KEY"]
makes = ["gpt-image", "tts", "whisper", "omni-moderation"]
models_path = ""
[providers.studio.operations]
"images/generations" = "images/generations"
"audio/speech" = "audio/speech"
"audio/transcriptions" = "audio/transcriptions"
"moderations" = "moderations"
"""
"""Two providers of the operator's own: one that keeps responses, as OpenAI does, and one of pictures and sound."""
STATEFUL_MODEL = "stateful/gpt-5-mini"
_STUDIO_ANSWERS: dict[str, tuple[Any, str]] = {
    "/v1/images/generations": ({"created": 1, "data": [{"b64_json": "aGVsbG8="}]}, "application/json"),
    "/v1/audio/speech": (b"ID3" + bytes(range(256)), "audio/mpeg"),
    "/v1/audio/transcriptions": ({"text": "Hello!"}, "application/json"),
    "/v1/moderations": (
        {"id": "modr-1", "model": "omni-moderation-latest", "results": [{"flagged": False}]},
        "application/json",
    ),
}


@dataclass(frozen=True, slots=True)
class World:
    """`place`: the proxy; `sim`: the providers of conversations; `studio`: the one of pictures and sound, which says
    what it is told to."""

    place: Place
    sim: Sim
    studio: Upstream


def _environ(sim: Sim, word: str) -> dict[str, str]:
    origin = sim.base_url.removesuffix("/v1")
    return {
        "OPENAI_BASE_URL": sim.base_url, "OPENAI_API_KEY": f"sim-{word}-openai",
        "ANTHROPIC_BASE_URL": origin, "ANTHROPIC_API_KEY": f"sim-{word}-anthropic",
        "GOOGLE_GEMINI_BASE_URL": origin, "GEMINI_API_KEY": f"sim-{word}-gemini",
        "APIKEYROUTER_QUOTA_WAIT_S": "0", "APIKEYROUTER_STORE": "memory:",
    }  # fmt: skip


@contextmanager
def _proxy(sim: Sim, folder: Path, environ: dict[str, str]) -> Iterator[Place]:
    admin = secrets.token_hex(16)
    with proxy_process(None, folder, env={**environ, "APIKEYROUTER_ADMIN_KEY": admin}) as proxy:
        bearer = {"Authorization": f"Bearer {admin}"}
        status, made = proxy.post("/api/v1/virtual-keys", {"name": "clients"}, bearer)
        assert status == 201, made
        yield Place(proxy.origin, made["key"])


@contextmanager
def serving(folder: Path) -> Iterator[World]:
    """Everything works."""
    with ExitStack() as stack:
        sim = stack.enter_context(sim_process({"limits": "none"}))
        studio = stack.enter_context(upstream())
        for path, (body, kind) in _STUDIO_ANSWERS.items():
            studio.answers(path, body, kind=kind)
        rows = folder / "providers.toml"
        rows.write_text(_ROWS.format(sim=sim.base_url, studio=studio.base_url))
        environ = {**_environ(sim, "well"), "APIKEYROUTER_PROVIDERS_FILE": str(rows)}
        environ |= {"STUDIO_API_KEY": "sim-well-studio", "STATEFUL_API_KEY": "sim-well-stateful"}
        yield World(stack.enter_context(_proxy(sim, folder, environ)), sim, studio)


@contextmanager
def spent(sim: Sim, folder: Path) -> Iterator[Place]:
    """Every provider answers 429, to this proxy only, and says when to come back."""
    environ: dict[str, Any] = _environ(sim, "spent")
    for name in MODELS:
        sim.fault(f"sim-spent-{name}", "rate_limited", retry_after_s=RETRY_AFTER_S)
    with _proxy(sim, folder, environ) as place:
        yield place
