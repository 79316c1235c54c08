"""A configuration file that is saved while the proxy runs, with APIKEYROUTER_CONFIG_WATCH."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter_proxy.config.stamps import Stamps
from apikeyrouter_proxy.config.watch import FileWatch
from apikeyrouter_proxy.settings import ProxySettings, frozen_environ
from tests.support.config_files import configured, until
from tests.support.sim import Sim

WATCHING = {"APIKEYROUTER_CONFIG_WATCH": "0.25"}
TEXT = """
server: {admin_key: "${ADMIN_KEY}", require_auth: true}
providers: {openai: {base_url: "${SIM_URL}"}}
keys:
  a: {provider: openai, secret: "${SIM_KEY_1}"}
"""
CLIENT = "sk-client-of-the-tests-03"
WIDER = TEXT + f"virtual_keys: {{c: {{secret: {CLIENT}}}}}\n"


class Looking:
    """A watch whose reloads are counted."""

    def __init__(self, files: list[Path], patterns: Mapping[str, tuple[str, ...]] | None = None) -> None:
        self.reloads = 0
        self.read = Stamps(patterns=dict(patterns or {}))
        for file in files:
            self.read.note(file)
        self.watch = FileWatch(1, self.read, (), self.changed)

    def changed(self) -> None:
        self.reloads += 1

    async def looks(self, count: int) -> int:
        for _ in range(count):
            await self.watch.look()
        return self.reloads


async def test_a_file_is_read_again_once_it_has_stayed_the_same_for_two_looks(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("one")
    looking = Looking([file])
    assert await looking.looks(5) == 0
    for step in range(1, 4):  # an editor that saves in steps
        file.write_text("x" * step)
        assert await looking.looks(1) == 0
    assert await looking.looks(1) == 1
    looking.watch.expect(looking.read.now())
    assert await looking.looks(20) == 1


async def test_a_save_between_reading_and_the_first_look_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("one")
    read = Looking([file])
    file.write_text("two, longer")
    assert await read.looks(2) == 1


async def test_a_reload_that_came_to_nothing_is_tried_again_later_and_not_at_every_look(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("one")
    looking = Looking([file])
    file.write_text("two, longer")
    assert await looking.looks(31) == 1
    assert await looking.looks(31) == 2


async def test_files_that_come_and_go_are_changes(tmp_path: Path) -> None:
    pattern = str(tmp_path / "*.yaml")
    looking = Looking([tmp_path / "secret"], {pattern: ()})
    (tmp_path / "secret").write_text("there now")
    assert await looking.looks(2) == 1
    looking.watch.expect(looking.read.now())
    (tmp_path / "more.yaml").write_text("")
    assert await looking.looks(2) == 2


@pytest.mark.parametrize(("text", "seconds"), [("on", 1.0), ("Off", 0.0), ("0", 0.0), ("2.5", 2.5)])
def test_the_variable_says_how_often(text: str, seconds: float) -> None:
    environ = {"HOME": "/", "APIKEYROUTER_CONFIG_WATCH": text}
    assert ProxySettings.from_environ(environ).config_watch_s == seconds
    assert ProxySettings.from_environ({"HOME": "/"}).config_watch_s == 0.0


@pytest.mark.parametrize("text", ["sometimes", "0.01", "nan", "-1", "999999"])
def test_what_is_no_interval_is_a_fault_that_says_what_is(text: str) -> None:
    with pytest.raises(ConfigurationError, match="APIKEYROUTER_CONFIG_WATCH: expected on, off, or the seconds"):
        ProxySettings.from_environ({"HOME": "/", "APIKEYROUTER_CONFIG_WATCH": text})


def test_workers_know_when_every_file_was_read(tmp_path: Path) -> None:
    """Main file, included ones, those of secrets; and the patterns that may match more."""
    (tmp_path / "secret").write_text("sim-key-of-a-file-0001")
    (tmp_path / "teams").mkdir()
    (tmp_path / "teams" / "a.yaml").write_text("objective: cost\n")
    main = tmp_path / "apikeyrouter.yaml"
    main.write_text("include: teams/*.yaml\nkeys: {a: {provider: openai, secret: '${file:secret}'}}\n")
    environ = {"APIKEYROUTER_CONFIG": str(main), "HOME": "/"}
    told = []
    for settings in (
        ProxySettings.from_environ(environ),
        ProxySettings.from_environ(frozen_environ(environ, None)),
    ):
        assert settings.config is not None
        assert settings.config.configuration is not None
        told.append(settings.config.configuration.stamps)
    assert told[0] == told[1]
    assert set(told[0].files) == {str(main), str(tmp_path / "secret"), str(tmp_path / "teams" / "a.yaml")}
    assert list(told[0].patterns) == [str(tmp_path / "teams" / "*.yaml")]
    assert told[0].now() == told[0]


def test_a_saved_file_holds_a_broken_one_is_told_once_and_an_unwatched_one_waits(sim: Sim, tmp_path: Path) -> None:
    with configured(sim, tmp_path, TEXT, WATCHING) as running:
        assert running.chat(key=CLIENT)[0] == 401
        running.write(WIDER)
        until(lambda: running.chat(key=CLIENT)[0] == 200, "the file was read again")
        assert "virtual_keys.c: added" in running.proxy.log
        running.write("keys: [")
        until(lambda: "nothing was changed" in running.proxy.log, "the fault was logged")
        running.write(WIDER + "objective: cost\n")
        until(lambda: "objective: added (cost)" in running.proxy.log, "the repaired file was read")
        assert running.proxy.log.count("nothing was changed") == 1
        assert running.chat(key=CLIENT)[0] == 200


def test_a_new_secret_in_its_file_and_a_new_included_file_count(sim: Sim, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(sim.keys[0])
    text = TEXT.replace("${SIM_KEY_1}", "${file:secret}") + "include: more/*.yaml\n"
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "b.yaml").write_text("objective: cost\n")
    with configured(sim, tmp_path, text, WATCHING) as running:
        before = running.rows("keys")["a"]
        (tmp_path / "secret").write_text(sim.keys[1])
        until(lambda: running.rows("keys")["a"]["version"] == before["version"] + 1, "the secret was rotated")
        (tmp_path / "more" / "c.yaml").write_text("budgets: {daily: {limit: 5}}\n")
        until(lambda: "daily" in running.rows("budgets"), "the new file was read")


def test_of_two_workers_one_looks_both_follow_and_so_does_one_that_takes_anothers_place(
    sim: Sim, tmp_path: Path
) -> None:
    text = TEXT.replace("require_auth: true", "require_auth: true, workers: 2, config_watch: 0.25")

    def admitted() -> bool:
        return all(running.chat(key=CLIENT)[0] == 200 for _ in range(20))

    with configured(sim, tmp_path, text) as running:
        assert running.chat(key=CLIENT)[0] == 401
        running.write(text + WIDER.removeprefix(TEXT))
        until(admitted, "both workers took the key in")
        assert running.proxy.log.count("apikeyrouter.yaml changed; it is read again") == 1
        before = running.workers()
        for victim in before:
            os.kill(victim, signal.SIGKILL)
        until(lambda: len(set(running.workers()) - set(before)) == 2, "two others came")
        until(lambda: running.proxy.get("/healthz")[0] == 200, "they serve")
        assert admitted()
