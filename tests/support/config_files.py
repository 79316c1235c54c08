"""A proxy that is configured by a file: written, changed and read again while the proxy runs."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.processes import ProxyProcess, proxy_process
from tests.support.sim import Sim

__all__ = ["Configured", "configured", "until"]

ADMIN = "admin-of-the-tests-0001"


class Configured:
    """A running proxy and its file."""

    def __init__(self, proxy: ProxyProcess, file: Path) -> None:
        self.proxy = proxy
        self.file = file

    def write(self, text: str) -> None:
        """Replaces the file's content."""
        self.file.write_text(text, encoding="utf-8")

    def reload(self) -> tuple[int, Any]:
        """POST /api/v1/config/reload."""
        return self.ask("POST", "/api/v1/config/reload", {})

    def hang_up(self) -> None:
        """SIGHUP to the process that was started."""
        self.proxy.process.send_signal(signal.SIGHUP)

    def workers(self) -> list[int]:
        """Process ids of the children of the process that was started."""
        parent = self.proxy.process.pid
        return [int(one) for one in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """A request of the management API, with the admin key."""
        return self.proxy.ask(method, path, body, {"Authorization": f"Bearer {ADMIN}"})[:2]

    def rows(self, kind: str) -> dict[str, dict[str, Any]]:
        """Keys, budgets, virtual keys or deployments, by label or name."""
        status, answer = self.ask("GET", f"/api/v1/{kind}")
        assert status == 200, answer
        return {row.get("label") or row.get("name") or row["id"]: row for row in answer["data"]}

    def chat(self, model: str = "gpt-4o-mini", key: str = ADMIN) -> tuple[int, Any]:
        """One chat completion."""
        body = {"model": model, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 16}
        return self.proxy.post("/v1/chat/completions", body, {"Authorization": f"Bearer {key}"})


@contextmanager
def configured(sim: Sim, folder: Path, text: str, env: Mapping[str, str] | None = None) -> Iterator[Configured]:
    """A proxy that was started with this file in its folder. The file may refer to SIM_URL, SIM_KEY_1, _2 ... and to
    ADMIN_KEY."""
    file = folder / "apikeyrouter.yaml"
    file.write_text(text, encoding="utf-8")
    keys = {f"SIM_KEY_{number}": key for number, key in enumerate(sim.keys, start=1)}
    environ = {"SIM_URL": sim.base_url, "ADMIN_KEY": ADMIN, **keys, **(env or {})}
    with proxy_process(None, folder, env=environ) as proxy:
        yield Configured(proxy, file)


def until(true: Callable[[], bool], what: str) -> None:
    """Waits for something that another process does, 10 s at most."""
    waiting = threading.Event()
    for _ in range(200):
        if true():
            return
        waiting.wait(0.05)
    raise AssertionError(f"never: {what}")
