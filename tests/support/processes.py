"""The proxy as a process of its own, as a user would run it, on a free port and with a store in a temporary folder."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.support.sim import Sim

__all__ = ["ProxyProcess", "free_port", "proxy_process"]

READY_WITHIN_S = 30.0


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ProxyProcess:
    """A running proxy. `log` is everything it has printed."""

    def __init__(self, process: subprocess.Popen[str], port: int, folder: Path) -> None:
        self.process = process
        self.port = port
        self.folder = folder
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def origin(self) -> str:
        """Without a path."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """What an SDK takes as base URL."""
        return f"{self.origin}/v1"

    @property
    def log(self) -> str:
        """Standard output and error so far."""
        return "".join(self.lines)

    def _read(self) -> None:
        stream = self.process.stdout
        if stream is not None:
            self.lines.extend(stream)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
        """GET; (status, JSON or text)."""
        return self.ask("GET", path, headers=headers)[:2]

    def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
        """POST a JSON body; (status, JSON or text)."""
        return self.ask("POST", path, body, headers)[:2]

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        """Any request; (status, JSON or text, headers in lower case)."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.origin}{path}", data=data, method=method)
        if data is not None:
            request.add_header("Content-Type", "application/json")
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return reply.status, _decoded(reply.read()), {k.lower(): v for k, v in reply.headers.items()}
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _decoded(error.read()), {k.lower(): v for k, v in error.headers.items()}

    def kill(self) -> None:
        """SIGKILL: no shut-down code runs."""
        self.process.kill()
        self.process.wait(timeout=30)

    def stop(self) -> int:
        """SIGTERM, then waits; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=40)
        finally:
            self._reader.join(timeout=5)
            if self.process.stdout is not None:
                self.process.stdout.close()


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")


@contextmanager
def proxy_process(
    sim: Sim | None,
    folder: Path,
    *,
    port: int | None = None,
    keys: Sequence[str] | None = None,
    env: Mapping[str, str] | None = None,
    uvicorn_arguments: Sequence[str] | None = None,
    serve_arguments: Sequence[str] = (),
) -> Iterator[ProxyProcess]:
    """Starts a proxy and stops it. `keys`: given to it as OPENAI_API_KEY_1.._N, default the simulator's own; `sim`
    None: no provider is configured. `uvicorn_arguments`: run uvicorn with these instead of `apikeyrouter serve`;
    `serve_arguments`: those of `apikeyrouter serve`."""
    port = port if port is not None and _is_free(port) else free_port()
    environ = {
        k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "LD_LIBRARY_PATH", "COVERAGE_PROCESS_START")
    }
    environ |= {
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder / "data"),
        "PYTHONUNBUFFERED": "1",
        "PROXY_PORT": str(port),
    }
    if sim is not None:
        environ["OPENAI_BASE_URL"] = sim.base_url
        for i, key in enumerate(keys if keys is not None else sim.keys, start=1):
            environ[f"OPENAI_API_KEY_{i}"] = key
    environ |= env or {}
    command = [sys.executable, "-m", "apikeyrouter_proxy.cli", "serve", *serve_arguments]
    if uvicorn_arguments is not None:
        command = [sys.executable, "-m", "uvicorn", *uvicorn_arguments, "--port", str(port)]
    process = subprocess.Popen(
        command, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    running = ProxyProcess(process, port, folder)
    try:
        _wait_until_ready(running)
        yield running
    finally:
        running.stop()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _wait_until_ready(running: ProxyProcess) -> None:
    waiting = threading.Event()
    for _ in range(int(READY_WITHIN_S / 0.05)):
        if running.process.poll() is not None:
            waiting.wait(0.2)
            raise AssertionError(f"the proxy ended with {running.process.returncode}:\n{running.log}")
        with suppress(OSError):
            status, _body = running.get("/readyz")
            if status == 200:
                return
        waiting.wait(0.05)
    raise AssertionError(f"the proxy was not ready within {READY_WITHIN_S} s:\n{running.log}")
