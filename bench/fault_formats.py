"""The formats in which the fault scoreboard runs: how a client asks, and how a provider is set up and recognised.

Main entry: `PAIRS`, OpenAI's own first. A client knows its reply, its errors and its word for a stream that broke off;
a provider, the environment that configures the proxy, and the paths on which replies are asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from tests.support.sim import Sim

__all__ = ["PAIRS", "Client", "Pair", "Provider"]

_TURN = [{"role": "user", "content": "Hello!"}]


class Client(NamedTuple):
    """A format in which clients ask. `member`: what every reply of it has. `impossible`: a request that no model
    serves. `ends`: whether a text is a stream of it that ends by telling an error."""

    name: str
    member: str
    request: dict[str, Any]
    impossible: dict[str, Any]
    ends: Callable[[str], bool]

    def path(self, model: str, *, stream: bool = False) -> str:
        """Where it asks."""
        if self.name == "gemini":
            return f"/v1beta/models/{model}:" + ("streamGenerateContent?alt=sse" if stream else "generateContent")
        return "/v1/messages" if self.name == "anthropic" else "/v1/chat/completions"

    def is_reply(self, body: Any) -> bool:
        """Whether it is a reply of this format."""
        return isinstance(body, dict) and self.member in body

    def is_error(self, body: Any) -> bool:
        """Whether it is an error of this format."""
        error = body.get("error") if isinstance(body, dict) else None
        if not isinstance(error, dict) or not isinstance(error.get("message"), str):
            return False
        return "status" in error if self.name == "gemini" else isinstance(error.get("type"), str)

    def tells_error(self, text: str) -> bool:
        """Whether the stream says that it broke off."""
        return self.ends(text)


class Provider(NamedTuple):
    """A format that the simulated provider is asked in. `variable`: of its keys, numbered. `base`: of its base URL, and
    whether that ends in /v1. `marks`: ends of the paths on which replies are asked for. `checks`: whether it refuses
    what is impossible of its own accord."""

    name: str
    model: str
    variable: str
    base: str
    rooted: bool
    marks: tuple[str, ...]
    checks: bool = True

    def environment(self, sim: Sim) -> dict[str, str]:
        """What configures the proxy."""
        keys = {f"{self.variable}_{number}": key for number, key in enumerate(sim.keys, start=1)}
        return {**keys, self.base: sim.base_url if self.rooted else sim.base_url.removesuffix("/v1")}

    def asks(self, path: str) -> bool:
        """Whether a reply is asked for on this path."""
        return path.partition("?")[0].endswith(self.marks)


class Pair(NamedTuple):
    """A client's format and a provider's."""

    client: Client
    provider: Provider

    @property
    def name(self) -> str:
        """Both."""
        return f"{self.client.name} -> {self.provider.name}"

    @property
    def model(self) -> str:
        """One that the provider has."""
        return self.provider.model

    def body(self, *, stream: bool = False) -> dict[str, Any]:
        """A request that is served."""
        if self.client.name == "gemini":
            return self.client.request
        return {"model": self.model, **self.client.request, **({"stream": True} if stream else {})}

    def impossible(self) -> dict[str, Any]:
        """A request that the provider refuses."""
        return self.body() | self.client.impossible


_OPENAI = Client(
    "openai", "choices", {"messages": _TURN}, {"temperature": 99},
    lambda text: '"error"' in text and text.rstrip().endswith("[DONE]"),
)  # fmt: skip
_ANTHROPIC = Client(
    "anthropic", "content", {"messages": _TURN, "max_tokens": 100}, {"temperature": 99},
    lambda text: "event: error" in text and "message_stop" not in text,
)  # fmt: skip
_GEMINI = Client(
    "gemini", "candidates", {"contents": [{"role": "user", "parts": [{"text": "Hello!"}]}]},
    {"generationConfig": {"temperature": 99}}, lambda text: '"error"' in text.rpartition("data:")[2],
)  # fmt: skip
_AT_OPENAI = Provider("openai", "gpt-4o-mini", "OPENAI_API_KEY", "OPENAI_BASE_URL", True, ("/chat/completions",))
_AT_ANTHROPIC = Provider(
    "anthropic", "claude-sonnet-4-5", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", True, ("/messages",)
)
_AT_GEMINI = Provider(
    "gemini", "gemini-2.5-flash", "GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL", False,
    (":generateContent", ":streamGenerateContent"), checks=False,
)  # fmt: skip

PAIRS = (
    Pair(_OPENAI, _AT_OPENAI),
    Pair(_ANTHROPIC, _AT_ANTHROPIC),
    Pair(_GEMINI, _AT_GEMINI),
    Pair(_OPENAI, _AT_ANTHROPIC),
    Pair(_ANTHROPIC, _AT_OPENAI),
    Pair(_OPENAI, _AT_GEMINI),
)
