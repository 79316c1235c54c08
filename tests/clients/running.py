"""Client libraries as processes of their own: each program of `programs/` runs in the environment of its library.

Main entry: `Program`, which asks a program for one step at a time and gives back the facts that the library's user
would have seen, or what was raised. Laws: an environment that is missing or was made from another list is a failure,
never a skip; a step has a deadline; a program is ended by its own id.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["HERE", "ClientRaisedError", "Place", "Program", "python_of", "steps_of"]

HERE = Path(__file__).parent
_ENVIRONMENTS = HERE.parents[1] / ".cache/clients"
_STEP_S = 60.0


@dataclass(frozen=True, slots=True)
class Place:
    """A proxy, and the key that it is asked with."""

    origin: str
    key: str


class ClientRaisedError(Exception):
    """What the library raised in the program. `bases`: its class and those it derives from; `types`: those of its
    causes too, since some libraries wrap what the SDK below them raised."""

    def __init__(self, told: dict[str, Any]) -> None:
        super().__init__(f"{told['type']}: {told['message']}")
        self.bases = set(told["bases"])
        self.types = {*told["bases"], *told["causes"]}
        self.status: int | None = told.get("status")
        self.headers: dict[str, str] = told.get("headers", {})
        self.message: str = told["message"]


def python_of(environment: str) -> Path:
    """The interpreter of an environment; "" is the one of this test. Raises AssertionError when it is missing."""
    if not environment:
        return Path(sys.executable)
    python = _ENVIRONMENTS / environment / "bin/python"
    made_from = _ENVIRONMENTS / environment / ".made-from"
    assert python.exists(), f"The environment of '{environment}' is missing. Make it: scripts/clients {environment}"
    assert made_from.exists(), f"The environment of '{environment}' is unfinished: scripts/clients {environment}"
    wanted = (HERE / "environments" / f"{environment}.txt").read_text()
    assert made_from.read_text() == wanted, f"Another list made '{environment}': scripts/clients {environment}"
    return python


def steps_of(program: str) -> list[str]:
    """The steps that a program has, read from its source."""
    tree = ast.parse((HERE / "programs" / f"{program}.py").read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [
        one.name
        for one in functions
        if not one.name.startswith("_") and [argument.arg for argument in one.args.args] == ["place"]
    ]


class Program:
    """One running program."""

    def __init__(self, environment: str, program: str) -> None:
        environ = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "LD_LIBRARY_PATH", "TMPDIR")}
        environ |= {"HOME": str(_ENVIRONMENTS / environment if environment else HERE), "NO_PROXY": "127.0.0.1"}
        environ |= {"PYTHONDONTWRITEBYTECODE": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "DO_NOT_TRACK": "1"}
        self._process = subprocess.Popen(
            [python_of(environment), HERE / "programs" / f"{program}.py"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ,
        )  # fmt: skip
        self.name = f"{environment or program}"
        self._printed: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.steps: list[str] = self._answer("its start")["steps"]

    def _read(self) -> None:
        if self._process.stderr is not None:
            self._printed.extend(self._process.stderr)

    def ask(self, step: str, place: Place, model: str) -> Any:
        """The facts of one step. Raises ClientRaisedError for what the library raised."""
        asked = {"step": step, "origin": place.origin, "key": place.key, "model": model}
        assert self._process.stdin is not None
        assert self._process.poll() is None, f"{self.name} has ended:\n{''.join(self._printed[-40:])}"
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        told = self._answer(step)
        if "raised" in told:
            raise ClientRaisedError(told["raised"])
        return told["facts"]

    def _answer(self, what: str) -> Any:
        assert self._process.stdout is not None
        watchdog = threading.Timer(_STEP_S, self._process.kill)
        watchdog.start()
        try:
            line = self._process.stdout.readline()
        finally:
            watchdog.cancel()
        assert line, (
            f"{self.name} did not answer {what} within {_STEP_S:g} s, or ended:\n{''.join(self._printed[-60:])}"
        )
        return json.loads(line)

    def close(self) -> None:
        """Ends it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(5)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
