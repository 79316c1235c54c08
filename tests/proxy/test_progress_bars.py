"""Bars of what takes long: on a terminal, and nowhere else."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import clean_environ
from tests.support.processes import ProxyProcess

SIMULATE = ["simulate", "--pool", "rpm=60", "--poisson", "1", "-n", "40", "--policy", "round-robin,oracle"]


def on_terminal(folder: Path, *words: str, port: int = 1) -> tuple[str, str]:
    """(standard output, standard error) of a command whose standard error is a terminal."""
    ours, theirs = pty.openpty()
    env = {**clean_environ(folder, {"PROXY_PORT": str(port)}), "TERM": "xterm", "COLUMNS": "100"}
    command = [sys.executable, "-m", "apikeyrouter_proxy.cli", *words]
    with subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=theirs, text=True) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                piece = os.read(ours, 65_536)
            except OSError:  # how Linux says that the other end of a terminal is closed
                break
            if not piece:
                break
            seen += piece
        assert process.stdout is not None
        out = process.stdout.read()
    os.close(ours)
    return out, seen.decode(errors="replace")


@pytest.mark.parametrize("words", [("keys", "check"), ("doctor",)])
def test_keys_that_are_tried_are_counted(words: tuple[str, ...], proxy_server: ProxyProcess, tmp_path: Path) -> None:
    out, seen = on_terminal(tmp_path, *words, port=proxy_server.port)
    assert "Trying keys" in seen
    assert "/3" in seen
    assert "Trying keys" not in out
    assert "openai-1" in out


def test_json_has_no_bar_even_on_a_terminal(proxy_server: ProxyProcess, tmp_path: Path) -> None:
    for words in (("keys", "check", "--json"), ("doctor", "--json")):
        out, seen = on_terminal(tmp_path, *words, port=proxy_server.port)
        assert "Trying keys" not in seen + out
        assert out.lstrip()[0] in "[{"


def test_a_pipe_gets_no_bar(proxy_server: ProxyProcess, tmp_path: Path) -> None:
    env = clean_environ(tmp_path, {"PROXY_PORT": str(proxy_server.port)})
    command = [sys.executable, "-m", "apikeyrouter_proxy.cli", "keys", "check"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=True)
    assert "Trying keys" not in done.stderr
    assert "openai-1" in done.stdout


def test_policies_that_are_simulated_are_counted(tmp_path: Path) -> None:
    out, seen = on_terminal(tmp_path, *SIMULATE)
    assert "Simulating" in seen
    assert "2/2" in seen
    assert "round-robin" in out
    assert "Simulating" not in out
