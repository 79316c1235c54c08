"""One plain HTTP call to this machine, for set-up and checks; never for timing.

Entry: `call()`.
Law: it can only reach 127.0.0.1.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping


def call(
    port: int,
    method: str,
    path: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 30.0,
) -> tuple[int, bytes]:
    """Status and whole body; raises OSError or http.client.HTTPException when there is no reply."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request(method, path, body=body, headers=dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def call_json(
    port: int, method: str, path: str, value: object | None = None, headers: Mapping[str, str] | None = None
) -> dict[str, object]:
    """A JSON call that must succeed, else RuntimeError with the reply's beginning. A list comes back as `items`."""
    body = None if value is None else json.dumps(value).encode()
    status, content = call(
        port, method, path, body=body, headers={"Content-Type": "application/json", **(headers or {})}
    )
    if not 200 <= status < 300:
        raise RuntimeError(f"{method} {path} answered {status}: {content[:300].decode(errors='replace')}")
    reply = json.loads(content)
    return reply if isinstance(reply, dict) else {"items": reply}


def wait_ok(port: int, path: str, *, limit_s: float) -> None:
    """Waits until a GET answers 200; raises RuntimeError after `limit_s` seconds."""
    end_s = time.perf_counter() + limit_s
    last = "no reply"
    while time.perf_counter() < end_s:
        try:
            status, _ = call(port, "GET", path, timeout_s=2.0)
        except (OSError, http.client.HTTPException) as error:
            last = str(error)
        else:
            if status == 200:
                return
            last = f"status {status}"
        time.sleep(0.01)
    raise RuntimeError(f"GET {path} on port {port} did not answer 200 within {limit_s:g} s (last: {last})")
