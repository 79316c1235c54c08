"""Logs: JSON lines for machines, or a readable form on a terminal. Nothing that looks like a key gets through.

Main entries: `configure` (once, at start) and `RequestLog`, the observer that writes one line per finished request.
Request lines are encoded straight to JSON and buffered; `flush` writes them in one go, a few times a second. The buffer
is bounded: when nobody flushes, lines are dropped and counted. Key state changes go out at once, as warnings.
Law: redaction is the last step before output, for messages, fields and tracebacks alike.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TextIO

import msgspec

from apikeyrouter.domain.models.events import KeyMoved, RequestEnded
from apikeyrouter.domain.resilience.redact import redact
from apikeyrouter_proxy.providers import SIMULATED

__all__ = ["RedactingHandler", "RequestLog", "configure", "formatter", "told_before", "write_whole_lines"]

_LINES_MAX = 10_000
_TOLD_MAX = 1_000
_PIPE_WHOLE_BYTES = 4096
"""PIPE_BUF on Linux; POSIX demands 512 at least."""

_LOGGERS = ("apikeyrouter", "apikeyrouter_proxy", "uvicorn", "uvicorn.error")
_EXPECTED_STATES = frozenset({"available", "recovering", "retired"})


class RedactingFormatter(logging.Formatter):
    """A formatter whose output is redacted as a whole, tracebacks included. `inner`: makes the line of a record."""

    def __init__(self, inner: Callable[[logging.LogRecord], str]) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """The line for a record."""
        return redact(self._inner(record))


class RedactingHandler(logging.StreamHandler[TextIO]):
    """A handler that redacts what it tells of a record that it cannot write, too: the standard library's prints the
    arguments as they are."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - its name
        """Tells on standard error what went wrong, without the record's arguments."""
        told = f"A line of the log was lost ({record.name}: {str(record.msg)!a}):\n{traceback.format_exc()}"
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
            sys.stderr.write(redact(told).encode("ascii", "backslashreplace").decode())


def formatter(*, pretty: bool, colors: bool = False) -> logging.Formatter:
    """The formatter behind every logger. JSON: one object a line with `timestamp` (UTC), `level`, `logger`, `event`."""
    return RedactingFormatter(_pretty(colors=colors) if pretty else _json_record)


def _pretty(*, colors: bool) -> Callable[[logging.LogRecord], str]:
    # Imported here: structlog brings rich, pygments and attrs along (6 MiB, 45 ms), which JSON lines have no use for.
    import structlog

    shared: list[Any] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        _without_color,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Any] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.dev.ConsoleRenderer(colors=colors),
    ]
    return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last).format


def _json_record(record: logging.LogRecord) -> str:
    """A record as one JSON object: event, logger, level, what `extra` gave, timestamp, exception."""
    told: dict[str, Any] = {"event": record.getMessage()}
    if record.stack_info:
        told["stack_info"] = record.stack_info
    told["logger"] = record.name
    told["level"] = record.levelname.lower()
    told |= {name: value for name, value in record.__dict__.items() if name not in _RECORDS_OWN}
    told["timestamp"] = f"{datetime.fromtimestamp(record.created, UTC).replace(tzinfo=None).isoformat()}Z"
    if record.exc_info and record.exc_info[0] is not None:
        told["exception"] = _plain.formatException(record.exc_info)
    try:
        return msgspec.json.encode(told, enc_hook=str).decode()
    except (ValueError, TypeError, RecursionError):  # half of a surrogate pair, as in the name of a file; a circle
        return json.dumps({name: str(value) for name, value in told.items()})


_plain = logging.Formatter()
_RECORDS_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}
"""What every record has, and uvicorn's second form of a message: all else came as `extra`."""


def configure(level: str, log_format: str = "auto", stream: TextIO | None = None) -> bool:
    """Sends our loggers and uvicorn's to standard output; says whether the form is JSON. uvicorn's access log is
    silenced: `RequestLog` tells more for less."""
    out = stream or sys.stdout
    pretty = log_format == "pretty" or (log_format == "auto" and out.isatty())
    handler = RedactingHandler(out)
    handler.setFormatter(formatter(pretty=pretty, colors=pretty and out.isatty()))
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [handler] if name != "uvicorn.error" else []
        logger.propagate = name == "uvicorn.error"
        logger.setLevel(level)
    uvicorn_log = logging.getLogger("uvicorn.error")
    uvicorn_log.filters = [_only_where_it_listens]
    access = logging.getLogger("uvicorn.access")
    access.handlers, access.propagate, access.disabled = [], False, True
    return not pretty


def _only_where_it_listens(record: logging.LogRecord) -> bool:
    """uvicorn tells of each step of each server's start and stop, the simulated provider's too. One line is enough."""
    return record.levelno > logging.INFO or str(record.msg).startswith("Uvicorn running")


def _without_color(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    event.pop("color_message", None)
    return event


@contextlib.contextmanager
def told_before(name: str) -> Iterator[None]:
    """Inside the block this logger tells nothing below an error: another process has told it."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(max(level, logging.ERROR))
    try:
        yield
    finally:
        logger.setLevel(level)


def write_whole_lines(text: str) -> None:
    """To standard output, in pieces that a pipe takes whole: several processes may write to it at once."""
    sys.stdout.flush()
    piece = b""
    for line in text.encode().splitlines(keepends=True):
        if piece and len(piece) + len(line) > _PIPE_WHOLE_BYTES:
            os.write(sys.stdout.fileno(), piece)
            piece = b""
        piece += line
    if piece:
        os.write(sys.stdout.fileno(), piece)


class RequestLog:
    """An observer. `write`: takes whole lines, default standard output. `utc_now_iso`: the time of a line."""

    def __init__(
        self,
        *,
        enabled: bool,
        json_lines: bool,
        utc_now_iso: Callable[[], str],
        write: Callable[[str], object] | None = None,
    ) -> None:
        self._enabled = enabled
        self._json = json_lines
        self._now = utc_now_iso
        self._write = write or sys.stdout.write
        self._lines: list[RequestEnded] = []
        self._told: list[str] = []
        self._log = logging.getLogger("apikeyrouter_proxy.keys")
        self.dropped = 0

    def set_level(self, level: str) -> None:
        """From now on: what our loggers tell, and whether requests are told at all (INFO and DEBUG)."""
        self._enabled = level in ("DEBUG", "INFO")
        for name in _LOGGERS:
            logging.getLogger(name).setLevel(level)

    def request_ended(self, event: RequestEnded) -> None:
        """Keeps the fact; `flush` makes a line of it."""
        if not self._enabled:
            return
        if len(self._lines) >= _LINES_MAX:
            self.dropped += 1
            return
        self._lines.append(event)

    def tell(self, line: str) -> None:
        """Keeps a line of another kind about a request, as it is, for the next `flush`."""
        if not self._enabled:
            return
        if len(self._told) >= _TOLD_MAX:
            self.dropped += 1
            return
        self._told.append(line)

    def key_moved(self, event: KeyMoved) -> None:
        """Tells at once: a warning, or information when the key got better or was revoked by hand."""
        level = logging.INFO if event.to_state in _EXPECTED_STATES else logging.WARNING
        if event.provider_id == SIMULATED:
            level = logging.DEBUG  # made-up keys come and go with the process
        self._log.log(
            level,
            "Key %s of %s: %s -> %s (%s)",
            event.label,
            event.provider_id,
            event.from_state,
            event.to_state,
            event.cause,
            extra={"key_id": event.key_id, "to_state": event.to_state},
        )

    def flush(self) -> None:
        """Writes what has gathered."""
        if not self._lines and not self._told:
            return
        events, self._lines = self._lines, []
        told, self._told = self._told, []
        now = self._now()
        one_line = _json_line if self._json else _plain_line
        lines = [one_line(event, now) for event in events]
        if self.dropped:
            self._log.warning("%d request lines were dropped because nobody wrote them in time.", self.dropped)
            self.dropped = 0
        self._write("".join(lines + told))


class _Line(msgspec.Struct, gc=False):
    """One request as JSON; see `RequestEnded` for the meaning of the fields."""

    timestamp: str
    request_id: str
    operation: str
    model: str
    provider: str
    key: str
    outcome: str
    status: int
    stream: bool
    duration_ms: float
    ttft_ms: float | None
    input_tokens: int
    output_tokens: int
    cost_usd: float
    attempts: list[str]
    level: str = "info"
    logger: str = "apikeyrouter_proxy.requests"
    event: str = "request"


_encode = msgspec.json.Encoder().encode


@lru_cache(maxsize=2048)
def _safe(text: str) -> str:
    """What a caller or a provider chose, with whatever looks like a key masked; cached, since repeats are common."""
    return redact(text)


def _safe_id(request_id: str) -> str:
    """Our own ids are known to be harmless; a caller's may be anything."""
    return request_id if request_id.startswith("req_") else redact(request_id)


def _json_line(event: RequestEnded, now: str) -> str:
    line = _Line(
        now,
        _safe_id(event.request_id),
        event.operation,
        _safe(event.model),
        event.provider_id,
        _safe(event.key_label),
        _safe(event.outcome),
        event.status,
        event.stream,
        round(event.duration_s * 1000, 2),
        None if event.ttft_s is None else round(event.ttft_s * 1000, 2),
        event.input_tokens,
        event.output_tokens,
        event.cost_nano_usd / 1e9,
        [f"{_safe(label)}:{outcome}" for label, outcome in event.attempts],
    )
    return _encode(line).decode() + "\n"


def _plain_line(event: RequestEnded, now: str) -> str:
    tries = "" if len(event.attempts) <= 1 else f" after {len(event.attempts)} attempts"
    return (
        f"{now} {event.status} {event.operation} {_safe(event.model)!r} -> {_safe(event.key_label) or '-'} "
        f"{_safe(event.outcome)}{tries}, {event.duration_s * 1000:.0f} ms, "
        f"{event.input_tokens}+{event.output_tokens} tokens, ${event.cost_nano_usd / 1e9:.6f} "
        f"[{_safe_id(event.request_id)}]\n"
    )
