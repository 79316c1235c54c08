"""`top` against a real proxy, by Textual's pilot and in a real terminal; what it knows, without either."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import io
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from textual.pilot import Pilot
from textual.widgets import DataTable, Static

from apikeyrouter_proxy.cli.service import Where
from apikeyrouter_proxy.cli.top import connected
from apikeyrouter_proxy.tui.app import TopApp
from apikeyrouter_proxy.tui.board import DECISIONS_MAX, SORTS, Board
from apikeyrouter_proxy.tui.feed import events_of
from apikeyrouter_proxy.tui.screens import Sure, Told
from apikeyrouter_proxy.tui.told import decision_told, key_cells
from tests.support.command import clean_environ, run_cli
from tests.support.processes import ProxyProcess, free_port, proxy_process
from tests.support.sim import Sim

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 5}
SIZE = (80, 24)


# -- what it knows ----------------------------------------------------------------------------------------------------


def key(name: str, **more: Any) -> dict[str, Any]:
    return {
        "id": f"key_{name}", "label": name, "provider_id": "openai", "state": "available", "cooldown_until": None,
        "in_flight": 0, "usage_count": 0, "failure_count": 0, **more,
    }  # fmt: skip


def pool(name: str, remaining: int, pressure: float = 0.0, outlook: str = "lasts") -> dict[str, Any]:
    known = {"name": "requests per minute", "limit": 100, "remaining": remaining}
    unknown = {"name": "tokens per day", "limit": None, "remaining": None}
    roomy = {"name": "tokens per minute", "limit": 10, "remaining": 10}
    return {"key_ids": [f"key_{name}"], "limits": [unknown, roomy, known], "outlook": outlook, "pressure": pressure}


def row(number: int, **more: Any) -> dict[str, Any]:
    return {
        "id": f"dec_{number}", "at": "2026-11-21T10:00:00+00:00", "model": "gpt-4o-mini", "provider_id": "openai",
        "key_label": "a", "caller": "", "outcome": "ok", "duration_s": 0.1, "cost_usd": "0.000000001",
        "attempts": 1, "input_tokens": 1, "output_tokens": 1, **more,
    }  # fmt: skip


def board(**more: Any) -> Board:
    found = Board(**more)
    found.take_keys([key("a"), key("b", in_flight=3), key("c", state="disabled"), key("d")])
    found.take_pools([pool("a", 50), pool("b", 90, 2.0, "runs dry in 4 m (2-9 m), resets in 11 m"), pool("c", 0)])
    return found


def test_what_runs_dry_first_comes_first_and_the_tightest_limit_is_told() -> None:
    rows = board().rows()
    assert [one.label for one in rows] == ["b", "c", "a", "d"]
    assert [one.limit and (one.limit.name, one.limit.left) for one in rows[:3]] == [
        ("requests per minute", 0.9), ("requests per minute", 0.0), ("requests per minute", 0.5),
    ]  # fmt: skip
    assert rows[3].limit is None
    said = [cell.plain for cell in key_cells(rows[0])]
    assert said[3:6] == ["req/min", "runs dry in 4 m", "3"]
    assert "90.0 %" in said[2]
    assert key_cells(rows[3])[2].plain == "not known"


@pytest.mark.parametrize("order", list(SORTS))
def test_every_order_has_its_reverse(order: str) -> None:
    found = board(sort=order)
    labels = [one.label for one in found.rows()]
    found.reverse = True
    assert [one.label for one in found.rows()] == labels[::-1]


def test_a_filter_takes_keys_and_decisions() -> None:
    found = board(text="DISABLED")
    assert [one.label for one in found.rows()] == ["c"]
    found.take_decisions([row(1), row(2, outcome="rate_limited")])
    assert found.shown_decisions() == []
    found.text = "rate"
    assert [one["id"] for one in found.shown_decisions()] == ["dec_2"]


def test_decisions_are_the_newest_once_each_and_bounded() -> None:
    found = Board()
    for start in range(0, 5000, 50):
        found.take_decisions([row(start + i) for i in range(50)] + [row(start)])
    assert len(found.decisions) == DECISIONS_MAX
    assert [one["id"] for one in list(found.decisions)[:2]] == ["dec_4999", "dec_4998"]
    assert len(found._ids) <= 2 * DECISIONS_MAX + 50


def test_money_is_summed_exactly() -> None:
    found = Board()
    for _ in range(1000):
        found.take_tick({"requests": 1, "failures": 0, "cost_usd": "0.000000001", "ttft_s": None, "in_flight": 2})
    totals = found.totals()
    assert str(totals.spent_usd) == "0.000001000"
    assert (totals.requests_per_s, totals.in_flight, len(totals.history)) == (1.0, 2, 60)


def test_events_are_read_whatever_pieces_they_come_in() -> None:
    text = b': \n\nevent: tick\ndata: {"requests": 1}\n\nevent: key\r\ndata: {}\r\n\r\ndata: no json\n\n'
    whole = [("tick", {"requests": 1}), ("key", {})]
    assert list(events_of(iter([text]))) == whole
    assert list(events_of(text[i : i + 1] for i in range(len(text)) if text[i : i + 1] != b"\r")) == whole


def test_what_came_from_outside_cannot_command_the_terminal() -> None:
    found = Board()
    found.take_keys([key("evil\x1b]0;title\x07[bold]")])
    label = key_cells(found.rows()[0])[0]
    assert label.plain == "evil\\x1b]0;title\\x07[bold]"


# -- with a proxy -----------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def showing(proxy: ProxyProcess) -> AsyncIterator[tuple[TopApp, Pilot[None]]]:
    service = await asyncio.to_thread(lambda: connected(Where(proxy.origin)))
    app = TopApp(service)
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.link is None and app.board.keys and table(app, "keys").row_count)
        yield app, pilot


async def until(pilot: Pilot[None], true: Callable[[], object], within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while not true():
            await pilot.pause(0.05)


def table(app: TopApp, name: str) -> DataTable[Any]:
    return app.query_one(f"#{name}", DataTable)


def cells(app: TopApp, name: str) -> list[list[str]]:
    found = table(app, name)
    return [[cell.plain for cell in found.get_row_at(at)] for at in range(found.row_count)]


def text_of(app: TopApp, name: str) -> str:
    return str(app.screen.query_one(name, Static).render())


async def test_keys_limits_and_decisions_come_alive(fresh: ProxyProcess) -> None:
    async with showing(fresh) as (app, pilot):
        labels = {row[0] for row in cells(app, "keys")}
        assert {"openai-1", "openai-2"} <= labels
        assert (await asyncio.to_thread(fresh.post, "/v1/chat/completions", CHAT))[0] == 200
        await until(pilot, lambda: cells(app, "decisions"))
        (told,) = cells(app, "decisions")
        assert told[1] == "gpt-4o-mini"
        assert told[2] in labels
        assert told[3] == "ok"
        await until(pilot, lambda: any(row[3] == "req/min" for row in cells(app, "keys")))
        await until(pilot, lambda: app.board.totals().spent_usd > 0)
        assert "req/s" in text_of(app, "#totals")
        assert "live" in text_of(app, "#head")


async def test_a_decision_opens_with_its_reasons(fresh: ProxyProcess) -> None:
    await asyncio.to_thread(fresh.post, "/v1/chat/completions", CHAT)
    async with showing(fresh) as (app, pilot):
        await until(pilot, lambda: cells(app, "decisions"))
        await pilot.press("tab", "enter")
        await until(pilot, lambda: isinstance(app.screen, Told))
        console = Console(width=120, file=io.StringIO(), record=True)
        decision = await asyncio.to_thread(fresh.get, f"/api/v1/decisions/{app.board.decisions[0]['id']}")
        console.print(decision_told(decision[1], {}))
        said = console.export_text()
        assert "Selected openai-" in said
        assert "chosen" in said
        assert "Attempt with" in said
        await pilot.press("escape")
        assert not isinstance(app.screen, Told)


async def test_a_key_is_disabled_after_a_yes_only_and_enabled_again(fresh: ProxyProcess) -> None:
    def state() -> str:
        label = cells(app, "keys")[table(app, "keys").cursor_row][0]
        (found,) = [one for one in fresh.get("/api/v1/keys")[1]["data"] if one["label"] == label]
        return str(found["state"])

    async with showing(fresh) as (app, pilot):
        await pilot.press("s", "s", "d")  # sorted by key: rows stay where they are
        await until(pilot, lambda: isinstance(app.screen, Sure))
        assert "Disable the key openai-1 of openai?" in text_of(app, "#question")
        await pilot.press("n")
        assert await asyncio.to_thread(state) == "available"
        await pilot.press("d", "enter")  # the first answer is No
        assert await asyncio.to_thread(state) == "available"
        await pilot.press("d", "y")
        await until(pilot, lambda: cells(app, "keys")[0][1] == "disabled")
        assert await asyncio.to_thread(state) == "disabled"
        await pilot.press("d", "y")
        await until(pilot, lambda: cells(app, "keys")[0][1] == "available")


async def test_the_filter_narrows_while_typing_and_escape_clears_it(fresh: ProxyProcess) -> None:
    async with showing(fresh) as (app, pilot):
        all_ = len(cells(app, "keys"))
        await pilot.press("slash", *"openai-1")
        assert {row[0] for row in cells(app, "keys")} <= {"openai-1", *(f"openai-1{i}" for i in range(10))}
        assert "openai-1" in text_of(app, "#keys-title")
        await pilot.press("enter", "r")  # r is a command again
        assert app.board.reverse
        await pilot.press("escape")
        assert len(cells(app, "keys")) == all_


async def test_it_says_that_the_proxy_is_gone_and_goes_on_when_it_is_back(sim: Sim, tmp_path: Path) -> None:
    port = free_port()
    with proxy_process(sim, tmp_path, port=port) as first:
        async with showing(first) as (app, pilot):
            await asyncio.to_thread(first.stop)
            await until(pilot, lambda: app.link is not None)
            await until(pilot, lambda: f"Nothing listens at {first.origin}" in text_of(app, "#head"))
            assert cells(app, "keys")  # what was known stays
            with proxy_process(sim, tmp_path, port=port) as again:
                await asyncio.to_thread(again.post, "/v1/chat/completions", CHAT)
                await until(pilot, lambda: app.link is None and cells(app, "decisions"), within_s=40)


async def test_everything_is_to_be_seen_on_eighty_columns(fresh: ProxyProcess) -> None:
    await asyncio.to_thread(fresh.post, "/v1/chat/completions", CHAT)
    async with showing(fresh) as (app, pilot):
        await until(pilot, lambda: cells(app, "decisions"))
        shown = app.export_screenshot().replace("&#160;", " ")
        for word in ("Forecast", "Busy", "Outcome", "Cost", "Quit", "Filter", "busy"):
            assert word in shown, word


# -- as a command -----------------------------------------------------------------------------------------------------


def in_terminal(
    arguments: list[str], folder: Path, env: dict[str, str], keys: bytes, after: bytes
) -> tuple[int, bytes]:
    """Runs a command in a terminal of 80x24, types `keys` when `after` is on the screen; (status, all it wrote)."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "apikeyrouter_proxy.cli", *arguments],
        stdin=follower, stdout=follower, stderr=follower, cwd=folder, env={**clean_environ(folder), **env},
        start_new_session=True,
    )  # fmt: skip
    os.close(follower)
    written, typed = b"", False
    try:
        while select.select([leader], [], [], 30)[0]:
            try:
                written += os.read(leader, 65_536)
            except OSError:
                break
            if after in written and not typed:
                typed = True
                os.write(leader, keys)
        return process.wait(20), written
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait(10)
        os.close(leader)


def test_the_command_draws_in_a_terminal_and_quits_cleanly(proxy_server: ProxyProcess, tmp_path: Path) -> None:
    env = {"TERM": "xterm-256color", "LANG": "C.UTF-8"}
    status, written = in_terminal(["top", "--url", proxy_server.origin], tmp_path, env, b"q", b"openai-1")
    assert status == 0
    assert b"Traceback" not in written
    assert written.rindex(b"\x1b[?1049l") > written.rindex(b"\x1b[?1049h")  # the screen of before is back


def test_without_a_terminal_a_proxy_or_the_library_it_says_what_to_do(tmp_path: Path) -> None:
    assert "this is none" in run_cli("top", folder=tmp_path, status=2).err
    port = str(free_port())
    env = {"TERM": "xterm", "PROXY_PORT": port}
    status, written = in_terminal(["top"], tmp_path, env, b"", b"\0")
    assert status == 1
    assert b"apikeyrouter serve" in written
    (tmp_path / "hide").mkdir()
    (tmp_path / "hide" / "sitecustomize.py").write_text(
        "import sys\n\n\nclass Hidden:\n    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'textual':\n            raise ModuleNotFoundError(name=name)\n\n\n"
        "sys.meta_path.insert(0, Hidden())\n"
    )
    ran = run_cli("top", folder=tmp_path, env={"PYTHONPATH": str(tmp_path / "hide")}, status=1)
    assert "pip install 'apikeyrouter-proxy[tui]'" in ran.err
    assert run_cli("--help", folder=tmp_path, env={"PYTHONPATH": str(tmp_path / "hide")}).status == 0
