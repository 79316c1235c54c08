"""A hard budget while the store's server is killed and frozen: callers see 200, 402 or 503, and the money adds up."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.support.processes import ProxyProcess, proxy_process
from tests.support.servers import PostgresServer
from tests.support.sim import Sim

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 20}
ADMIN_KEY = "admin-" + "k" * 20
ADMIN = {"Authorization": f"Bearer {ADMIN_KEY}"}
CLIENTS = 8
SERVED = 700


class Client(threading.Thread):
    """Sends one request after the other until told to stop. `answers`: (status, what the error was, retry-after)."""

    def __init__(self, proxy: ProxyProcess, token: str, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._proxy = proxy
        self._headers = {"Authorization": f"Bearer {token}"}
        self._stop_wanted = stop
        self.answers: list[tuple[int, str, str]] = []

    def run(self) -> None:
        while not self._stop_wanted.is_set():
            status, body, headers = self._proxy.ask("POST", "/v1/chat/completions", CHAT, self._headers)
            code = body["error"]["code"] if status != 200 else ""
            self.answers.append((status, code, headers.get("retry-after", "")))
            self._stop_wanted.wait(0.05)


def settled(proxy: ProxyProcess, budget_id: str) -> dict[str, Any]:
    """The budget as the store has it, once nothing is held any more."""
    until_s = time.monotonic() + 20.0
    while True:
        status, budget = proxy.get(f"/api/v1/budgets/{budget_id}", ADMIN)
        if status == 200 and Decimal(budget["held"]) == 0:
            return dict(budget)
        assert time.monotonic() < until_s, budget
        time.sleep(0.1)


def test_callers_see_no_other_status_and_every_nano_dollar_is_counted(sim: Sim, tmp_path: Path) -> None:
    chance = random.Random(4)
    with PostgresServer() as postgres:
        env = {
            "APIKEYROUTER_STORE": postgres.fresh_url(),
            "APIKEYROUTER_ENCRYPTION_KEY": "passphrase of the test",
            "APIKEYROUTER_ADMIN_KEY": ADMIN_KEY,
            "APIKEYROUTER_CLAMP_OUTPUT": "false",  # so that every reply costs the same
        }
        with proxy_process(sim, tmp_path, env=env) as proxy:
            token = proxy.post("/api/v1/virtual-keys", {"name": "ci"}, ADMIN)[1]["key"]
            headers = {"Authorization": f"Bearer {token}"}
            generous = proxy.post("/api/v1/budgets", {"limit": "1", "name": "to learn the cost"}, ADMIN)[1]
            assert proxy.post("/v1/chat/completions", CHAT, headers)[0] == 200
            cost = Decimal(settled(proxy, generous["id"])["current_spend"])
            assert cost > 0
            budget = proxy.post("/api/v1/budgets", {"limit": str(cost * SERVED), "name": "hard"}, ADMIN)[1]
            stop = threading.Event()
            clients = [Client(proxy, token, stop) for _ in range(CLIENTS)]
            for client in clients:
                client.start()
            for kill in (True, True, False):
                time.sleep(chance.uniform(0.3, 1.0))
                if kill:
                    postgres.kill()
                    time.sleep(chance.uniform(0.1, 1.5))
                    postgres.start()
                else:
                    postgres.freeze()
                    time.sleep(1.0)
                    postgres.thaw()
            back_s = time.monotonic()
            sent = len(clients[0].answers)
            while not any(status == 200 for status, _, _ in clients[0].answers[sent:]):
                assert time.monotonic() - back_s < 5.0, clients[0].answers[sent:]
                time.sleep(0.02)
            until_s = time.monotonic() + 40.0
            while not all(client.answers and client.answers[-1][0] == 402 for client in clients):
                assert time.monotonic() < until_s, [client.answers[-1] for client in clients]
                time.sleep(0.05)
            stop.set()
            for client in clients:
                client.join(timeout=30)
            answers = [answer for client in clients for answer in client.answers]
            counted = Counter((status, code) for status, code, _ in answers)
            assert set(counted) <= {(200, ""), (402, "budget_exceeded"), (503, "store_unavailable")}, counted
            assert all(int(retry_after) >= 1 for status, _, retry_after in answers if status == 503)
            served = counted[200, ""]
            now = settled(proxy, budget["id"])
            assert Decimal(now["current_spend"]) == cost * served
            assert SERVED * 0.98 <= served <= SERVED
            assert Decimal(settled(proxy, generous["id"])["current_spend"]) == cost * (served + 1)
