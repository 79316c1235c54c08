"""Real coding agents edit files against the simulated provider, each started by `apikeyrouter run`: `make test-agents`.

Main entries: `test_an_agent_edits_files` and `CASES`. The prompt scripts what the simulated model calls
(`apikeyrouter.simulation.script`); the tools and what they do are the agent's own.
Laws: the agents are the ones that tests/agents/package.json pins, installed by scripts/agents; each has a home of its
own; a web proxy that lets nothing through stands for the rest of the world and records who wanted to go there.
The file's name keeps it out of `make test`: it needs 1.1 GB of agents.
"""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import Ran, run_cli
from tests.support.processes import free_port
from tests.support.sim import Sim, sim_process

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / ".cache/agents/node_modules/.bin"
QUIET = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
    "OPENCODE_DISABLE_SHARE": "1",
}
"""What keeps Claude Code and opencode from talking to anybody but their model."""
CODEX_QUIET = """
check_for_update_on_startup = false
[analytics]
enabled = false
[feedback]
enabled = false
[otel]
exporter = "none"
metrics_exporter = "none"
[features]
plugins = false
apps = false
"""
"""The same for Codex, in its own file."""
COMMANDS = {
    "claude": ("-p", "--permission-mode", "acceptEdits", "--allowedTools", "Read,Edit,Write,Bash"),
    "codex": ("exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "-"),
    "opencode": ("run",),
}
PROVIDERS = {
    "messages": {"ANTHROPIC_API_KEY": "{key}", "ANTHROPIC_BASE_URL": "{base}"},
    "chat": {"OPENAI_API_KEY": "{key}", "OPENAI_BASE_URL": "{base}"},
    "gemini": {"GEMINI_API_KEY": "{key}", "GOOGLE_GEMINI_BASE_URL": "{origin}/v1beta"},
    "responses": {"ACME_API_KEY": "{key}", "APIKEYROUTER_PROVIDERS_FILE": "{home}/providers.toml"},
}
"""Variables that configure the proxy, by the format that its only provider speaks."""
PATHS = {"messages": "/v1/messages", "chat": "/v1/chat/completions", "responses": "/v1/responses", "gemini": "/v1beta/"}
WITH_RESPONSES = """
[providers.acme]
base_url = "{base}"
env = ["ACME_API_KEY"]
operations = ["responses"]
"""
PATCH = """*** Begin Patch
*** Update File: notes.txt
@@
 first
-old
+new
*** Add File: result.txt
+Done.
*** End Patch"""
SHELL = "sed -i s/old/new/ notes.txt && echo Done. > result.txt"
CODE = f"text(await tools.exec_command({{cmd: '{SHELL}'}}));"


@dataclass(frozen=True, slots=True)
class Case:
    """An agent, the format of its provider, the model, and what the model calls."""

    agent: str
    provider: str
    model: str
    calls: tuple[tuple[str, Any], ...]

    def __str__(self) -> str:
        return f"{self.agent}-{self.provider}-{self.model}"


def _claude(provider: str, model: str) -> Case:
    calls = (
        ("Read", {"file_path": "{work}/notes.txt"}),
        ("Edit", {"file_path": "{work}/notes.txt", "old_string": "old", "new_string": "new"}),
        ("Write", {"file_path": "{work}/result.txt", "content": "Done.\n"}),
    )
    return Case("claude", provider, model, calls)


def _opencode(provider: str, model: str) -> Case:
    calls = (
        ("read", {"filePath": "{work}/notes.txt"}),
        ("edit", {"filePath": "{work}/notes.txt", "oldString": "old", "newString": "new"}),
        ("write", {"filePath": "{work}/result.txt", "content": "Done.\n"}),
    )
    return Case("opencode", provider, model, calls)


def _codex(provider: str, model: str, *calls: tuple[str, Any]) -> Case:
    return Case("codex", provider, model, calls or (("exec_command", {"cmd": "ls"}), ("exec_command", {"cmd": SHELL})))


CASES = [
    _claude("messages", "claude-opus-5"),
    _claude("chat", "gpt-4o"),
    _claude("responses", "gpt-5.5"),
    _claude("gemini", "gemini-3-pro-preview"),
    _codex("responses", "gpt-5"),
    _codex("responses", "gpt-5.5", ("apply_patch", PATCH)),  # a tool for free text
    _codex(
        "responses", "gpt-6-sol", ("exec", "text('Hello')"), ("exec", CODE)
    ),  # tools inside a namespace, in the input
    _codex("chat", "gpt-5.5", ("apply_patch-_-", {"input": PATCH})),
    _codex(
        "chat", "gpt-6-sol", ("functions-_-exec-_-", {"input": "text(1)"}), ("functions-_-exec-_-", {"input": CODE})
    ),
    _codex("messages", "claude-opus-5"),
    _codex("gemini", "gemini-3-pro-preview"),
    _opencode("chat", "gpt-4o"),
    _opencode("messages", "claude-opus-5"),
    Case("opencode", "responses", "gpt-5.5", (("apply_patch", {"patchText": PATCH}),)),  # what it offers such models
    _opencode("gemini", "gemini-3-pro-preview"),
]


class World(http.server.BaseHTTPRequestHandler):
    """The web proxy, which is also asked for npm packages, and has none."""

    wanted: list[str]

    def answer(self) -> None:
        if not self.path.startswith("/"):
            self.wanted.append(f"{self.command} {self.path}")
        self.send_error(403)

    do_CONNECT = do_GET = do_HEAD = do_POST = answer  # noqa: N815 - the names are http.server's

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def world() -> Iterator[tuple[str, list[str]]]:
    """Where the web proxy listens, and where the agents wanted to go."""
    wanted: list[str] = []
    handler = type("Recorder", (World,), {"wanted": wanted})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", wanted
        finally:
            server.shutdown()
            thread.join(5)


@pytest.fixture(scope="module")
def sim_server() -> Iterator[Sim]:
    with sim_process(None, "--no-limits") as running:
        yield running


@pytest.fixture
def sim(sim_server: Sim) -> Sim:
    sim_server.reset()
    sim_server.clear_faults()
    return sim_server


@pytest.fixture(scope="session")
def node_folder() -> str:
    """Where node is: Codex is started by it."""
    told = subprocess.run(
        [str(ROOT / "scripts/node"), "node", "-p", "process.execPath"], capture_output=True, text=True, check=True
    )
    return str(Path(told.stdout.strip()).parent)


class Desk:
    """A home with the agent's file and two files to work on, and the environment of a user with one provider."""

    def __init__(self, folder: Path, sim: Sim, outside: str, node_folder: str) -> None:
        self.home, self.work = folder / "home", folder / "work"
        (self.home / ".codex").mkdir(parents=True)
        self.work.mkdir()
        (self.home / ".codex/config.toml").write_text(CODEX_QUIET)
        (self.work / "notes.txt").write_text("first\nold\n")
        (self.home / "providers.toml").write_text(WITH_RESPONSES.format(base=sim.base_url))
        self._origin, self._base = sim.base_url.removesuffix("/v1"), sim.base_url
        web = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"), outside)
        self.env = {
            **QUIET,
            **web,
            "NO_PROXY": "127.0.0.1",
            "npm_config_registry": outside,
            "PATH": os.pathsep.join([str(PROGRAMS), node_folder, os.environ["PATH"]]),
            "HOME": str(self.home),
            "XDG_DATA_HOME": str(self.home / "data"),
            "PROXY_PORT": str(free_port()),
        }

    def provider(self, name: str, key: str) -> dict[str, str]:
        """Variables of the proxy."""
        places = {"key": key, "base": self._base, "origin": self._origin, "home": str(self.home)}
        return {variable: text.format(**places) for variable, text in PROVIDERS[name].items()}

    def prompt(self, case: Case) -> str:
        """What the user says."""
        lines = [f"simulate-a-call {name} {json.dumps(given)}" for name, given in case.calls]
        return "\n".join(["Put the notes right, then say so.", *lines]).replace("{work}", str(self.work))

    def run(self, case: Case, key: str, arguments: tuple[str, ...] = ()) -> Ran:
        """The whole task. `arguments`: of the agent, instead of the usual ones."""
        env = {**self.env, **self.provider(case.provider, key)}
        command = ("run", "--model", case.model, case.agent, "--", *(arguments or COMMANDS[case.agent]))
        return run_cli(*command, folder=self.work, env=env, stdin=self.prompt(case), status=None, within_s=180)

    def spent(self) -> dict[str, Any]:
        """What the proxy, which has ended, wrote down."""
        told = run_cli("spend", "--json", folder=self.work, env=self.env)
        found: dict[str, Any] = told.json["sum"]
        return found


@pytest.fixture
def desk(tmp_path: Path, sim: Sim, world: tuple[str, list[str]], node_folder: str) -> Desk:
    return Desk(tmp_path, sim, world[0], node_folder)


def check_task(desk: Desk, ran: Ran) -> None:
    assert ran.status == 0, ran.all
    assert "Simulated answer" in ran.out
    assert (desk.work / "notes.txt").read_text() == "first\nnew\n", ran.all
    assert (desk.work / "result.txt").read_text() == "Done.\n", ran.all
    assert sorted(path.name for path in desk.work.iterdir()) == ["notes.txt", "result.txt"]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_agent_edits_files(case: Case, desk: Desk, sim: Sim, world: tuple[str, list[str]]) -> None:
    key = sim.keys[0]
    ran = desk.run(case, key)
    check_task(desk, ran)
    seen = sim.requests()
    assert {request["status"] for request in seen} == {"200"}
    assert {request["key"] for request in seen} == {key}
    asked = [request for request in seen if request["method"] == "POST"]
    assert all(request["path"].startswith(PATHS[case.provider]) for request in asked)
    assert len(asked) > len(case.calls)
    spent = desk.spent()
    assert (spent["requests"], spent["failures"]) == (len(asked), 0)
    assert spent["input_tokens"] > 0
    assert spent["output_tokens"] > 0
    assert world[1] == []
    assert key not in ran.all
    assert CODEX_QUIET.strip() in (desk.home / ".codex/config.toml").read_text()
    assert "apikeyrouter" not in (desk.home / ".codex/config.toml").read_text()


@pytest.mark.parametrize("case", [CASES[0], CASES[4], CASES[11]], ids=str)
def test_an_agent_does_not_notice_that_a_key_is_at_its_limit(case: Case, desk: Desk, sim: Sim) -> None:
    limited, good = sim.keys[:2]
    sim.fault(limited, "rate_limited", retry_after_s=600)
    ran = desk.run(case, f"{limited},{good}")
    check_task(desk, ran)
    assert sim.key(limited)["by_status"].get("429", 0) == 1
    assert desk.spent()["failures"] == 0


@pytest.mark.parametrize(
    ("agent", "again", "tool", "argument"),
    [
        ("claude", (*COMMANDS["claude"], "--continue"), "Bash", "command"),
        ("codex", ("exec", "resume", "--last", *COMMANDS["codex"][1:]), "exec_command", "cmd"),
    ],
)
def test_a_conversation_goes_on_at_providers_of_other_formats(
    agent: str, again: tuple[str, ...], tool: str, argument: str, desk: Desk, sim: Sim
) -> None:
    stations = [("messages", "claude-opus-5"), ("gemini", "gemini-3-pro-preview"), ("responses", "gpt-5")]
    stations.append(stations[0])  # with thoughts of its own in what came before, and of others
    for at, (provider, model) in enumerate(stations):
        case = Case(agent, provider, model, ((tool, {argument: f"echo {at} >> stations.txt"}),))
        ran = desk.run(case, sim.keys[0], again if at else ())
        assert ran.status == 0, ran.all
        assert "Simulated answer" in ran.out
    assert (desk.work / "stations.txt").read_text() == "0\n1\n2\n3\n"
    assert {request["status"] for request in sim.requests()} == {"200"}
    assert desk.spent()["failures"] == 0


def test_thoughts_that_one_account_can_read_stay_with_it(desk: Desk, sim: Sim) -> None:
    case = CASES[4]
    ran = desk.run(case, ",".join(sim.keys))
    check_task(desk, ran)
    asked = [request for request in sim.requests() if request["method"] == "POST"]
    assert any(item.get("encrypted_content") for request in asked for item in request["json"]["input"])
    assert {request["status"] for request in asked} == {"200"}
    assert len({request["key"] for request in asked}) == 1


@pytest.mark.parametrize("case", [CASES[0], CASES[4], CASES[11]], ids=str)
def test_an_agent_shows_what_the_proxy_says_when_nobody_has_the_model(case: Case, desk: Desk, sim: Sim) -> None:
    ran = desk.run(Case(case.agent, case.provider, "no-such-model", case.calls), sim.keys[0])
    assert ran.status != 0
    assert "no-such-model" in ran.all
    assert (desk.work / "notes.txt").read_text() == "first\nold\n"
