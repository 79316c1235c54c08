"""What a proxy with keys of its own holds in memory: nothing that only commands, first runs or files need."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import clean_environ

_SERVE = """
import json, os, signal, sys
from apikeyrouter_proxy.cli import main

class Out:
    encoding = "utf-8"

    def write(self, text):
        if "listens on" in text:
            os.kill(os.getpid(), signal.SIGTERM)
        return len(text)

    def flush(self):
        pass

    def isatty(self):
        return False

shown, sys.stdout = sys.stdout, Out()
status = main(sys.argv[1:])
print(json.dumps({"status": status, "modules": sorted(sys.modules)}), file=shown)
"""

FOR_OTHERS = (
    "typer",
    "rich",
    "pygments",
    "structlog",
    "textual",
    "yaml",
    "httpx",
    "httpx2",
    "tiktoken",
    "asyncpg",
    "redis",
    "botocore",
    "opentelemetry.sdk",
    "genai_prices",
    "apikeyrouter.simulation",
    "apikeyrouter.testing",
    "apikeyrouter.wire.cohere",
    "apikeyrouter.wire.gemini",
    "apikeyrouter.wire.converse.codec",
    "apikeyrouter.wire.messages.codec",
    "apikeyrouter_proxy.cli.program",
    "apikeyrouter_proxy.sim_server",
    "apikeyrouter_proxy.supervisor",
    "apikeyrouter_proxy.tui",
    "cryptography.x509",
    "cryptography.hazmat.primitives.serialization",
)
"""Command lines, terminals, configuration files, other stores, other providers' formats, prices before the first
request, the simulated provider and tests."""


def modules_of(folder: Path, *arguments: str, **variables: str) -> tuple[int, set[str]]:
    """The exit status of the command, stopped when it serves, and what it had imported."""
    environ = clean_environ(folder) | variables
    done = subprocess.run(
        [sys.executable, "-c", _SERVE, *arguments],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    return told["status"], set(told["modules"])


def held(names: set[str]) -> list[str]:
    return [name for name in FOR_OTHERS if any(one == name or one.startswith(f"{name}.") for one in names)]


def test_a_proxy_with_real_keys_loads_nothing_that_only_others_need(tmp_path: Path) -> None:
    key = "sk-" + "a1b2c3d4" * 5
    status, names = modules_of(
        tmp_path, "serve", "--port", "0", OPENAI_API_KEY=key, APIKEYROUTER_STORE=f"sqlite:///{tmp_path}/x.sqlite"
    )
    assert status == 0
    assert "apikeyrouter_proxy.bootstrap" in names
    assert held(names) == []


def test_without_a_key_the_simulated_provider_is_loaded(tmp_path: Path) -> None:
    """The other side of the same coin: the list above sees what is there."""
    status, names = modules_of(tmp_path, "serve", "--port", "0", "--store", "memory:")
    assert status == 0
    assert held(names) == ["apikeyrouter.simulation", "apikeyrouter_proxy.sim_server"]


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version_is_told_without_loading_the_program(tmp_path: Path, option: str) -> None:
    status, names = modules_of(tmp_path, option)
    assert status == 0
    assert names & {"typer", "pydantic", "msgspec", "asyncio", "fastapi", "apikeyrouter_proxy.cli.program"} == set()
