"""The gateways of the quota story and the simulated provider behind each: configured, started, warmed up.

Entry: `Provider` (a simulated provider of four accounts in a process of its own) and `gateway(name, provider, ...)`.
Laws: every gateway has a provider of its own, so none spends another's quota; warming up goes to an account that is not
counted; LiteLLM is told the same limits, in its own words, and keeps its own defaults for everything else.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from bench import local_http, processes
from bench.targets import LiteLLM, Ours, Target

ACCOUNTS = 4
MODEL = "gpt-4o-mini"
WARM_KEY = "sim-warm"
WARM_REQUESTS = 20
_RECORDED = 20_000
_SETTLE_S = 2.0


def key_of(number: int) -> str:
    """The key of an account, 1 to `ACCOUNTS`."""
    return f"sim-story-{number}"


class Provider:
    """A simulated provider. `limits`: of each account, see `apikeyrouter.simulation.config.Limits`."""

    def __init__(self, limits: dict[str, Any], folder: Path) -> None:
        self.limits = limits
        self.port = processes.free_port()
        self._folder = folder
        self._running: processes.Running | None = None

    def start(self) -> None:
        """Starts it and waits until it listens."""
        accounts: list[dict[str, Any]] = [
            {"name": f"story-{n}", "keys": [key_of(n)], "limits": self.limits} for n in range(1, ACCOUNTS + 1)
        ]
        accounts.append({"name": "warm", "keys": [WARM_KEY], "limits": "none"})
        config = self._folder / "sim.json"
        self._folder.mkdir(parents=True, exist_ok=True)
        config.write_text(json.dumps({"accounts": accounts, "record_last": _RECORDED, "auto_accounts": False}))
        command = [sys.executable, "-m", "apikeyrouter_proxy.sim_server", "--config", str(config)]
        self._running = processes.start(
            "provider",
            [*command, "--port", str(self.port)],
            core=processes.LOAD_CORE,
            log=self._folder / "sim.log",
        )
        processes.wait_listening(self._running, self.port)

    def stop(self) -> None:
        """Ends it."""
        if self._running is not None:
            self._running.stop()
            self._running = None

    def visits(self) -> list[dict[str, Any]]:
        """What came, oldest first, without the warm-up."""
        reply = local_http.call_json(self.port, "GET", "/_sim/requests")
        found: list[dict[str, Any]] = reply["requests"]  # type: ignore[assignment]  # our own control endpoint
        return [visit for visit in found if visit["key"] != WARM_KEY]


class OursForQuota(Ours):
    """`apikeyrouter serve` in memory. `rpm`: typed in as metadata of each key; None: to be learned."""

    rpm: int | None = None
    wait_s: float | None = None

    def command(self) -> tuple[list[str], dict[str, str]]:
        command, env = super().command()
        env = {name: value for name, value in env.items() if not name.startswith("OPENAI_API_KEY")}
        env |= {f"OPENAI_API_KEY_{n}": key_of(n) for n in range(1, ACCOUNTS + 1)}
        env["APIKEYROUTER_STORE"] = "memory:"
        if self.wait_s is not None:
            env["APIKEYROUTER_QUOTA_WAIT_S"] = f"{self.wait_s:g}"
        return command, env

    def prepare(self) -> None:
        super().prepare()
        keys: Any = self.manage("GET", "keys").get("data")
        for key in keys:
            if self.rpm is not None:
                self.manage("PATCH", f"keys/{key['id']}", {"metadata": {"rpm": self.rpm}})
        self.manage("POST", "providers", {"id": "warm", "base_url": f"http://127.0.0.1:{self.upstream_port}/v1"})
        warm = self.manage("POST", "keys", {"key_material": WARM_KEY, "provider_id": "warm"})
        _warm_up(self, f"warm/{MODEL}")
        self.manage("DELETE", f"keys/{warm['id']}")


class LiteLLMForQuota(LiteLLM):
    """LiteLLM's proxy with one deployment an account. `strategy`: of its router."""

    strategy: str = "simple-shuffle"
    rpm: int = 60

    def command(self) -> tuple[list[str], dict[str, str]]:
        command, env = super().command()
        models = [self._deployment(MODEL, key_of(n), rpm=self.rpm) for n in range(1, ACCOUNTS + 1)]
        models.append(self._deployment("warm", WARM_KEY))
        config = {"model_list": models, "router_settings": {"routing_strategy": self.strategy}}
        Path(command[command.index("--config") + 1]).write_text(json.dumps(config))
        return command, env

    def _deployment(self, name: str, key: str, **limits: int) -> dict[str, Any]:
        base = f"http://127.0.0.1:{self.upstream_port}/v1"
        return {
            "model_name": name,
            "litellm_params": {"model": f"openai/{MODEL}", "api_base": base, "api_key": key} | limits,
        }

    def prepare(self) -> None:
        super().prepare()
        _warm_up(self, "warm")


def gateway(name: str, provider: Provider, folder: Path, *, wait_s: float | None) -> Target:
    """ "ours" (limits typed in), "ours, learned", "litellm usage" or "litellm shuffle", in front of a provider."""
    port = processes.free_port()
    if name.startswith("ours"):
        ours = OursForQuota(name, port, provider.port, folder)
        ours.rpm = None if name.endswith("learned") else int(provider.limits["rpm"])
        ours.wait_s = wait_s
        return ours
    litellm = LiteLLMForQuota(name, port, provider.port, folder)
    litellm.strategy = "usage-based-routing-v2" if name.endswith("usage") else "simple-shuffle"
    litellm.rpm = int(provider.limits["rpm"])
    return litellm


def _warm_up(target: Target, model: str) -> None:
    """Requests to the account that is not counted. Raises RuntimeError when they are not answered."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 16}
    for _ in range(WARM_REQUESTS):
        local_http.call_json(target.port, "POST", "/v1/chat/completions", body, target.headers)
    time.sleep(_SETTLE_S)
