"""Adapters of the operator's own in the proxy: a class in a module beside the file of providers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter_proxy.provider_settings import read_providers_file
from tests.support.command import run_cli
from tests.support.processes import free_port, proxy_process
from tests.support.sim import Sim

MODULE = """
from apikeyrouter.domain.models.call import Operation, Wire
from apikeyrouter.infrastructure.adapters.base import WireAdapter


class Acme(WireAdapter):
    def __init__(self, base_url, prefix=""):
        native = {Operation.Chat: "chat/completions"}
        super().__init__(base_url, dialect="generic", wire=Wire.Chat, native=native)
        self.prefix = prefix

    def credentials(self, secret):
        return [(b"authorization", b"Bearer " + secret.reveal_bytes()), (b"x-acme", b"yes")]


class Half:
    dialect = base_url = "x"


def stumbling(**options):
    raise RuntimeError("no luck")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Holds a module `acme_kit`, and `broken_kit`, which cannot be imported."""
    (tmp_path / "acme_kit.py").write_text(MODULE)
    (tmp_path / "broken_kit.py").write_text("import a_module_that_nobody_has\n")
    path, modules = list(sys.path), set(sys.modules)
    yield tmp_path
    sys.path[:] = path
    for name in {"acme_kit", "broken_kit"} - modules:
        sys.modules.pop(name, None)


def providers(folder: Path, adapter: str, more: str = "") -> Path:
    file = folder / "providers.toml"
    file.write_text(f'[providers.acme]\nadapter = {adapter}\nenv = ["ACME_KEY"]\n{more}')
    return file


def test_a_class_of_ones_own_serves_in_a_running_proxy(sim: Sim, folder: Path) -> None:
    file = providers(folder, '"acme_kit:Acme"', f'options = {{ base_url = "{sim.base_url}" }}\n')
    (folder / "elsewhere").mkdir()
    env = {"APIKEYROUTER_PROVIDERS_FILE": str(file), "ACME_KEY": sim.keys[0]}
    with proxy_process(None, folder / "elsewhere", env=env) as proxy:
        asked = {"model": "acme/gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}]}
        assert proxy.post("/v1/chat/completions", asked)[0] == 200
        seen = sim.requests()[-1]
        assert {name.lower() for name in seen["headers"]} >= {"x-acme"}
        messages = {"model": "acme/gpt-4o-mini", "max_tokens": 9, "messages": asked["messages"]}
        status, answer = proxy.post("/v1/messages", messages)
        assert (status, answer["type"]) == (200, "message")


@pytest.mark.parametrize(
    ("adapter", "more", "told"),
    [
        ("7", "", 'expected "package.module:Class"'),
        ('"acme_kit"', "", 'expected "package.module:Class"'),
        ('"nowhere_kit:Acme"', "", "cannot import nowhere_kit [(]ModuleNotFoundError"),
        ('"broken_kit:Acme"', "", "No module named 'a_module_that_nobody_has'"),
        ('"acme_kit:Acne"', "", "has no class Acne"),
        ('"acme_kit:Acme"', "", "cannot be made [(]TypeError.*base_url"),
        ('"acme_kit:Acme"', 'options = { base_url = "nonsense" }', "base URL 'nonsense'"),
        ('"acme_kit:Acme"', "options = 3", "options is a table"),
        ('"acme_kit:Half"', "", "is no ProviderAdapter: it lacks get_capabilities, claims"),
        ('"acme_kit:stumbling"', "", "RuntimeError: no luck"),
        ('"acme_kit:Acme"', 'options = { base_url = "http://a.example" }\nquirks = []', "quirks: beside adapter"),
    ],
)
def test_what_is_wrong_with_a_class_is_told_with_its_provider(folder: Path, adapter: str, more: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=f"provider 'acme'.*{told}"):
        read_providers_file(str(providers(folder, adapter, more)), {})


def test_a_proxy_with_a_class_that_is_not_there_does_not_start(folder: Path) -> None:
    file = providers(folder, '"acme_kit:Acne"')
    environ = {"APIKEYROUTER_PROVIDERS_FILE": str(file), "PROXY_PORT": str(free_port())}
    ran = run_cli("serve", folder=folder, env=environ, status=None)
    assert ran.status != 0
    assert "has no class Acne" in ran.all
