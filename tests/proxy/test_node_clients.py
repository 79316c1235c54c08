"""Anthropic's SDK for Node and Vercel's AI SDK against the running proxy, with providers of two formats behind it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import ProxyProcess, proxy_process
from tests.support.sim import Sim

ROOT = Path(__file__).parents[2]
MODELS = ("openai/gpt-4o-mini", "anthropic/claude-opus-5")


@pytest.fixture(scope="module")
def both(sim_server: Sim, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    """A proxy in front of OpenAI and Anthropic."""
    env = {"ANTHROPIC_API_KEY": sim_server.keys[1], "ANTHROPIC_BASE_URL": sim_server.base_url}
    with proxy_process(sim_server, tmp_path_factory.mktemp("both"), keys=[sim_server.keys[0]], env=env) as proxy:
        yield proxy


def run(proxy: ProxyProcess, program: str, model: str) -> list[str]:
    """The checks that passed. Raises AssertionError when one did not."""
    done = subprocess.run(
        [str(ROOT / "scripts/node"), "node", program],
        cwd=ROOT / "tests/node",
        env=os.environ | {"BASE_URL": proxy.base_url, "ORIGIN": proxy.origin, "MODEL": model},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [line.removeprefix("ok ") for line in done.stdout.splitlines() if line.startswith("ok ")]


def only_path(sim: Sim, model: str) -> None:
    """What was asked for went to the model's provider, in its format."""
    path = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}[model.partition("/")[0]]
    asked = {request["path"] for request in sim.requests() if request["method"] == "POST"}
    assert asked - {f"{path}/count_tokens"} == {path}


@pytest.mark.node
@pytest.mark.parametrize("model", MODELS)
def test_anthropics_sdk(model: str, sim: Sim, both: ProxyProcess) -> None:
    assert len(run(both, "anthropic.mjs", model)) == 8
    only_path(sim, model)


@pytest.mark.node
@pytest.mark.parametrize("model", MODELS)
def test_vercels_ai_sdk(model: str, sim: Sim, both: ProxyProcess) -> None:
    assert len(run(both, "vercel.mjs", model)) == 3 * 6
    only_path(sim, model)
