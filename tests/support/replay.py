"""An upstream that replays recorded exchanges byte for byte, one per key.

Each recording gets a key of its own (`sk-replay-<n>`), so the request's credential selects the reply, whatever else the
proxy sends. What arrived is kept, to compare it with what the client sent.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Recording", "ReplayServer", "replaying"]


class Recording:
    """One exchange: the request's JSON, the reply's status, headers and bytes."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.path: str = row["path"]
        self.request: dict[str, Any] = row["request"]
        self.status: int = row["status"]
        text = row.get("response_text")
        body = text if text is not None else json.dumps(row.get("response_json"))
        self.body = body.encode()
        given = {k.lower(): v for k, v in row["response_headers"].items()}
        self.is_stream = str(given.get("content-type", "")).startswith("text/event-stream")
        self.content_type = "text/event-stream; charset=utf-8" if self.is_stream else "application/json"
        self.headers = {
            k: v
            for k, v in given.items()
            if k
            not in ("content-type", "content-length", "transfer-encoding", "content-encoding", "connection", "date")
        }

    @property
    def usage(self) -> dict[str, Any] | None:
        """The usage that the recording reports, or None."""
        if not self.is_stream:
            found = json.loads(self.body).get("usage")
            return found if isinstance(found, dict) else None
        for line in reversed(self.body.decode().splitlines()):
            if line.startswith("data:") and '"usage":{' in line.replace(" ", ""):
                found = json.loads(line[5:]).get("usage")
                return found if isinstance(found, dict) else None
        return None


class ReplayServer(ThreadingHTTPServer):
    """`received[key]`: the last body that came with that key."""

    daemon_threads = True

    def __init__(self, recordings: dict[str, Recording]) -> None:
        self.recordings = recordings
        self.received: dict[str, bytes] = {}
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def base_url(self) -> str:
        """Ends in /v1."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ReplayServer

    def do_POST(self) -> None:
        key = self.headers["Authorization"].removeprefix("Bearer ")
        self.server.received[key] = self.rfile.read(int(self.headers["Content-Length"]))
        recording = self.server.recordings[key]
        self.send_response_only(recording.status)
        for name, value in recording.headers.items():
            for one in value if isinstance(value, list) else [value]:
                self.send_header(name, str(one))
        self.send_header("Content-Type", recording.content_type)
        self.send_header("Content-Length", str(len(recording.body)))
        self.end_headers()
        self.wfile.write(recording.body)

    def log_message(self, *_: object) -> None:
        """Silent."""


@contextmanager
def replaying(recordings: dict[str, Recording]) -> Iterator[ReplayServer]:
    """Serves recordings by key until the block ends."""
    server = ReplayServer(recordings)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
