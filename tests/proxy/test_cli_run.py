"""`apikeyrouter run`: programs that stand for coding agents, started by the real command."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from apikeyrouter.domain.keys.secret import Secret
from tests.support.command import Ran, clean_environ, other_program, run_cli
from tests.support.processes import ProxyProcess, free_port
from tests.support.server import run_proxy
from tests.support.sim import Sim

WITHIN_S = 30.0
TELLS = """#!{python}
import json, os, sys
print(json.dumps({{"arguments": sys.argv[1:], "environ": dict(os.environ), "said": sys.stdin.read()}}))
"""
ASKS = """#!{python}
import json, os, urllib.request
body = json.dumps({{"model": "gpt-4o", "messages": [{{"role": "user", "content": "Hello"}}]}}).encode()
headers = {{"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "Content-Type": "application/json"}}
address = os.environ["OPENAI_BASE_URL"]
with urllib.request.urlopen(urllib.request.Request(address + "/chat/completions", body, headers)) as reply:
    print(json.dumps({{"address": address, "reply": json.load(reply)}}))
"""
WAITS = """#!{python}
import os, signal, sys
def end(number, frame):
    print("got", signal.Signals(number).name, flush=True)
    sys.exit(7)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGINT, end)
print(os.environ["OPENAI_BASE_URL"], flush=True)
while True:
    signal.pause()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A home with programs in `bin`."""
    (tmp_path / "bin").mkdir()
    for name, text in [("claude", TELLS), ("codex", TELLS), ("opencode", TELLS), ("asks", ASKS), ("waits", WAITS)]:
        program = tmp_path / "bin" / name
        program.write_text(text.format(python=sys.executable))
        program.chmod(0o755)
    return tmp_path


def environ(folder: Path, **more: str) -> dict[str, str]:
    """Nothing listens where the user's own proxy would be."""
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "PROXY_PORT": str(free_port()), "APIKEYROUTER_STORE": "memory:", **more}


def run(folder: Path, *arguments: str, status: int = 0, stdin: str | None = None, **env: str) -> Ran:
    return run_cli("run", *arguments, folder=folder, env=environ(folder, **env), status=status, stdin=stdin)


def listens(origin: str) -> bool:
    where = urlsplit(origin)
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((str(where.hostname), where.port or 0)) == 0


def ended(origin: str) -> bool:
    """Whether the proxy is gone after some seconds at most."""
    deadline_s = time.monotonic() + WITHIN_S
    while listens(origin) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    return not listens(origin)


@pytest.fixture
def waiting(folder: Path, sim: Sim) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command while its program waits for a signal, and the origin of the proxy that it started."""
    more = {"OPENAI_BASE_URL": sim.base_url, "OPENAI_API_KEY": sim.keys[0]}
    process = subprocess.Popen(
        [sys.executable, "-m", "apikeyrouter_proxy.cli", "run", "waits"],
        cwd=folder,
        env=clean_environ(folder, environ(folder, **more)),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the program too, which nobody ends where the command was killed
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("agent", ["claude", "codex", "opencode"])
def test_an_agent_works_through_the_proxy_that_runs(agent: str, folder: Path, proxy_server: ProxyProcess) -> None:
    ran = run(folder, "-m", "gpt-4o", agent, "--", "-p", "--flag", stdin="words", APIKEYROUTER_URL=proxy_server.origin)
    told: dict[str, Any] = json.loads(ran.out)
    assert told["arguments"][-2:] == ["-p", "--flag"]
    assert told["said"] == "words"
    everything = " ".join([*told["arguments"], *told["environ"].values()])
    assert proxy_server.origin in everything
    assert "gpt-4o" in everything
    assert f"{agent} works through {proxy_server.origin}." in ran.err
    assert "one was started" not in ran.err


def test_limits_of_the_model_reach_the_agent(folder: Path, proxy_server: ProxyProcess) -> None:
    ran = run(folder, "-m", "gpt-4o", "claude", APIKEYROUTER_URL=proxy_server.origin)
    assert json.loads(ran.out)["environ"]["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == "16384"
    ran = run(folder, "opencode", APIKEYROUTER_URL=proxy_server.origin)
    told = json.loads(json.loads(ran.out)["environ"]["OPENCODE_CONFIG_CONTENT"])
    limits = {"context": 128_000, "output": 16_384}
    assert told["provider"]["apikeyrouter"]["models"]["gpt-4o-mini"] == {"limit": limits}


def test_a_proxy_is_started_where_none_runs_and_ends_with_the_program(folder: Path, sim: Sim) -> None:
    ran = run(folder, "asks", OPENAI_BASE_URL=sim.base_url, OPENAI_API_KEY=sim.keys[0])
    told = json.loads(ran.out)
    assert told["reply"]["choices"][0]["message"]["content"].startswith("Simulated answer")
    assert told["address"] != sim.base_url
    assert sim.requests(sim.keys[0])[-1]["path"] == "/v1/chat/completions"
    assert f"one was started at {told['address'].removesuffix('/v1')} for the time of this run" in ran.err
    assert "* Registered 1 key: openai-1 from OPENAI_API_KEY." in ran.err
    assert "Set: APIKEYROUTER_URL, OPENAI_BASE_URL" in ran.err
    assert sim.keys[0] not in ran.all
    assert not listens(told["address"])
    assert sorted(path.name for path in folder.iterdir()) == ["bin"]


def test_without_any_key_it_is_told_that_the_text_is_made_up(folder: Path) -> None:
    ran = run(folder, "asks")
    assert "No provider key is configured, so a simulated provider answers with made-up text" in ran.err
    assert json.loads(ran.out)["reply"]["choices"][0]["message"]["content"].startswith("Simulated answer")


def test_keys_of_providers_do_not_reach_the_program(folder: Path, proxy_server: ProxyProcess) -> None:
    names = ("GROQ_API_KEY", "OPENAI_API_KEY_1", "APIKEYROUTER_ADMIN_KEY")
    more = {"APIKEYROUTER_URL": proxy_server.origin, **dict.fromkeys(names, "sim-very-secret")}
    ran = run_cli("run", "codex", folder=folder, env=environ(folder, **more))
    assert "sim-very-secret" not in ran.all
    assert f"Taken out: {', '.join(sorted([*names, 'APIKEYROUTER_STORE']))}." in ran.err


def test_the_programs_exit_status_is_ours(folder: Path, proxy_server: ProxyProcess) -> None:
    for said, status in [("sys.exit(3)", 3), ("os.kill(os.getpid(), 9)", 128 + 9)]:
        program = f"import os, sys; {said}"
        run(folder, "--", sys.executable, "-c", program, status=status, APIKEYROUTER_URL=proxy_server.origin)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_reach_the_program(number: int, waiting: tuple[subprocess.Popen[str], str]) -> None:
    process, origin = waiting
    assert listens(origin)
    process.send_signal(number)
    assert process.stdout is not None
    assert process.stdout.readline() == f"got {signal.Signals(number).name}\n"
    assert process.wait(WITHIN_S) == 7
    assert not listens(origin)


def test_the_proxy_ends_though_the_command_is_killed(waiting: tuple[subprocess.Popen[str], str]) -> None:
    process, origin = waiting
    process.kill()
    assert ended(origin)


def test_a_program_that_is_not_there_is_told_with_how_to_install_it(folder: Path) -> None:
    (folder / "bin" / "claude").unlink()
    path = {"PATH": str(folder / "bin")}
    missing = run_cli("run", "claude", folder=folder, env=environ(folder) | path, status=127)
    assert "claude is not installed" in missing.err
    assert "npm install -g @anthropic-ai/claude-code" in missing.err
    other = run_cli("run", "no-such-program", folder=folder, env=environ(folder) | path, status=127)
    assert "There is no program 'no-such-program' on the PATH" in other.err
    assert "Known agents: claude, codex, opencode" in other.err


def test_a_program_that_cannot_be_started_is_told(folder: Path, proxy_server: ProxyProcess) -> None:
    (folder / "bin" / "codex").write_text("#!/no/such/interpreter\n")
    ran = run(folder, "codex", status=126, APIKEYROUTER_URL=proxy_server.origin)
    assert "codex cannot be started (No such file or directory)" in ran.err


def test_an_address_that_was_given_is_not_replaced_by_a_proxy_of_our_own(folder: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    ran = run(folder, "--url", nobody, "claude", status=1)
    assert nobody in ran.err
    assert "Check --url or APIKEYROUTER_URL, or leave it out" in ran.err
    with other_program() as port:
        ran = run(folder, "claude", status=1, APIKEYROUTER_URL=f"http://127.0.0.1:{port}")
    assert "is answered by another program, not by ApiKeyRouter" in ran.err


def test_another_program_at_our_own_port_does_not_keep_the_agent_from_working(folder: Path, sim: Sim) -> None:
    with other_program() as port:
        more = {"OPENAI_BASE_URL": sim.base_url, "OPENAI_API_KEY": sim.keys[0], "PROXY_PORT": str(port)}
        ran = run_cli("run", "asks", folder=folder, env=environ(folder, **more))
    assert "one was started" in ran.err


def test_a_proxy_that_cannot_be_started_says_why(folder: Path) -> None:
    ran = run(folder, "claude", status=1, OPENAI_BASE_URL="not-an-address", OPENAI_API_KEY="sim-key-1")
    assert "No proxy is running, and none could be started here. It said:" in ran.err
    assert "OPENAI_BASE_URL" in ran.err
    assert "Fatal" not in ran.err


def test_a_proxy_that_wants_a_key_gets_the_users_virtual_key(folder: Path, sim: Sim) -> None:
    admin = "admin-" + "x" * 32
    with run_proxy(sim.base_url, [sim.keys[0]], admin_key=Secret(admin), require_auth=True) as (served, _):
        refused = run(folder, "claude", status=1, APIKEYROUTER_URL=served.origin)
        assert "virtual-keys create" in refused.err
        made = served.post("/api/v1/virtual-keys", {"name": "agent"}, {"Authorization": f"Bearer {admin}"})
        assert made.status == 201, made.json
        key = made.json["key"]
        ran = run(folder, "claude", APIKEYROUTER_URL=served.origin, APIKEYROUTER_KEY=key)
    assert json.loads(ran.out)["environ"]["ANTHROPIC_AUTH_TOKEN"] == key
    assert key not in ran.err


def test_a_model_for_a_program_that_is_no_agent_is_refused(folder: Path) -> None:
    ran = run(folder, "-m", "gpt-4o", "asks", status=2)
    assert "--model is for claude, codex, opencode" in ran.err
