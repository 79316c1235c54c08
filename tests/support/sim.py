"""The simulated provider in a process of its own, with remote controls for synchronous and asynchronous tests.

Main entry: `sim_process()`, a context manager. Law: the process is ended by its own id, whatever the test did.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

__all__ = ["AsyncSim", "Sim", "SimControlError", "sim_process"]

_CONTROL_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 10.0
_UNTIL_S = 5.0


class SimControlError(Exception):
    """The control endpoint refused; the message is its own."""


class Sim:
    """Remote control of one running simulated provider."""

    def __init__(self, base_url: str, control_url: str, keys: list[str], pid: int = 0) -> None:
        self.base_url = base_url
        self.control_url = control_url
        self.keys = keys
        self.pid = pid

    @property
    def aio(self) -> AsyncSim:
        """The same controls for coroutines: `await sim.aio.state()`."""
        return AsyncSim(self)

    def fault(self, key: str | None, kind: str, **details: Any) -> int:
        """Puts one fault in force (`key` None: for every key) and returns its id."""
        ids: list[int] = self._call("POST", "/faults", body={"key": key, "kind": kind, **details})["ids"]
        return ids[0]

    def faults(self, *faults: dict[str, Any]) -> list[int]:
        """Puts several faults in force; without any, lists the ids of those in force."""
        if not faults:
            return [fault["id"] for fault in self._call("GET", "/faults")["faults"]]
        ids: list[int] = self._call("POST", "/faults", body=list(faults))["ids"]
        return ids

    def clear_faults(self, key: str | None = None, fault_id: int | None = None) -> int:
        """Ends faults: all, those of a key, or one; returns how many."""
        ended: int = self._call("DELETE", "/faults", key=key, id=fault_id)["ended"]
        return ended

    def add_account(self, name: str, *keys: str, **details: Any) -> None:
        """Adds or replaces an account, see `AccountConfig`."""
        self._call("POST", "/accounts", body={"name": name, "keys": keys, **details})

    def state(self) -> dict[str, Any]:
        """Everything: `keys` by label, `accounts`, `faults`, `requests`."""
        state: dict[str, Any] = self._call("GET", "/state")
        return state

    def key(self, key: str) -> dict[str, Any]:
        """Counts of one key, zeros when it was never seen: requests, by_status, in_flight, disconnected, ..."""
        (counts,) = self._call("GET", "/state", key=key)["keys"].values()
        found: dict[str, Any] = counts
        return found

    def until(self, key: str, **wanted: Any) -> dict[str, Any]:
        """Asks for the counts of a key until they are as wanted, as in `until("sk-1", disconnected=1)`, and returns
        them: what another process notices takes a moment. Raises AssertionError after some seconds."""
        deadline_s = time.monotonic() + _UNTIL_S
        while True:
            counts = self.key(key)
            if all(counts[name] == value for name, value in wanted.items()):
                return counts
            assert time.monotonic() < deadline_s, f"{key}: {counts} never became {wanted}"

    def seen(self, key: str | None = None) -> int:
        """How many requests came, with one key or in all."""
        count: int = self.state()["requests"] if key is None else self.key(key)["requests"]
        return count

    def requests(self, key: str | None = None, last: int | None = None) -> list[dict[str, Any]]:
        """The last requests, oldest first; `json` is the decoded body (None when it is not JSON)."""
        found: list[dict[str, Any]] = self._call("GET", "/requests", key=key, last=last)["requests"]
        for request in found:
            try:
                request["json"] = json.loads(request["body"])
            except ValueError:
                request["json"] = None
        return found

    def reset(self, seed: int | None = None) -> None:
        """Back to the beginning: full limits, configured faults only, empty records."""
        self._call("POST", "/reset", body={} if seed is None else {"seed": seed})

    def _call(self, method: str, path: str, *, body: Any = None, **query: Any) -> Any:
        given = urllib.parse.urlencode({name: value for name, value in query.items() if value is not None})
        request = urllib.request.Request(
            f"{self.control_url}{path}" + (f"?{given}" if given else ""),
            data=None if body is None else json.dumps(body).encode(),
            method=method,
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never by way of a configured proxy
        try:
            with opener.open(request, timeout=_CONTROL_TIMEOUT_S) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            with error:
                raise SimControlError(f"{error.code}: {error.read().decode()}") from None


class AsyncSim:
    """The controls of `Sim` as coroutines, with the same names and arguments."""

    def __init__(self, sim: Sim) -> None:
        self._sim = sim

    async def fault(self, key: str | None, kind: str, **details: Any) -> int:
        return await asyncio.to_thread(self._sim.fault, key, kind, **details)

    async def faults(self, *faults: dict[str, Any]) -> list[int]:
        return await asyncio.to_thread(self._sim.faults, *faults)

    async def clear_faults(self, key: str | None = None, fault_id: int | None = None) -> int:
        return await asyncio.to_thread(self._sim.clear_faults, key, fault_id)

    async def add_account(self, name: str, *keys: str, **details: Any) -> None:
        await asyncio.to_thread(self._sim.add_account, name, *keys, **details)

    async def state(self) -> dict[str, Any]:
        return await asyncio.to_thread(self._sim.state)

    async def key(self, key: str) -> dict[str, Any]:
        return await asyncio.to_thread(self._sim.key, key)

    async def until(self, key: str, **wanted: Any) -> dict[str, Any]:
        return await asyncio.to_thread(lambda: self._sim.until(key, **wanted))

    async def seen(self, key: str | None = None) -> int:
        return await asyncio.to_thread(self._sim.seen, key)

    async def requests(self, key: str | None = None, last: int | None = None) -> list[dict[str, Any]]:
        return await asyncio.to_thread(self._sim.requests, key, last)

    async def reset(self, seed: int | None = None) -> None:
        await asyncio.to_thread(self._sim.reset, seed)


@contextmanager
def sim_process(config: dict[str, Any] | None = None, *options: str, port: int = 0) -> Iterator[Sim]:
    """A simulated provider in a process of its own. `config`: fields of `SimConfig`; `options`: further arguments of
    `python -m apikeyrouter_proxy.sim_server`."""
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "apikeyrouter_proxy.sim_server", "--port", str(port), "--print-port", *options]
        if config is not None:
            path = Path(folder) / "sim.json"
            path.write_text(json.dumps(config))
            command += ["--config", str(path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"the simulated provider did not start, exit code {process.wait(_STOP_TIMEOUT_S)}")
            told = json.loads(line)
            yield Sim(told["base_url"], told["control_url"], told["keys"], told["pid"])
        finally:
            process.terminate()
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
