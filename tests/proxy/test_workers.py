"""`apikeyrouter serve --workers 2`: one truth in two processes, and a service that outlives either of them."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import clean_environ, run_cli
from tests.support.processes import ProxyProcess, free_port, proxy_process
from tests.support.sim import Sim

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 20}
TWO = {"PROXY_WORKERS": "2"}
WITHIN_S = 0.25


class Line:
    """A connection that stays open, and so stays with the worker that accepted it."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            self.worker: int = self.ask("GET", "/healthz")[1]["worker"]
        except BaseException:
            self.close()
            raise

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """(status, JSON or text)."""
        data = None if body is None else json.dumps(body)
        self._connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
        reply = self._connection.getresponse()
        text = reply.read()
        try:
            return reply.status, json.loads(text)
        except ValueError:
            return reply.status, text.decode()

    def chat(self, **headers: str) -> tuple[int, Any]:
        return self.ask(
            "POST", "/v1/chat/completions", CHAT, {name.replace("_", "-"): v for name, v in headers.items()}
        )

    def close(self) -> None:
        self._connection.close()


@contextmanager
def lines_to(proxy: ProxyProcess) -> Iterator[list[Line]]:
    """A connection to each of the two workers, in their order."""
    with ExitStack() as stack:
        found: dict[int, Line] = {}
        for _ in range(100):
            line = Line(proxy.port)
            if found.setdefault(line.worker, line) is line:
                stack.callback(line.close)
            else:
                line.close()
            if len(found) == 2:
                break
            time.sleep(0.05)
        assert len(found) == 2, f"only workers {set(found)} answer"
        yield [found[1], found[2]]


def workers_of(proxy: ProxyProcess) -> list[int]:
    """Process ids of those that run now."""
    return children(proxy.process.pid)


def children(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def soon(what: Callable[[], bool], within_s: float = WITHIN_S) -> None:
    """It becomes so in time."""
    until_s = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < until_s, "it did not happen in time"
        time.sleep(0.005)


@pytest.fixture(scope="module")
def two(sim_server: Sim, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    with proxy_process(sim_server, tmp_path_factory.mktemp("two"), env=TWO) as proxy, lines_to(proxy):
        yield proxy


@pytest.fixture
def lines(two: ProxyProcess) -> Iterator[list[Line]]:
    with lines_to(two) as opened:
        yield opened


def test_start_work_is_done_once(two: ProxyProcess, lines: list[Line], sim_server: Sim) -> None:
    for line in lines:
        status, keys = line.ask("GET", "/api/v1/keys")
        assert status == 200
        assert len(keys["data"]) == len(sim_server.keys)
    assert two.log.count("ApiKeyRouter listens on") == 1
    assert two.log.count("data key") == 1
    assert "2 processes serve together" in two.log


def test_connections_opened_at_once_are_shared_evenly(two: ProxyProcess) -> None:
    opened: list[Line] = []
    threads = [threading.Thread(target=lambda: opened.append(Line(two.port))) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shares = Counter(line.worker for line in opened)
    for line in opened:
        line.close()
    assert len(opened) == 40
    assert min(shares[1], shares[2]) >= 14, shares


def test_a_key_added_through_one_worker_is_served_by_both_and_known_at_once(lines: list[Line], sim: Sim) -> None:
    for number, (here, there) in enumerate([lines, lines[::-1]]):
        label = f"added-{number}"
        body = {"key_material": f"sk-added-{number}-" + "x" * 12, "provider_id": "openai", "label": label}
        status, made = here.ask("POST", "/api/v1/keys", body)
        assert status == 201
        assert there.ask("GET", f"/api/v1/keys/{made['id']}")[0] == 200  # management reads what was written
        soon(lambda label=label, there=there: there.chat(x_akr_keys=label)[0] == 200)  # type: ignore[misc]
        assert here.chat(x_akr_keys=label)[0] == 200
        assert there.ask("DELETE", f"/api/v1/keys/{made['id']}")[0] == 200
        soon(lambda label=label, here=here: here.chat(x_akr_keys=label)[0] != 200)  # type: ignore[misc]


def test_a_key_that_one_worker_finds_throttled_rests_in_both(lines: list[Line], sim: Sim) -> None:
    material = "sk-throttled-" + "x" * 12
    body = {"key_material": material, "provider_id": "openai", "label": "limited"}
    key_id = lines[0].ask("POST", "/api/v1/keys", body)[1]["id"]
    soon(lambda: lines[1].chat(x_akr_keys="limited")[0] == 200)
    sim.fault(material, "rate_limited", retry_after_s=60)
    before = sim.seen(material)
    assert lines[0].chat(x_akr_keys="limited")[0] == 429
    time.sleep(WITHIN_S)
    assert lines[1].chat(x_akr_keys="limited")[0] == 429
    assert sim.seen(material) == before + 1
    assert lines[1].ask("GET", f"/api/v1/keys/{key_id}")[1]["state"] == "throttled"
    lines[0].ask("DELETE", f"/api/v1/keys/{key_id}")


def test_providers_added_through_one_worker_are_there_in_both(lines: list[Line], sim: Sim) -> None:
    body = {"id": "other", "base_url": sim.base_url}
    assert lines[0].ask("POST", "/api/v1/providers", body)[0] == 201
    assert lines[1].ask("GET", "/api/v1/providers/other")[1]["source"] == "added"
    assert lines[1].ask("POST", "/api/v1/providers", body)[0] == 409
    assert lines[1].ask("DELETE", "/api/v1/providers/other")[0] == 204
    assert lines[0].ask("GET", "/api/v1/providers/other")[0] == 404


def test_one_scrape_counts_for_both_workers(two: ProxyProcess, lines: list[Line], sim: Sim) -> None:
    def served(line: Line) -> float:
        text = line.ask("GET", "/metrics")[1]
        found = [row for row in text.splitlines() if row.startswith("apikeyrouter_requests_total") and '"ok"' in row]
        assert "apikeyrouter_workers 2.0" in text
        return sum(float(row.rpartition(" ")[2]) for row in found)

    time.sleep(1.3)  # what the tests before have done is posted
    before = served(lines[0])
    for line in (*lines, lines[1]):
        assert line.chat()[0] == 200
    for line in lines:
        soon(lambda line=line: served(line) == before + 3, 3.0)  # type: ignore[misc]


def test_virtual_keys_are_one_truth(sim: Sim, tmp_path: Path) -> None:
    """Last of those with a proxy of their own for keys: creating one ends open mode."""
    admin = "admin-" + "k" * 20
    with proxy_process(sim, tmp_path, env={**TWO, "APIKEYROUTER_ADMIN_KEY": admin}) as proxy, lines_to(proxy) as lines:
        first, second = lines
        by_admin = {"Authorization": f"Bearer {admin}"}
        status, made = first.ask("POST", "/api/v1/virtual-keys", {"name": "ci"}, by_admin)
        assert status == 201
        bearer = f"Bearer {made['key']}"
        soon(lambda: second.chat(authorization=bearer)[0] == 200)
        soon(lambda: second.chat()[0] == 401)
        assert first.chat(authorization=bearer)[0] == 200
        assert first.ask("DELETE", f"/api/v1/virtual-keys/{made['id']}", headers=by_admin)[0] == 200
        assert first.chat(authorization=bearer)[0] == 401
        soon(lambda: second.chat(authorization=bearer)[0] == 401)


def test_a_killed_worker_is_replaced_while_the_other_one_serves(sim: Sim, tmp_path: Path) -> None:
    with proxy_process(sim, tmp_path, env=TWO) as proxy, lines_to(proxy) as lines, ExitStack() as later:
        first, second = lines
        for _ in range(3):
            assert first.chat()[0] == 200
        time.sleep(1.3)  # its counts are posted
        before = set(workers_of(proxy))
        statuses: Counter[Any] = Counter()
        over = threading.Event()

        def roll() -> None:
            while not over.is_set():
                try:
                    with closing(Line(proxy.port)) as line:
                        statuses[line.chat()[0]] += 1
                except (OSError, http.client.HTTPException) as error:
                    statuses[type(error).__name__] += 1

        rolling = [threading.Thread(target=roll) for _ in range(3)]
        for thread in rolling:
            thread.start()
        victim = next(pid for pid in before if worker_number(pid, proxy) == 1)
        os.kill(victim, signal.SIGKILL)
        assert second.chat()[0] == 200
        soon(lambda: len(set(workers_of(proxy)) - before) == 1, 20.0)
        again = later.enter_context(lines_to(proxy))
        over.set()
        for thread in rolling:
            thread.join()
        assert again[0].chat()[0] == 200
        broken = sum(count for status, count in statuses.items() if status != 200)
        assert broken <= len(rolling), statuses  # no more than those under way in the killed process
        assert statuses[200] > 20
        assert "ended by signal 9; another one starts" in proxy.log
        text = again[1].ask("GET", "/metrics")[1]
        rows = [row for row in text.splitlines() if row.startswith("apikeyrouter_attempts_total")]
        assert sum(float(row.rpartition(" ")[2]) for row in rows) >= 3  # what it had counted is not lost
        pids = workers_of(proxy)
        assert proxy.stop() == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def worker_number(pid: int, proxy: ProxyProcess) -> int:
    """Workers are started in their order, so the lower process id of the first two is worker 1."""
    return sorted(workers_of(proxy)).index(pid) + 1


def test_a_signal_to_stop_lets_requests_of_every_worker_end(sim: Sim, tmp_path: Path) -> None:
    with proxy_process(sim, tmp_path, env=TWO) as proxy, lines_to(proxy) as lines:
        sim.fault(None, "latency_s", delay_s=0.7)
        answers: list[int] = []
        asking = [threading.Thread(target=lambda line=line: answers.append(line.chat()[0])) for line in lines]
        seen = sim.seen()
        for thread in asking:
            thread.start()
        soon(lambda: sim.seen() >= seen + 2, 5.0)
        assert proxy.stop() == 0
        for thread in asking:
            thread.join(10)
        assert answers == [200, 200]


def test_workers_end_when_their_parent_is_killed(sim: Sim, tmp_path: Path) -> None:
    with proxy_process(sim, tmp_path, env=TWO) as proxy:
        pids = workers_of(proxy)
        assert len(pids) == 2
        proxy.kill()
        soon(lambda: not any(alive(pid) for pid in pids), 10.0)


def alive(pid: int) -> bool:
    with suppress(OSError):
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return False


def test_both_workers_use_one_simulated_provider_until_a_real_key_comes(sim: Sim, tmp_path: Path) -> None:
    env = {**TWO, "OPENAI_BASE_URL": sim.base_url}
    with proxy_process(None, tmp_path, env=env) as proxy, lines_to(proxy) as lines:
        addresses = set()
        for line in lines:
            status, answer = line.chat()
            assert status == 200
            assert "Simulated answer" in str(answer)
            addresses.add(line.ask("GET", "/api/v1/providers/simulated")[1]["base_url"])
        assert len(addresses) == 1
        assert len(workers_of(proxy)) == 2
        body = {"key_material": "sk-real-" + "x" * 12, "provider_id": "openai", "label": "real"}
        assert lines[0].ask("POST", "/api/v1/keys", body)[0] == 201
        for line in lines:
            assert line.ask("GET", "/api/v1/providers/simulated")[0] == 404
            assert [key["label"] for key in line.ask("GET", "/api/v1/keys")[1]["data"]] == ["real"]
            soon(lambda line=line: line.chat()[0] == 200)  # type: ignore[misc]
        assert sim.seen("sk-real-" + "x" * 12) >= 2


def test_two_proxies_on_one_file_share_what_they_learn(sim: Sim, tmp_path: Path) -> None:
    env = {"APIKEYROUTER_STORE": f"sqlite:///{tmp_path}/shared.sqlite"}
    with proxy_process(sim, tmp_path, env=env) as one, proxy_process(sim, tmp_path, env=env) as other:
        material = "sk-shared-" + "x" * 12
        body = {"key_material": material, "provider_id": "openai", "label": "shared"}
        assert one.post("/api/v1/keys", body)[0] == 201
        only = {"x-akr-keys": "shared"}
        soon(lambda: other.post("/v1/chat/completions", CHAT, only)[0] == 200)
        sim.fault(material, "revoked")
        seen = sim.seen(material)
        assert other.post("/v1/chat/completions", CHAT, only)[0] != 200
        time.sleep(WITHIN_S)
        assert one.post("/v1/chat/completions", CHAT, only)[0] != 200
        assert sim.seen(material) == seen + 1
        status, made = one.post("/api/v1/virtual-keys", {"name": "ci"})
        assert status == 201
        soon(lambda: other.post("/v1/chat/completions", CHAT)[0] == 401)
        bearer = {"Authorization": f"Bearer {made['key']}"}
        assert other.post("/v1/chat/completions", CHAT, bearer)[0] == 200


def test_a_store_in_memory_is_refused_in_words(tmp_path: Path) -> None:
    ran = run_cli("serve", "--workers", "2", "--store", "memory:", "--port", "0", folder=tmp_path, status=2)
    assert "2 workers cannot share the store memory:" in ran.err
    assert "Traceback" not in ran.all
    both = run_cli("serve", "--port", "0", folder=tmp_path, env={"PROXY_WORKERS": "many"}, status=2)
    assert "PROXY_WORKERS: expected a number of processes from 1 to 64" in both.err


def test_a_start_that_fails_is_one_message_whichever_process_fails(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database\n" * 100)
    ran = run_cli("serve", "-w", "2", "--store", "sqlite:///notes.txt", "--port", "0", folder=tmp_path, status=1)
    assert ran.err.count("not a SQLite database") == 1
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nif 'apikeyrouter_proxy.worker' in sys.orig_argv: os._exit(3)\n"
    )
    env = {"PYTHONPATH": str(tmp_path)}
    broken = run_cli("serve", "-w", "2", "--port", "0", folder=tmp_path, env=env, status=1)
    assert broken.err.strip() == "Error: Worker 1 ended with status 3 before it served."
    port = free_port()
    with other_listener(port):
        busy = run_cli("serve", "-w", "2", "--port", str(port), folder=tmp_path, status=1)
        assert f"Port {port}" in busy.err


def test_the_parent_gives_up_when_nobody_serves_and_nobody_can_be_started(sim: Sim, tmp_path: Path) -> None:
    flag = tmp_path / "broken"
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        f"if 'apikeyrouter_proxy.worker' in sys.orig_argv and os.path.exists({str(flag)!r}): os._exit(3)\n"
    )
    with proxy_process(sim, tmp_path, env={**TWO, "PYTHONPATH": str(tmp_path)}) as proxy:
        with lines_to(proxy) as lines:
            flag.touch()
            first, second = sorted(workers_of(proxy))
            os.kill(first, signal.SIGKILL)
            time.sleep(1.0)
            assert lines[1].chat()[0] == 200  # the other one serves, however often the first cannot be started
            assert proxy.process.poll() is None
        os.kill(second, signal.SIGKILL)
        assert proxy.process.wait(60) == 1
        soon(lambda: "whenever it starts" in proxy.log, 5.0)
        assert proxy.log.count("Error: Worker") == 1


def other_listener(port: int) -> Any:
    import socket

    listener = socket.socket()
    listener.bind(("127.0.0.1", port))
    listener.listen()
    return listener


def test_it_is_told_as_json_with_the_process_ids(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "apikeyrouter_proxy.cli", "serve", "--workers", "2", "--port", "0", "--json"],
        cwd=tmp_path,
        env=clean_environ(tmp_path, {"APIKEYROUTER_ENCRYPTION_KEY": "passphrase of the test", "LOG_LEVEL": "ERROR"}),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout as out:
        told = json.loads(out.readline())
        assert sorted(told["workers"]) == sorted(children(process.pid))
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
