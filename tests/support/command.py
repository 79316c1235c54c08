"""The command line as a user runs it: a process of its own, with an environment of its own."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Ran", "clean_environ", "other_program", "run_cli"]

_WITHIN_S = 60.0
_KEPT = ("PATH", "LANG", "LD_LIBRARY_PATH", "COVERAGE_PROCESS_START")


@dataclass(slots=True)
class Ran:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as one JSON document."""
        return json.loads(self.out)

    @property
    def all(self) -> str:
        """Everything that it printed."""
        return self.out + self.err


def clean_environ(folder: Path, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment in which nothing is configured but a home folder."""
    kept = {name: value for name, value in os.environ.items() if name in _KEPT}
    return {**kept, "HOME": str(folder), "XDG_DATA_HOME": str(folder / "data"), "PYTHONUNBUFFERED": "1", **(env or {})}


def run_cli(
    *arguments: str,
    folder: Path,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    status: int | None = 0,
    within_s: float = _WITHIN_S,
) -> Ran:
    """Runs `apikeyrouter` in `folder`. `status`: the exit status that is expected, None for any. `stdin`: None for
    nothing to read. `within_s`: it is killed after so long."""
    done = subprocess.run(
        [sys.executable, "-m", "apikeyrouter_proxy.cli", *arguments],
        cwd=folder,
        env=clean_environ(folder, env),
        input="" if stdin is None else stdin,
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )
    ran = Ran(done.returncode, done.stdout, done.stderr)
    assert status is None or ran.status == status, f"exit status {ran.status}\n{ran.all}"
    assert "Traceback" not in ran.all, ran.all
    return ran


class Other(http.server.BaseHTTPRequestHandler):
    """A program that is not ours."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"name": "something else"}')

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def other_program() -> Iterator[int]:
    """Something else that speaks HTTP; its port."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join(5)
