"""The control endpoint under `/_sim/`: faults and accounts at run time, and what reached the provider.

    GET    /_sim/state?key=            counts per key, accounts with what is left of their limits, faults in force
    GET    /_sim/requests?key=&last=   the last requests, oldest first, without credentials
    GET    /_sim/faults                faults in force
    POST   /_sim/faults                a fault or a list of them (see `faults.Fault`)
    DELETE /_sim/faults?key=&id=       ends faults: all, of a key, or one
    POST   /_sim/accounts              an account or a list of them (see `config.AccountConfig`)
    POST   /_sim/reset                 back to the beginning; {"seed": n} with another seed

Law: it answers callers on this machine only, and no web page: a foreign `Host` or any `Origin` is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import msgspec

from apikeyrouter.simulation.api_errors import Headers
from apikeyrouter.simulation.config import AccountConfig
from apikeyrouter.simulation.connection import Connection, Scope
from apikeyrouter.simulation.faults import Fault
from apikeyrouter.simulation.labels import key_label

if TYPE_CHECKING:
    from apikeyrouter.simulation.asgi import SimulatedProvider

__all__ = ["Control"]

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class _Reset(msgspec.Struct, forbid_unknown_fields=True):
    seed: int | None = None


class Control:
    """Reads and turns one `SimulatedProvider`; also usable in process, without HTTP."""

    def __init__(self, provider: SimulatedProvider) -> None:
        self._provider = provider

    async def serve(self, connection: Connection, body: bytes) -> None:
        """Answers one control request."""
        if not _is_local(connection.scope):
            status, reply = 403, {"error": "the control endpoint answers this machine only"}
        else:
            status, reply = self._dispatch(connection.scope, body)
        raw = msgspec.json.encode(reply)
        headers: Headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(raw))]
        await connection.start(status, headers)
        await connection.finish(raw)

    def state(self, key: str | None = None) -> dict[str, Any]:
        """Counts of one key (zeros when unseen) or of all, accounts, faults."""
        provider = self._provider
        return {
            "seed": provider.config.seed,
            "requests": provider.recorder.requests,
            "keys": provider.recorder.keys_view(None if key is None else key_label(key)),
            "accounts": provider.accounts.view(provider.clock.monotonic_s()),
            "faults": provider.faults.listing(),
        }

    def requests(self, key: str | None = None, last: int | None = None) -> list[dict[str, Any]]:
        """The last requests, oldest first."""
        found = self._provider.recorder.requests_view(None if key is None else key_label(key))
        return found if last is None else found[-last:] if last > 0 else []

    def add_faults(self, faults: list[Fault]) -> list[int]:
        """Puts faults in force and returns their ids."""
        now_s = self._provider.clock.monotonic_s()
        return [self._provider.faults.add(fault, now_s) for fault in faults]

    def add_accounts(self, accounts: list[AccountConfig]) -> None:
        """Adds accounts, or replaces those of the same name."""
        now_s = self._provider.clock.monotonic_s()
        for account in accounts:
            self._provider.accounts.add(account, now_s)

    def _dispatch(self, scope: Scope, body: bytes) -> tuple[int, dict[str, Any]]:
        query = {
            name: values[-1] for name, values in parse_qs(scope.get("query_string", b"").decode("latin-1")).items()
        }
        try:
            match scope["method"], scope["path"].rstrip("/"):
                case "GET", "/_sim/state":
                    return 200, self.state(query.get("key"))
                case "GET", "/_sim/requests":
                    last = int(query["last"]) if "last" in query else None
                    return 200, {"requests": self.requests(query.get("key"), last)}
                case "GET", "/_sim/faults":
                    return 200, {"faults": self._provider.faults.listing()}
                case "POST", "/_sim/faults":
                    return 200, {"ids": self.add_faults(_one_or_many(body, Fault))}
                case "DELETE", "/_sim/faults":
                    fault_id = int(query["id"]) if "id" in query else None
                    return 200, {"ended": self._provider.faults.clear(query.get("key"), fault_id)}
                case "POST", "/_sim/accounts":
                    self.add_accounts(_one_or_many(body, AccountConfig))
                    return 200, {"accounts": self._provider.accounts.view(self._provider.clock.monotonic_s())}
                case "POST", "/_sim/reset":
                    self._provider.reset(msgspec.json.decode(body or b"{}", type=_Reset).seed)
                    return 200, {"seed": self._provider.config.seed}
                case method, path:
                    return 404, {"error": f"no such control: {method} {path}"}
        except (msgspec.MsgspecError, ValueError) as fault:
            return 400, {"error": str(fault)}


def _one_or_many(body: bytes, kind: type[Any]) -> list[Any]:
    if body.lstrip()[:1] == b"[":
        found: list[Any] = msgspec.json.decode(body, type=list[kind])  # type: ignore[valid-type]  # a type at run time
        return found
    return [msgspec.json.decode(body, type=kind)]


def _is_local(scope: Scope) -> bool:
    client = scope.get("client")
    if client is not None and client[0] not in _LOOPBACK:
        return False
    for name, value in scope["headers"]:
        if name == b"origin":
            return False
        if name == b"host":
            host = value.decode("latin-1")
            bare = host[1 : host.find("]")] if host.startswith("[") else host.rsplit(":", 1)[0]
            if bare not in _LOOPBACK:
                return False
    return True
