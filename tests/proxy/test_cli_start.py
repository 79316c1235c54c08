"""`--help`, `version`, `serve` and `sim`: what starts, what cannot start, and what is said about it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from tests.support.command import clean_environ, other_program, run_cli
from tests.support.processes import ProxyProcess, free_port
from tests.support.sim import Sim

VERBS = ("serve", "sim", "keys", "virtual-keys", "route", "chat", "doctor", "decisions", "version")


@contextmanager
def started(folder: Path, *arguments: str) -> Iterator[tuple[IO[str], subprocess.Popen[str]]]:
    """A command that goes on until it is stopped; its output and itself."""
    process = subprocess.Popen(
        [sys.executable, "-m", "apikeyrouter_proxy.cli", *arguments],
        cwd=folder,
        env=clean_environ(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process.stdout, process
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def test_help_lists_every_verb_and_loads_nothing_heavy(tmp_path: Path) -> None:
    program = (
        "import sys; from apikeyrouter_proxy.cli import main; status = main(['--help']); "
        "heavy = {'fastapi', 'pydantic', 'uvicorn', 'msgspec', 'cryptography', 'asyncio'} & set(sys.modules); "
        "sys.exit(f'loaded {heavy}' if heavy else status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    for verb in VERBS:
        assert f"\n  {verb} " in done.stdout


def test_each_verb_has_json(tmp_path: Path) -> None:
    verbs = [("serve",), ("sim",), ("route",), ("chat",), ("doctor",), ("version",)]
    verbs += [("keys", v) for v in ("add", "list", "show", "disable", "enable", "rotate", "revoke", "check")]
    verbs += [("virtual-keys", v) for v in ("create", "list", "revoke")] + [("decisions", v) for v in ("show", "list")]
    program = (
        "import json, sys\nfrom apikeyrouter_proxy.cli import main\n"
        "for verb in json.loads(sys.argv[1]):\n    print('##', *verb); main([*verb, '--help'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(verbs)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    sections = done.stdout.split("## ")[1:]
    assert len(sections) == len(verbs)
    assert [s.splitlines()[0] for s in sections if "--json" not in s] == []


def test_version_is_told(tmp_path: Path) -> None:
    assert set(run_cli("version", "--json", folder=tmp_path).json) == {"version", "python"}


def test_an_unknown_verb_is_a_usage_error_in_one_line(tmp_path: Path) -> None:
    ran = run_cli("frobnicate", folder=tmp_path, status=2)
    assert ran.err == "Error: No such command 'frobnicate'. `apikeyrouter --help` tells more.\n"


def test_serve_takes_a_free_port_says_where_and_ends_with_status_0(tmp_path: Path) -> None:
    with started(tmp_path, "serve", "--port", "0", "--store", "memory:", "--json") as (out, process):
        told = json.loads(out.readline())
        with urllib.request.urlopen(f"{told['url']}/readyz", timeout=10) as reply:
            assert reply.status == 200
            assert "server" not in reply.headers
        ran = run_cli("keys", "list", "--json", "--url", told["url"], folder=tmp_path)
        assert {key["provider_id"] for key in ran.json} == {"simulated"}
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_a_signal_to_stop_lets_running_requests_end(fresh: ProxyProcess, sim: Sim) -> None:
    sim.fault(None, "latency_s", delay_s=0.7)
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}]}
    answers: list[int] = []
    asking = threading.Thread(target=lambda: answers.append(fresh.post("/v1/chat/completions", body)[0]), daemon=True)
    asking.start()
    while fresh.get("/api/v1/state")[1]["in_flight"] == 0:
        pass
    assert fresh.stop() == 0
    asking.join(10)
    assert answers == [200]


def test_the_banner_comes_when_requests_are_answered(proxy_server: ProxyProcess) -> None:
    assert f"ApiKeyRouter listens on {proxy_server.origin}" in proxy_server.log
    assert "curl " in proxy_server.log


def test_a_port_where_apikeyrouter_runs_is_told_apart(proxy_server: ProxyProcess, tmp_path: Path) -> None:
    ran = run_cli("serve", folder=tmp_path, env={"PROXY_PORT": str(proxy_server.port)}, status=1)
    assert f"Port {proxy_server.port} is taken: ApiKeyRouter already runs at {proxy_server.origin}" in ran.err
    assert f"--port {proxy_server.port + 1}" in ran.err
    assert "PROXY_PORT=" in ran.err
    assert list((tmp_path / "data").rglob("*")) == []  # a start that fails leaves no store behind


def test_a_port_of_another_program_is_said_to_be_one(tmp_path: Path) -> None:
    with other_program() as port:
        ran = run_cli("serve", "--port", str(port), folder=tmp_path, status=1)
        assert f"Port {port} on 127.0.0.1 is taken: another program listens there." in ran.err
        named = run_cli("keys", "list", "--url", f"http://127.0.0.1:{port}", folder=tmp_path, status=1)
        assert "answered by another program, not by ApiKeyRouter" in named.err


def test_a_port_that_listens_and_says_nothing_of_http_is_another_program_too(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]

        def slam() -> None:
            listener.accept()[0].close()

        thread = threading.Thread(target=slam, daemon=True)
        thread.start()
        ran = run_cli("serve", "--port", str(port), folder=tmp_path, status=1)
        thread.join(5)
    assert "another program listens there" in ran.err


def test_a_start_that_fails_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database\n" * 100)
    env = {"PROXY_PORT": str(free_port())}
    broken = run_cli("serve", "--store", "sqlite:///notes.txt", folder=tmp_path, env=env, status=1)
    assert "not a SQLite database" in broken.err
    assert "startup failed" not in broken.all
    public = run_cli("serve", "--host", "0.0.0.0", "--store", "memory:", folder=tmp_path, env=env, status=2)
    assert "APIKEYROUTER_ADMIN_KEY" in public.err
    faulty = {"PROXY_PORT": "eighty", "SHUTDOWN_TIMEOUT_SECONDS": "soon"}
    both = run_cli("serve", folder=tmp_path, env=faulty, status=2).err
    assert "PROXY_PORT" in both
    assert "SHUTDOWN_TIMEOUT_SECONDS" in both


def test_an_env_file_is_read_and_must_exist(tmp_path: Path) -> None:
    (tmp_path / "prod.env").write_text("PROXY_PORT=eighty\n")
    assert "PROXY_PORT" in run_cli("serve", "--env-file", "prod.env", folder=tmp_path, status=2).err
    assert "There is no file" in run_cli("serve", "--env-file", "none.env", folder=tmp_path, status=2).err


def test_sim_starts_says_where_and_can_be_made_to_fail(tmp_path: Path) -> None:
    with started(tmp_path, "sim", "--port", "0", "--seed", "7", "--rpm", "100", "--json") as (out, _):
        told = json.loads(out.readline())
        sim = Sim(told["base_url"], told["control_url"], told["keys"])
        assert sim.state()["seed"] == 7
        url = told["base_url"].removesuffix("/v1")
        first = told["keys"][0]
        run_cli("sim", "fault", first, "revoked", "--url", url, folder=tmp_path)
        assert len(sim.faults()) == 1
        assert "revoked" in run_cli("sim", "state", "--url", url, folder=tmp_path).out
        assert run_cli("sim", "clear", "--url", url, "--json", folder=tmp_path).json == {"ended": 1}
        unknown = run_cli("sim", "fault", first, "sleepy", "--url", url, folder=tmp_path, status=1)
        assert "refused" in unknown.err
        port = url.rpartition(":")[2]
        assert "Choose another one" in run_cli("sim", "--port", port, folder=tmp_path, status=1).err


def test_sim_enforces_limits_the_way_it_is_told(tmp_path: Path) -> None:
    with started(tmp_path, "sim", "--port", "0", "--rpm", "60", "--burst-s", "2", "--json") as (out, _):
        told = json.loads(out.readline())
        assert [_chat_status(told["base_url"], told["keys"][0]) for _ in range(3)] == [200, 200, 429]
    said = run_cli("sim", "--refill", "rolling", "--burst-s", "2", folder=tmp_path, status=2).err
    assert "burst_s needs the refill 'continuous'" in said
    assert "not usable" in run_cli("sim", "--refill", "sometimes", folder=tmp_path, status=2).err


def _chat_status(base_url: str, key: str) -> int:
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}]}
    request = urllib.request.Request(f"{base_url}/chat/completions", json.dumps(body).encode())
    request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            status: int = reply.status
            return status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_sim_prints_blocks_to_paste(tmp_path: Path) -> None:
    with started(tmp_path, "sim", "--port", "0") as (out, _):
        lines = [out.readline() for _ in range(8)]
    assert lines[0].startswith("Simulated provider at http://127.0.0.1:")
    assert lines[1].startswith("Keys: sim-key-1")
    assert any("apikeyrouter serve" in line for line in lines)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("serve", "--port", "abc"), "--port or -p takes a whole number from 0 to 65535. Default: PROXY_PORT"),
        (("serve", "--port", "99999"), "--port or -p takes a whole number from 0 to 65535."),
        (("serve", "--workers", "x"), "--workers or -w takes a whole number from 1 to 64."),
        (("simulate", "plan", "--target", "most"), "--target takes a number from 0.01 to 1."),
        (("virtual-keys", "create", "a", "--rpm", "ten"), "--rpm takes a whole number, 0 or more."),
    ],
)
def test_a_number_that_is_none_is_told_with_what_the_option_takes(
    words: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    ran = run_cli(*words, folder=tmp_path, status=2)
    assert told in ran.err
    assert words[-1] not in ran.err.replace(told, "")
