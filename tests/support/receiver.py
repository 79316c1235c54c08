"""A receiver of webhooks on loopback: answers as it is told, keeps what it got, and checks signatures by itself."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

__all__ = ["Delivery", "Receiver", "new_secret", "receiver"]


def new_secret(fill: bytes = b"k") -> str:
    """A secret as operators make them."""
    return "whsec_" + base64.b64encode(fill * 32).decode()


@dataclass(frozen=True)
class Delivery:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def signed_with(self, secret: str) -> bool:
        """Whether one of the signatures is this secret's, by the words of the specification."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signed = b".".join([self.id.encode(), self.headers["webhook-timestamp"].encode(), self.body])
        right = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return f"v1,{right}" in self.headers["webhook-signature"].split(" ")


class Receiver:
    """`answers`: statuses for the next deliveries, with headers; afterwards 204. `slow_s`: how long each takes."""

    def __init__(self) -> None:
        self.got: list[Delivery] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.port = 0
        self.slow_s = 0.0
        self._came = threading.Condition()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks/budgets"

    def fail(self, *statuses: int, **headers: str) -> None:
        """Answers the next deliveries with these statuses."""
        self.answers += [(status, {k.replace("_", "-"): v for k, v in headers.items()}) for status in statuses]

    def wait_for(self, count: int, within_s: float = 20.0) -> list[Delivery]:
        """The first `count` deliveries, or AssertionError."""
        with self._came:
            assert self._came.wait_for(lambda: len(self.got) >= count, within_s), f"{len(self.got)} of {count} came"
            return self.got[:count]

    def take(self, delivery: Delivery) -> tuple[int, dict[str, str]]:
        with self._came:
            answer = self.answers.pop(0) if self.answers else (204, {})
            self.got.append(delivery)
            self._came.notify_all()
            return answer


class _Handler(http.server.BaseHTTPRequestHandler):
    receiver: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status, headers = self.receiver.take(
            Delivery(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        )
        threading.Event().wait(self.receiver.slow_s)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST  # noqa: N815 - http.server names it

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def receiver(port: int = 0, keep: Receiver | None = None) -> Iterator[Receiver]:
    """A running receiver. `keep`: one that ran before and starts again, on its `port`."""
    found = keep or Receiver()
    handler = type("Handler", (_Handler,), {"receiver": found})
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        found.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join(5)
