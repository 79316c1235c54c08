"""The simulated provider as an ASGI application: who asks, what goes wrong, what the limits say, what the answer is.

Main entry: `SimulatedProvider`; `_answer` is the path of a request; what a format says is in `formats`. No framework: a
small request costs little, so that benchmarks measure the router and not its upstream. Serve it with
`apikeyrouter_proxy.sim_server`, which adds the hook below HTTP that connection faults need.
Laws: a request is decided in one step of the event loop (fault drawn, limits charged), so order decides and not
chance; every visit ends, whatever happens to it.
"""

from __future__ import annotations

import itertools
import random

import msgspec

from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.infrastructure.clock import SystemClock
from apikeyrouter.simulation.accounts import Account, Accounts
from apikeyrouter.simulation.api_errors import ApiError, Headers
from apikeyrouter.simulation.config import SimConfig
from apikeyrouter.simulation.connection import Connection, Receive, Scope, Send
from apikeyrouter.simulation.control import Control
from apikeyrouter.simulation.delivery import answer_instead, deliver, send_error
from apikeyrouter.simulation.faults import FaultBook
from apikeyrouter.simulation.formats import Format, format_of
from apikeyrouter.simulation.labels import key_label
from apikeyrouter.simulation.recorder import Recorder, Visit
from apikeyrouter.simulation.text import digest_of

__all__ = ["SimulatedProvider"]

_CONTROL = "/_sim"
_DAY_S = 86_400.0


class SimulatedProvider:
    """A provider in one process. `clock` None: the machine's."""

    def __init__(self, config: SimConfig | None = None, *, clock: Clock | None = None) -> None:
        self.config = config or SimConfig()
        self.clock: Clock = clock or SystemClock()
        self._open: set[Connection] = set()
        self._control = Control(self)
        self.reset()

    def reset(self, seed: int | None = None) -> None:
        """Back to the beginning: full limits, configured accounts and faults, empty records, first id of the seed."""
        if seed is not None:
            self.config = msgspec.structs.replace(self.config, seed=seed)
        now_s = self.clock.monotonic_s()
        self.accounts = Accounts(self.config, now_s, now_s - self._utc_s() % _DAY_S)
        self.faults = FaultBook(random.Random(self.config.seed))
        for fault in self.config.faults:
            self.faults.add(fault, now_s)
        self.recorder = Recorder(self.config.record_last)
        self._ids = itertools.count(1)

    def hang_up(self) -> None:
        """Breaks off every running request, for a server that stops."""
        for connection in list(self._open):
            connection.hang_up()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the simulated provider speaks HTTP only, not {scope['type']}")
        connection = Connection(scope, receive, send, self.clock)
        body = await connection.body()
        if body is None:
            return
        if scope["path"].startswith(_CONTROL):
            await self._control.serve(connection, body)
            return
        form = format_of(scope)
        key = form.credential(scope)
        visit = self.recorder.begin(key_label(key), scope, body, self._utc_s())
        self._open.add(connection)
        try:
            await self._answer(connection, visit, form, key, body)
        finally:
            if connection.gone and not connection.complete and not connection.broken:
                visit.counts.disconnected += 1
            visit.end()
            self._open.discard(connection)
            connection.release()

    async def _answer(self, connection: Connection, visit: Visit, form: Format, key: str, body: bytes) -> None:
        """The path of a request: route, authenticate, suffer the faults, be admitted, be answered."""
        request_id = f"req_{self.new_id('req')}"
        headers: Headers = form.headers(request_id)
        scope = connection.scope
        account: Account | None = None
        try:
            handler = form.handler(self, scope)
            account = self.accounts.authenticate(key, self.clock.monotonic_s())
            headers += form.account_headers(account)
            plan = self.faults.draw(key_label(key), scope["path"], self.clock.monotonic_s())
            if plan.latency_s > 0 and not await connection.pause(plan.latency_s):
                return
            if plan.instead is not None:
                if self.config.failed_requests_count:
                    account.count_failed(self.clock.monotonic_s())
                await answer_instead(connection, visit, plan, key, headers)
                return
            account.check_standing()
            reply = handler(account, body, headers)
        except ApiError as error:
            status, more, words = form.error(error, request_id, account)
            await send_error(connection, visit, status, [*headers, *more], words)
            return
        visit.used(reply.usage)
        account.spend(reply.usage.get("total_tokens", 0))
        await deliver(connection, visit, reply, plan, account.pace, form)

    def new_id(self, kind: str) -> str:
        """32 hexadecimal digits, new each time."""
        return digest_of(self.config.seed, kind, b"%d" % next(self._ids)).hex()

    def created_s(self) -> int:
        """Now, in Unix seconds."""
        return int(self._utc_s())

    def _utc_s(self) -> float:
        return self.clock.utc_now().timestamp()
