"""A proxy of one command's own, on a free port, that ends when the command does, however that ends.

Main entries: `own_proxy` for the command, `main` in the process of the proxy. Law: the proxy holds the reading end of a
pipe whose writing end only the command has; when that is closed, by `kill -9` too, the proxy shuts down.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO

from apikeyrouter_proxy.cli.failures import CliError

__all__ = ["OwnProxy", "main", "own_proxy"]

_END_WITHIN_S = 35.0
_LINES_SHOWN = 20


@dataclass(frozen=True, slots=True)
class OwnProxy:
    """One that runs. `notes`: what it says about itself, for people."""

    origin: str
    notes: tuple[str, ...]


@contextmanager
def own_proxy(environ: Mapping[str, str], arguments: Sequence[str] = ()) -> Iterator[OwnProxy]:
    """A proxy while it runs. `arguments`: more of them for `serve`. Raises CliError when it does not start."""
    command = [sys.executable, "-m", __name__, "serve", "--port", "0", "--host", "127.0.0.1", "--json", *arguments]
    with TemporaryFile() as log:
        process = subprocess.Popen(  # noqa: S603 - our own program
            command,
            env={**environ, "PROXY_WORKERS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,  # a terminal's Ctrl-C is for the agent
        )
        try:
            yield _started(process, log)
        finally:
            _end(process)


def _started(process: subprocess.Popen[bytes], log: IO[bytes]) -> OwnProxy:
    """What the proxy prints about itself once it listens; lines of its log may come before. Raises CliError."""
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    lines: deque[bytes] = deque(maxlen=_LINES_SHOWN)
    for line in process.stdout:
        lines.append(line)
        with suppress(ValueError, KeyError, TypeError):
            told = json.loads(line)
            running = OwnProxy(told["url"], tuple(told["notes"]))
            threading.Thread(target=_drain, args=(process.stdout,), daemon=True).start()
            return running
    process.wait()
    log.seek(0)
    said = b"".join(deque(log, _LINES_SHOWN)) or b"".join(lines)
    shown = said.decode("utf-8", "replace").strip()
    raise CliError(f"No proxy is running, and none could be started here. It said:\n{shown}")


def _drain(output: IO[bytes]) -> None:
    """What it prints from now on is nobody's, and must neither fill the pipe nor the memory."""
    for _ in output:
        pass


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None  # noqa: S101 - a pipe was asked for
    with suppress(OSError):
        process.stdin.close()
    try:
        process.wait(_END_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _watch() -> None:
    """Waits until the other end of standard input is closed."""
    while os.read(0, 4096):  # not by way of sys.stdin, whose lock would be held when the interpreter ends
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> int:
    """The proxy's own process: the command line, and the watch."""
    from apikeyrouter_proxy.cli import main as command_line

    threading.Thread(target=_watch, daemon=True).start()
    return command_line()


if __name__ == "__main__":
    sys.exit(main())
