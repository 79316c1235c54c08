"""Logs that leak nothing, and a banner whose blocks work as they are printed."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.models.events import KeyMoved
from apikeyrouter_proxy.banner import banner, examples, origin_of
from apikeyrouter_proxy.logs import RedactingHandler, RequestLog, formatter
from apikeyrouter_proxy.settings import ProxySettings
from tests.proxy.test_metrics import ended
from tests.support.server import Served, run_proxy
from tests.support.sim import Sim

CANARY = "sk-" + "canary" + "C1" * 15
NOW = datetime(2026, 11, 21, tzinfo=UTC).isoformat()


def logger_into(stream: io.StringIO, *, pretty: bool = False) -> logging.Logger:
    logger = logging.Logger("a test of its own")  # noqa: LOG001 - not the process's: nothing is left behind
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter(pretty=pretty))
    logger.addHandler(handler)
    return logger


@pytest.mark.parametrize("pretty", [False, True])
def test_nothing_that_looks_like_a_key_is_logged(pretty: bool) -> None:
    out = io.StringIO()
    logger = logger_into(out, pretty=pretty)
    logger.warning("The provider said: Incorrect API key provided: %s", CANARY)
    logger.warning("fields", extra={"authorization": f"Bearer {CANARY}"})
    try:
        int(CANARY)  # its message quotes the argument
    except ValueError:
        logger.exception("It failed")
    text = out.getvalue()
    assert "ValueError" in text
    assert "Incorrect API key" in text
    assert "canary" not in text


def test_a_line_that_is_no_unicode_is_written_and_leaks_nothing() -> None:
    out = io.StringIO()
    logger_into(out).warning("%s changed, key %s", "a\udcff.yaml", CANARY, extra={"file": "\udcff"})
    line = json.loads(out.getvalue())
    assert line["event"].startswith("a\udcff.yaml changed")
    assert (line["level"], line["file"]) == ("warning", "\udcff")
    assert "canary" not in out.getvalue()


def test_a_line_that_cannot_be_written_is_told_of_without_its_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.Logger("a test of its own")  # noqa: LOG001
    handler = RedactingHandler(io.StringIO())
    handler.setFormatter(formatter(pretty=False))
    logger.addHandler(handler)
    logger.warning("%d keys", CANARY)
    told = capsys.readouterr().err
    assert "a test of its own" in told
    assert "%d keys" in told
    assert "TypeError" in told
    assert "canary" not in told


def test_json_lines_are_one_object_each_with_time_level_and_logger() -> None:
    out = io.StringIO()
    logger_into(out).warning("two\nlines", extra={"key_id": "key_1"})
    line = json.loads(out.getvalue())
    assert (line["event"], line["level"], line["key_id"]) == ("two\nlines", "warning", "key_1")
    assert line["logger"] == "a test of its own"
    assert line["timestamp"].endswith("Z")


def request_log(written: list[str], **options: bool) -> RequestLog:
    given = {"enabled": True, "json_lines": True, **options}
    return RequestLog(utc_now_iso=lambda: NOW, write=written.append, **given)


def test_requests_become_one_line_each_when_flushed() -> None:
    written: list[str] = []
    log = request_log(written)
    log.request_ended(ended())
    log.request_ended(ended(request_id="req_2", ttft_s=None, attempts=(("a", "timeout"), ("b", "ok"))))
    assert written == []
    log.flush()
    log.flush()
    lines = [json.loads(line) for line in "".join(written).splitlines()]
    assert len(written) == 1
    assert [line["request_id"] for line in lines] == ["req_1", "req_2"]
    assert lines[0] | {"attempts": []} == {
        "timestamp": NOW, "level": "info", "logger": "apikeyrouter_proxy.requests", "event": "request",
        "request_id": "req_1", "operation": "chat/completions", "model": "gpt-4o-mini", "provider": "openai",
        "key": "openai-1", "outcome": "ok", "status": 200, "stream": False, "duration_ms": 200.0, "ttft_ms": 40.0,
        "input_tokens": 10, "output_tokens": 3, "cost_usd": 1.5e-06, "attempts": [],
    }  # fmt: skip
    assert lines[1]["attempts"] == ["a:timeout", "b:ok"]


@pytest.mark.parametrize("json_lines", [True, False])
def test_what_callers_choose_cannot_smuggle_a_key_or_a_line_into_the_log(json_lines: bool) -> None:
    written: list[str] = []
    log = request_log(written, json_lines=json_lines)
    log.request_ended(ended(model=f"gpt\n{CANARY}", request_id=CANARY, outcome=CANARY, key_label=CANARY))
    log.flush()
    assert "canary" not in written[0]
    assert written[0].count("\n") == 1


def test_a_disabled_or_unflushed_log_stays_bounded() -> None:
    written: list[str] = []
    off = request_log(written, enabled=False)
    off.request_ended(ended())
    off.flush()
    assert written == []
    log = request_log(written)
    for _ in range(10_050):
        log.request_ended(ended())
    assert log.dropped == 50
    log.flush()
    assert written[0].count("\n") == 10_000
    assert log.dropped == 0


def test_a_key_that_leaves_service_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    log = request_log([])
    with caplog.at_level(logging.INFO, logger="apikeyrouter_proxy.keys"):
        log.key_moved(KeyMoved("key_1", "openai-1", "openai", "available", "invalid", "auth_invalid", None))
        log.key_moved(KeyMoved("key_1", "openai-1", "openai", "recovering", "available", "probe", None))
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "openai-1 of openai: available -> invalid (auth_invalid)" in caplog.records[0].getMessage()


@pytest.mark.parametrize(
    ("host", "origin"),
    [("127.0.0.1", "http://127.0.0.1:80"), ("0.0.0.0", "http://127.0.0.1:80"), ("::", "http://[::1]:80"),
     ("llm.test", "http://llm.test:80")],
)  # fmt: skip
def test_the_banner_names_an_address_that_can_be_called(host: str, origin: str) -> None:
    assert origin_of(host, 80) == origin


def test_the_banner_says_what_is_open_and_what_was_found() -> None:
    text = banner(ProxySettings(), ["Registered 3 keys."], port=8123, open_mode=True, open_management=False)
    assert "http://127.0.0.1:8123/v1" in text
    assert "no key needed" in text
    assert "an admin key is needed" in text
    assert "Registered 3 keys." in text
    closed = banner(ProxySettings(), [], port=8123, open_mode=False, open_management=False)
    assert "Authorization: Bearer $APIKEYROUTER_KEY" in closed


def shell(command: str, env: dict[str, str]) -> str:
    done = subprocess.run(["bash", "-ec", command], capture_output=True, text=True, env=env, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_blocks(served: Served, *, open_mode: bool, key: str = "") -> None:
    env = {"PATH": os.environ["PATH"], "APIKEYROUTER_KEY": key}
    blocks = examples(served.origin, open_mode=open_mode)
    assert json.loads(shell(blocks["curl"], env))["choices"][0]["message"]["content"]
    python = subprocess.run(
        [sys.executable, "-c", blocks["python"]], capture_output=True, text=True, env=env, timeout=60, check=False
    )
    assert python.returncode == 0, python.stderr
    assert python.stdout.strip()
    told = shell(blocks["environment"] + "\necho $OPENAI_BASE_URL $OPENAI_API_KEY", env).split()
    assert told == [f"{served.origin}/v1", key or "unused"]


def test_the_blocks_work_as_printed_in_open_mode(sim: Sim) -> None:
    with run_proxy(sim.base_url, sim.keys) as (served, _):
        check_blocks(served, open_mode=True)


def test_the_blocks_work_as_printed_where_a_key_is_needed(sim: Sim) -> None:
    with run_proxy(sim.base_url, sim.keys, admin_key=Secret("a" * 24), require_auth=True) as (served, _):
        made = served.post("/api/v1/virtual-keys", {"name": "x"}, {"X-API-Key": "a" * 24}).json
        check_blocks(served, open_mode=False, key=made["key"])
